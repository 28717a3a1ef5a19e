"""What a device has: the precision it is fast in, its memory, and the best rates ever measured on it.

A run stops with a clear error before the machine kills its process for memory. Rates are kept in the cache.
"""

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
    """Whether this processor has bf16 matrix products (AVX-512 BF16 or AMX), 2 to 4 times as fast as fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision that `dtype` of a config stands for; auto is bf16 where the device is fast at it."""
    if name != "auto":
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bf16()
    return torch.bfloat16 if fast else torch.float32


def get_dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` or `float32`."""
    return str(dtype).removeprefix("torch.")


def get_device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def read_versions() -> dict[str, str]:
    """Python and the libraries that decide the numbers of a run."""
    return {"python": platform.python_version()} | {v: importlib.metadata.version(v) for v in VERSIONS}


# Memory in use, and stopping with a clear error before the machine kills the process.
#
# On the CPU nothing raises when memory runs out: the kernel ends the process. So the loop asks, between
# micro-batches, how much is left to this process, counting the limit of a container.

RESERVE = 0.025  # share of the memory below which the loop stops
CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30
CONTEXT_GIB = 0.6  # of a GPU: context and kernels, which torch does not count


class OutOfMemory(TunebenchError):
    """The device has no room for the next batch."""


def measure_peak_gib(device: torch.device) -> float:
    """Peak so far: resident memory of this process, or what it holds of its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB + CONTEXT_GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def measure_available_gib(device: torch.device) -> tuple[float, float]:
    """(free, total) of the device, for this process."""
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
    """Raise OutOfMemory when the machine is about to run out; a GPU raises by itself. dealt: micro-batches
    are dealt by tokens, whatever their configured size."""
    if device.type != "cpu":
        return
    free, total = measure_available_gib(device)
    if free < RESERVE * total:
        raise make_out_of_memory_error(config, device, dealt=dealt)


def make_out_of_memory_error(
    config: TrainConfig, device: torch.device, *, dealt: bool = False
) -> OutOfMemory:
    """The error, with the peak so far and the changes that would help this config most."""
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
    """Whether torch or Python failed to allocate."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )


# How fast a device works: the best rates ever measured on it, kept in the cache.
#
# Each call measures for a few hundredths of a second and keeps the better values, so that a measurement made
# while the machine was busy does not last. Matrix products are measured at sizes of the model that is asked
# about, since small matrices reach a fraction of what large ones do.

SHAPE = (512, 1024, 2048)  # rows, inner, columns of products that are large for a CPU
MAX_MEASURED_SIZE = 2048  # rows or columns that are measured; larger ones are no faster
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


def measure_device_rates(
    home: Home, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], length: int
) -> DeviceRates:
    """Of products of about `shape` (rows, inner, columns) and of attention over rows of about `length`."""
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
    """Billions of floating-point operations a second of large matrix products in `dtype` on `device`."""
    scale = 8 if device.type == "cuda" else 1
    shape = (SHAPE[0] * scale, SHAPE[1] * scale, SHAPE[2] * scale)
    return (
        _BestRates(home, device, dtype).best(
            "large products", lambda: _measure_products(device, dtype, shape)
        )
        / 1e9
    )


def round_to_power(size: float) -> int:
    """The power of two that is nearest, of those that are measured."""
    return int(min(MAX_MEASURED_SIZE, 2 ** max(5, round(np.log2(max(1.0, size))))))


class _BestRates:
    """The best values so far of a device and precision."""

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

    return 4.0 * rows * inner * columns / _time_fastest(device, run)


def _measure_attention(device: torch.device, dtype: torch.dtype, length: int) -> float:
    """Scores of a few heads that share their keys, and mixing."""
    query = torch.ones(ROWS, HEADS * length, HEAD, device=device, dtype=dtype)
    key = torch.ones(ROWS, length, HEAD, device=device, dtype=dtype)

    def run() -> Iterator[None]:
        torch.bmm(torch.bmm(query, key.transpose(1, 2)), key)
        yield

    return 4.0 * ROWS * HEADS * length * length * HEAD / _time_fastest(device, run)


def _measure_memory_traffic(device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
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
    return float(rows * columns * each) / _time_fastest(device, run)


def _measure_calls(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second on next to nothing, with gradients to be kept in mind."""
    few = torch.ones(8, device=device, dtype=dtype, requires_grad=True)
    count = 100

    def work() -> Iterator[None]:
        for _ in range(count):
            few.view(2, 4).mul(2.0)
        yield

    return count / _time_fastest(device, work)


def _time_fastest(device: torch.device, run: Callable[[], Iterator[None]]) -> float:
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
