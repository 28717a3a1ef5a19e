"""How fast a device multiplies matrices: the best rate ever measured on it, kept in the cache.

Each call measures for a few hundredths of a second and keeps the better value, so that a measurement
made while the machine was busy does not last. What a step reaches of the rate is `estimate.SHARE`.
"""

from __future__ import annotations

import time

import torch

from engine.tuning.precision import device_name, dtype_name
from store.home import Home
from store.jobdir import read_json, write_json

SHAPE = (512, 1024, 2048)  # rows, inner, columns: near those of a small model's step
RUNS = 12


def gflops(home: Home, device: torch.device, dtype: torch.dtype) -> float:
    """Billions of floating-point operations a second in `dtype` on `device`."""
    path = home.cache / "matmul.json"
    known = read_json(path) or {}
    key = f"{device_name(device)}, {dtype_name(dtype)}, torch {torch.__version__}"
    measured = _measure(device, dtype)
    if measured > known.get(key, 0.0):
        write_json(path, known | {key: measured})
    return float(max(measured, known.get(key, 0.0)))


def _measure(device: torch.device, dtype: torch.dtype) -> float:
    scale = 8 if device.type == "cuda" else 1
    rows, inner, columns = (size * scale for size in SHAPE)
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best / 1e9
