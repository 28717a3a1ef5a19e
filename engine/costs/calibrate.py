"""How fast a device works: the best rates ever measured on it, kept in the cache.

Each call measures for a few hundredths of a second and keeps the better values, so that a measurement made
while the machine was busy does not last. Matrix products are measured at sizes of the model that is asked
about, since small matrices reach a fraction of what large ones do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from engine.models.precision import device_name, dtype_name
from store.contract.home import Home
from store.contract.jobdir import read_json, write_json

SHAPE = (512, 1024, 2048)  # rows, inner, columns of products that are large for a CPU
LARGEST = 2048  # rows or columns that are measured; larger ones are no faster
HEAD, HEADS = 64, 3  # width of an attention head, and how many share their keys
ROWS, LONGEST = 16, 512  # of the rows that attention is measured on
COLD = 24 * 2**20  # bytes that a measurement makes before any is met again: more than a core's cache holds
BLOCK = 2**17  # numbers that packed layers work on at a time
SECONDS, RUNS = 0.02, 12  # the most that a measurement takes: time, or runs
# Of a GPU's products: what training reaches of them with all else, by published figures of model FLOPs
# utilisation. Nothing else is measured there.
UTILISATION = 0.35


@dataclass(frozen=True)
class DeviceRates:
    """Operations a second in matrix products and in those of attention, bytes a second of all else, and
    seconds for every call of an operation."""

    products: float
    attention: float
    moved: float
    call: float

    def seconds(self, done: np.ndarray) -> float:
        """How long work (by operations.KINDS) takes."""
        return float(done @ self.each)

    @property
    def each(self) -> np.ndarray:
        """Seconds of one unit of every kind."""
        return np.array([1 / self.products, 1 / self.attention, 1 / self.moved, self.call])


def rates(
    home: Home, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], length: int
) -> DeviceRates:
    """Of products of about `shape` (rows, inner, columns) and of attention over rows of about `length`."""
    kept = _Kept(home, device, dtype)
    shape = (rounded(shape[0]), min(shape[1], LARGEST), min(shape[2], LARGEST))
    if device.type == "cuda":
        reached = UTILISATION * 1e9 * gflops(home, device, dtype)
        return DeviceRates(reached, reached, float("inf"), 0.0)
    length = min(rounded(length), LONGEST)
    return DeviceRates(
        kept.best(f"products {shape}", lambda: _products(device, dtype, shape)),
        kept.best(f"attention {length}", lambda: _attention(device, dtype, length)),
        kept.best(f"moved {shape}", lambda: _moved(device, dtype, shape)),
        1 / kept.best("calls", lambda: _calls(device, dtype)),
    )


def gflops(home: Home, device: torch.device, dtype: torch.dtype) -> float:
    """Billions of floating-point operations a second of large matrix products in `dtype` on `device`."""
    scale = 8 if device.type == "cuda" else 1
    shape = (SHAPE[0] * scale, SHAPE[1] * scale, SHAPE[2] * scale)
    return _Kept(home, device, dtype).best("large products", lambda: _products(device, dtype, shape)) / 1e9


def rounded(size: float) -> int:
    """The power of two that is nearest, of those that are measured."""
    return int(min(LARGEST, 2 ** max(5, round(np.log2(max(1.0, size))))))


class _Kept:
    """The best values so far of a device and precision."""

    def __init__(self, home: Home, device: torch.device, dtype: torch.dtype) -> None:
        self.path = home.cache / "rates.json"
        self.name = f"{device_name(device)}, {dtype_name(dtype)}, torch {torch.__version__}"

    def best(self, what: str, measure: Callable[[], float]) -> float:
        key = f"{self.name}, {what}"
        measured = measure()
        kept_rates = read_json(self.path) or {}
        if measured > kept_rates.get(key, 0.0):
            write_json(self.path, kept_rates | {key: measured})
        return float(max(measured, kept_rates.get(key, 0.0)))


def _products(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Through one matrix after the other and back. What they give is kept, as layers keep it for backward:
    products into memory that is used again are about a third faster."""
    rows, inner, columns = shape
    count = 1 if device.type == "cuda" else max(2, COLD // (rows * (inner + columns) * dtype.itemsize))
    given = torch.ones(rows, inner, device=device, dtype=dtype)
    pairs = [
        [torch.ones(size, device=device, dtype=dtype) for size in ((columns, inner), (inner, columns))]
        for _ in range(count)
    ]

    def run() -> Iterator[None]:
        kept = []
        for there, back in pairs:
            wide = F.linear(given, there)
            kept += [wide, F.linear(wide, back)]
            yield

    return 4.0 * rows * inner * columns / _best(device, run)


def _attention(device: torch.device, dtype: torch.dtype, length: int) -> float:
    """Scores of a few heads that share their keys, and mixing."""
    query = torch.ones(ROWS, HEADS * length, HEAD, device=device, dtype=dtype)
    key = torch.ones(ROWS, length, HEAD, device=device, dtype=dtype)

    def run() -> Iterator[None]:
        torch.bmm(torch.bmm(query, key.transpose(1, 2)), key)
        yield

    return 4.0 * ROWS * HEADS * length * length * HEAD / _best(device, run)


def _moved(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """What layers do beside products: tensors of all tokens, block by block, in two precisions."""
    rows, _, columns = shape
    size, block = dtype.itemsize, max(1, BLOCK // columns)
    count = max(2, COLD // (rows * columns * size))
    pairs = [[torch.ones(rows, columns, device=device, dtype=dtype) for _ in range(2)] for _ in range(count)]

    def run() -> Iterator[None]:
        kept = []
        for gate, up in pairs:
            out = torch.empty_like(gate)
            kept.append(out)
            for first in range(0, rows, block):
                part = slice(first, first + block)
                torch.mul(F.silu(gate[part]), up[part], out=out[part])
                wide = gate[part].to(torch.float32, copy=True)
                out[part] = wide.mul_(wide)
            up.add_(out)
            yield

    # silu, mul, widened, squared, narrowed, added: as operations.py counts them
    each = 2 * size + 3 * size + (size + 4) + 12 + (4 + size) + 3 * size
    return float(rows * columns * each) / _best(device, run)


def _calls(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second on next to nothing, with gradients to be kept in mind."""
    few = torch.ones(8, device=device, dtype=dtype, requires_grad=True)
    count = 100

    def work() -> Iterator[None]:
        for _ in range(count):
            few.view(2, 4).mul(2.0)
        yield

    return count / _best(device, work)


def _best(device: torch.device, run: Callable[[], Iterator[None]]) -> float:
    """Seconds of the fastest part of a few runs, between two places where it yields: short parts are met
    undisturbed on a busy machine too."""
    best, begun = float("inf"), time.perf_counter()
    for i in range(RUNS):
        started = time.perf_counter()
        for _ in run():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ended = time.perf_counter()
            best, started = min(best, ended - started), ended
        if i and started - begun > SECONDS:
            break
    return best
