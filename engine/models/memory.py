"""Memory in use, and stopping with a clear error before the machine kills the process.

On the CPU nothing raises when memory runs out: the kernel ends the process. So the loop asks, between
micro-batches, how much is left to this process, counting the limit of a container.
"""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import torch

from engine.models.smaller import advised
from store.config.training.train_config import TrainConfig
from store.contract.errors import TunebenchError

RESERVE = 0.025  # share of the memory below which the loop stops
CGROUP = Path("/sys/fs/cgroup")
GIB = 2**30
CONTEXT_GIB = 0.6  # of a GPU: context and kernels, which torch does not count


class OutOfMemory(TunebenchError):
    """The device has no room for the next batch."""


def peak_gib(device: torch.device) -> float:
    """Peak so far: resident memory of this process, or what it holds of its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / GIB + CONTEXT_GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def available_gib(device: torch.device) -> tuple[float, float]:
    """(free, total) of the device, for this process."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free / GIB, total / GIB
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    limit = _cgroup_number("memory.max")
    used = _cgroup_number("memory.current")
    if limit and used is not None and limit < total:
        reclaimable = _inactive_file()
        free, total = min(free, limit - used + reclaimable), limit
    return free / GIB, total / GIB


def _cgroup_number(name: str) -> int | None:
    try:
        text = (CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _inactive_file() -> int:
    try:
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def guard(config: TrainConfig, device: torch.device, *, dealt: bool = False) -> None:
    """Raise OutOfMemory when the machine is about to run out; a GPU raises by itself. dealt: micro-batches
    are dealt by tokens, whatever their configured size."""
    if device.type != "cpu":
        return
    free, total = available_gib(device)
    if free < RESERVE * total:
        raise out_of_memory(config, device, dealt=dealt)


def out_of_memory(config: TrainConfig, device: torch.device, *, dealt: bool = False) -> OutOfMemory:
    """The error, with the peak so far and the changes that would help this config most."""
    free, total = available_gib(device)
    fix, field, change = advised(config, device.type, dealt=dealt)
    return OutOfMemory(
        f"The {'GPU' if device.type == 'cuda' else 'machine'} ran out of memory: this run took"
        f" {peak_gib(device):.1f} GiB, and {max(free, 0):.1f} of {total:.1f} GiB are left.",
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
