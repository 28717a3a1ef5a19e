"""Properties of a device: its fast precision, its memory, and the best rates measured on it."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F

from engine.models.memory_advice import advise_change
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.training.train_config import TrainConfig

VERSIONS = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")


@cache
def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU has bf16 matrix products (AVX-512 BF16 or AMX).

    They are 2 to 4 times as fast as in fp32.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype for a config's `dtype`; auto is bf16 where the device is fast at it."""
    if name != "auto":
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bf16()
    return torch.bfloat16 if fast else torch.float32


def get_dtype_name(dtype: torch.dtype) -> str:
    """Return `bfloat16` or `float32`."""
    return str(dtype).removeprefix("torch.")


def get_device_name(device: torch.device) -> str:
    """Return the GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def read_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect a run's numbers."""
    return {"python": platform.python_version()} | {v: importlib.metadata.version(v) for v in VERSIONS}


# Memory in use, and a clear error before the system kills the process.
#
# On the CPU nothing raises when memory runs out: the kernel kills the process. So the loop checks, between
# micro-batches, how much memory is left to this process, taking a container's limit into account.

RESERVE = 0.025  # share of the memory below which the loop stops
CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30
CONTEXT_GIB = 0.6  # GPU context and kernels, which torch doesn't count


class OutOfMemory(TunebenchError):
    """Raised when the device has no room for the next batch."""


def measure_peak_gib(device: torch.device) -> float:
    """Return the peak memory so far: this process's resident memory, or its memory on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB + CONTEXT_GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def measure_available_gib(device: torch.device) -> tuple[float, float]:
    """Return the device's (free, total) memory for this process."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free / GIB, total / GIB
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    limit = _read_cgroup_number("memory.max")
    used = _read_cgroup_number("memory.current")
    if limit and used is not None and limit < total:
        reclaimable = _read_inactive_file()
        free, total = min(free, limit - used + reclaimable), limit
    return free / GIB, total / GIB


def _read_cgroup_number(name: str) -> int | None:
    try:
        text = (CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _read_inactive_file() -> int:
    try:
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def guard_memory(config: TrainConfig, device: torch.device, *, dealt: bool = False) -> None:
    """Raise OutOfMemory if the machine is about to run out of memory; a GPU raises by itself.

    `dealt`: micro-batches are built by tokens, whatever their configured size.
    """
    if device.type != "cpu":
        return
    free, total = measure_available_gib(device)
    if free < RESERVE * total:
        raise make_out_of_memory_error(config, device, dealt=dealt)


def make_out_of_memory_error(
    config: TrainConfig, device: torch.device, *, dealt: bool = False
) -> OutOfMemory:
    """Build the error, with the peak so far and the changes that would help this config most."""
    free, total = measure_available_gib(device)
    fix, field, change = advise_change(config, device.type, dealt=dealt)
    return OutOfMemory(
        f"The {'GPU' if device.type == 'cuda' else 'machine'} ran out of memory: this run took"
        f" {measure_peak_gib(device):.1f} GiB, and {max(free, 0):.1f} of {total:.1f} GiB are left.",
        fix=fix,
        field=field,
        change=change,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch or Python failed to allocate memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )


# Rates of a device: the best ever measured on it, kept in the cache.
#
# Each call measures for a few hundredths of a second and keeps the better values, so that a measurement on a
# busy machine doesn't persist. Matrix products are measured at the sizes of the model in question, since
# small matrices reach a fraction of the rate of large ones.

SHAPE = (512, 1024, 2048)  # rows, inner and columns of products that are large for a CPU
MAX_MEASURED_SIZE = 2048  # maximum rows or columns measured; larger ones are no faster
HEAD, HEADS = 64, 3  # width of an attention head, and number of heads that share keys
ROWS, LONGEST = 16, 512  # number and maximum length of the rows for attention
COLD = 24 * 2**20  # bytes written before any is reused: more than a core's cache holds
BLOCK = 2**17  # values that packed layers process at a time
SECONDS, RUNS = 0.02, 12  # limits of a measurement: time or runs
# Share of a GPU's matrix product rate that training reaches overall, by published figures of model FLOPs
# utilisation. Nothing else is measured on GPUs.
UTILISATION = 0.35


@dataclass(frozen=True)
class DeviceRates:
    """Rates of a device.

    - products, attention: operations per second in matrix products, and in those of attention
    - moved: bytes per second of all other operations
    - call: seconds per operation call
    """

    products: float
    attention: float
    moved: float
    call: float

    def seconds(self, done: np.ndarray) -> float:
        """Return how long this work (by operations.KINDS) takes."""
        return float(done @ self.each)

    @property
    def each(self) -> np.ndarray:
        """Seconds per unit of each kind."""
        return np.array([1 / self.products, 1 / self.attention, 1 / self.moved, self.call])


def measure_device_rates(
    home: Home, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], length: int
) -> DeviceRates:
    """Measure the device's rates.

    Products are measured at about `shape` (rows, inner, columns), attention on rows of about `length`.
    """
    kept = _BestRates(home, device, dtype)
    shape = (round_to_power(shape[0]), min(shape[1], MAX_MEASURED_SIZE), min(shape[2], MAX_MEASURED_SIZE))
    if device.type == "cuda":
        reached = UTILISATION * 1e9 * measure_gflops(home, device, dtype)
        return DeviceRates(reached, reached, float("inf"), 0.0)
    length = min(round_to_power(length), LONGEST)
    return DeviceRates(
        kept.best(f"products {shape}", lambda: _measure_products(device, dtype, shape)),
        kept.best(f"attention {length}", lambda: _measure_attention(device, dtype, length)),
        kept.best(f"moved {shape}", lambda: _measure_memory_traffic(device, dtype, shape)),
        1 / kept.best("calls", lambda: _measure_calls(device, dtype)),
    )


def measure_gflops(home: Home, device: torch.device, dtype: torch.dtype) -> float:
    """Measure the GFLOP/s of large matrix products in `dtype` on `device`."""
    scale = 8 if device.type == "cuda" else 1
    shape = (SHAPE[0] * scale, SHAPE[1] * scale, SHAPE[2] * scale)
    return (
        _BestRates(home, device, dtype).best(
            "large products", lambda: _measure_products(device, dtype, shape)
        )
        / 1e9
    )


def round_to_power(size: float) -> int:
    """Round to the nearest power of two within the measured range."""
    return int(min(MAX_MEASURED_SIZE, 2 ** max(5, round(np.log2(max(1.0, size))))))


class _BestRates:
    """Cache of the best rates so far for a device and precision."""

    def __init__(self, home: Home, device: torch.device, dtype: torch.dtype) -> None:
        self.path = home.cache / "rates.json"
        self.name = f"{get_device_name(device)}, {get_dtype_name(dtype)}, torch {torch.__version__}"

    def best(self, what: str, measure: Callable[[], float]) -> float:
        key = f"{self.name}, {what}"
        measured = measure()
        kept_rates = read_json(self.path) or {}
        if measured > kept_rates.get(key, 0.0):
            write_json(self.path, kept_rates | {key: measured})
        return float(max(measured, kept_rates.get(key, 0.0)))


def _measure_products(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Measure the FLOP/s of products through a series of matrix pairs.

    The results are kept, as layers keep them for backward: products into reused memory are about a third
    faster.
    """
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

    return 4.0 * rows * inner * columns / _time_fastest(device, run)


def _measure_attention(device: torch.device, dtype: torch.dtype, length: int) -> float:
    """Measure the FLOP/s of attention scores and outputs of a few heads that share their keys."""
    query = torch.ones(ROWS, HEADS * length, HEAD, device=device, dtype=dtype)
    key = torch.ones(ROWS, length, HEAD, device=device, dtype=dtype)

    def run() -> Iterator[None]:
        torch.bmm(torch.bmm(query, key.transpose(1, 2)), key)
        yield

    return 4.0 * ROWS * HEADS * length * length * HEAD / _time_fastest(device, run)


def _measure_memory_traffic(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Measure the bytes per second of elementwise work as in layers, block by block, in two precisions."""
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

    # silu, mul, upcast, square, downcast, add: as operations.py counts them
    each = 2 * size + 3 * size + (size + 4) + 12 + (4 + size) + 3 * size
    return float(rows * columns * each) / _time_fastest(device, run)


def _measure_calls(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the calls per second of tiny operations that record gradients."""
    few = torch.ones(8, device=device, dtype=dtype, requires_grad=True)
    count = 100

    def work() -> Iterator[None]:
        for _ in range(count):
            few.view(2, 4).mul(2.0)
        yield

    return count / _time_fastest(device, work)


def _time_fastest(device: torch.device, run: Callable[[], Iterator[None]]) -> float:
    """Return the seconds of the fastest part, between two yields, of a few runs.

    Short parts have a good chance to run undisturbed even on a busy machine.
    """
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
