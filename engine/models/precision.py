"""Which precision a device computes fast in, and what is written down of the device and the versions."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import torch

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


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` or `float32`."""
    return str(dtype).removeprefix("torch.")


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Python and the libraries that decide the numbers of a run."""
    return {"python": platform.python_version()} | {v: importlib.metadata.version(v) for v in VERSIONS}
