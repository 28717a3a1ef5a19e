"""Resources of this machine and their usage, from the system and, if present, NVIDIA's driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pynvml

from store.core.schemas import Gpu, MachineReading

GIB = 2**30
FRESH_SECONDS = 0.5  # concurrent clients share a reading, because CPU usage is measured between two readings
BF16_CAPABILITY = 8  # first CUDA compute capability (Ampere) with bfloat16 units
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class Machine:
    """Readings of this machine. disk: a path on the disk whose free space is reported; devices: those for
    runs.
    """

    def __init__(self, disk: Path, devices: Sequence[str]) -> None:
        self._disk = disk
        self._devices = list(devices)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._reading: MachineReading | None = None
        self._bf16 = has_bf16()
        psutil.cpu_percent()  # the first call only sets the start of the next measurement

    def read(self) -> MachineReading:
        """Return the document of `GET /machine`; sizes in GiB, usage in percent."""
        with self._lock:
            if self._reading is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._reading = self._measure()
                self._read_at = time.monotonic()
            return self._reading

    def _measure(self) -> MachineReading:
        memory = psutil.virtual_memory()
        return MachineReading(
            cpu_percent=psutil.cpu_percent(),
            cores=psutil.cpu_count() or 1,
            memory_used_gib=(memory.total - memory.available) / GIB,
            memory_total_gib=memory.total / GIB,
            disk_free_gib=psutil.disk_usage(str(self._disk)).free / GIB,
            gpus=read_gpus(),
            devices=self._devices,
            bf16=self._bf16,
        )


def list_devices() -> list[str]:
    """Return the devices available to runs: `cuda:N` for each GPU, or `cpu` if there is none."""
    return [f"cuda:{index}" for index in range(len(_list_gpu_handles()))] or ["cpu"]


def has_bf16() -> bool:
    """Return whether bfloat16 is fast: supported in hardware by all GPUs, or by the CPU if there is
    no GPU.
    """
    handles = _list_gpu_handles()
    if handles:
        return all(
            pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0] >= BF16_CAPABILITY for handle in handles
        )
    return bool(BF16_FLAGS & _read_cpu_flags())


def read_gpus() -> list[Gpu]:
    """Return utilization, memory and temperature of each GPU; null for values that the driver does not
    report.
    """
    return [_read_gpu(index, handle) for index, handle in enumerate(_list_gpu_handles())]


def _read_gpu(index: int, handle: Any) -> Gpu:
    memory = _query_driver(pynvml.nvmlDeviceGetMemoryInfo, handle)
    use = _query_driver(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        index=index,
        name=_query_driver(pynvml.nvmlDeviceGetName, handle),
        utilization_percent=use.gpu if use else None,
        memory_used_gib=memory.used / GIB if memory else None,
        memory_total_gib=memory.total / GIB if memory else None,
        temperature_c=_query_driver(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
    )


def _query_driver(question: Callable[..., Any], *args: Any) -> Any:
    try:
        return question(*args)
    except pynvml.NVMLError:  # some cards, such as virtual ones, don't report everything
        return None


def _list_gpu_handles() -> list[Any]:
    try:
        pynvml.nvmlInit()  # reference-counted by the driver's library; cheap after the first call
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver, no GPU
        return []


def _read_cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return frozenset()
    for line in text.splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()
