"""Memory in use, and stopping with a clear error before the machine kills the process.

On the CPU nothing raises when memory runs out: the kernel ends the process. So the loop asks, between
micro-batches, how much is left to this process, counting the limit of a container.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import psutil
import torch

from store.config import TrainConfig
from store.errors import TunebenchError
from store.methods import METHODS

SHORTEST = 32  # tokens; a row is not cut to fewer
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
    fix, field, change = advised(config, device, dealt=dealt)
    return OutOfMemory(
        f"The {'GPU' if device.type == 'cuda' else 'machine'} ran out of memory: this run took"
        f" {peak_gib(device):.1f} GiB, and {max(free, 0):.1f} of {total:.1f} GiB are left.",
        fix=fix,
        field=field,
        change=change,
    )


def advised(
    config: TrainConfig, device: torch.device, *, dealt: bool
) -> tuple[str, str, dict[str, Any] | None]:
    """What `smaller` knows as a sentence, the field to begin with, and the nearest change, if any."""
    changes = smaller(config, device, dealt=dealt)
    change = next((change for _, change in changes if change), None)
    return _sentence(", or ".join(text for text, _ in changes)), next(iter(change or ["max_length"])), change


def smaller(
    config: TrainConfig, device: torch.device, *, dealt: bool = False
) -> list[tuple[str, dict[str, Any]]]:
    """What to change so that a run takes less, nearest first: in words and as fields of the config. dealt:
    micro-batches are dealt by tokens, so that a smaller size of theirs changes nothing."""
    changes: list[tuple[str, dict[str, Any]]] = []
    if config.per_device_train_batch_size > 1 and not dealt:
        half = config.per_device_train_batch_size // 2
        twice = config.gradient_accumulation_steps * 2
        changes.append((
            f"set per_device_train_batch_size to {half} and gradient_accumulation_steps to {twice}",
            {"per_device_train_batch_size": half, "gradient_accumulation_steps": twice},
        ))  # fmt: skip
    if not config.gradient_checkpointing:
        changes.append(("switch gradient_checkpointing on", {"gradient_checkpointing": True}))
    half = (config.max_length or 0) // 2
    shorter = {"max_length": half} if half >= SHORTEST else {}
    changes.append(("lower max_length", shorter))
    method = METHODS[config.method]
    if not method.adapter:
        lora = {"method": "lora", "learning_rate": None}  # each method has its own
        changes.append(("train a LoRA adapter in place of the model's weights", lora))
    elif not config.held and device.type == "cuda" and "nf4" in method.held:
        in_4_bits = {"load_in_4bit": True} if "load_in_4bit" in method.fields else {"method": "qlora"}
        changes.append(("load the base model in 4 bits", in_4_bits))
    return changes


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."  # capitalize() would lower the rest


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python failed to allocate."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "not enough memory" in text or "out of memory" in text
    )
