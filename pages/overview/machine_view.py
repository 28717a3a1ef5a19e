"""What the machine is doing: processor, memory, GPUs and disk as compact meters."""

from __future__ import annotations

from pages.shared import figures, quantities
from store.documents.tables.machine import Gpu, MachineReading

LOW_DISK_GIB = 5.0  # below this a checkpoint may not fit any more


def machine_meters(machine: MachineReading) -> str:
    """HTML of the meters for the engine's `GET /machine`."""
    used, total = machine["memory_used_gib"], machine["memory_total_gib"]
    parts = [
        figures.meter(
            "Processor",
            f"{machine['cpu_percent']:.0f}%",
            machine["cpu_percent"] / 100,
            f"of {machine['cores']} cores" + (", fast bfloat16" if machine.get("bf16") else ""),
            warn=False,
        ),
        figures.meter(
            "Memory", quantities.gib(used), used / total if total else 1.0, f"of {quantities.gib(total)}"
        ),
    ]
    parts += [_gpu(gpu) for gpu in machine["gpus"]]
    if not machine["gpus"]:
        parts.append(figures.fact("GPU", "none", "runs use the processor"))
    free = machine["disk_free_gib"]
    note = "a checkpoint may not fit" if free < LOW_DISK_GIB else "on the disk of the home folder"
    parts.append(figures.fact("Free disk", quantities.gib(free), note))
    return figures.grid(parts)


def _gpu(gpu: Gpu) -> str:
    """One GPU; what its driver does not report is said to be so, never shown as 0."""
    used, total, busy = gpu["memory_used_gib"], gpu["memory_total_gib"], gpu["utilization_percent"]
    label = f"GPU {gpu['index']}: {gpu['name']}"
    use = "use not reported" if busy is None else f"{busy:.0f}% busy"
    heat = f", {gpu['temperature_c']:.0f} °C" if gpu.get("temperature_c") is not None else ""
    if used is None or not total:
        size = f" (of {quantities.gib(total)})" if total else ""
        return figures.fact(label, use, f"memory not reported{size}{heat}")
    return figures.meter(label, use, used / total, f"{quantities.gib(used)} of {quantities.gib(total)}{heat}")
