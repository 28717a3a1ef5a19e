"""The energy that a run took, where the machine counts it: a GPU by NVML, a processor by RAPL.

Both count for the whole device, so the figure is the run's where nothing else works on it. Where neither can
be read (virtual machines, no right to read it) the energy is unknown, never guessed."""

from __future__ import annotations

from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
MICROJOULES = 3_600_000_000  # in a watt-hour
MILLIJOULES = 3_600_000


class Meter:
    """Counts from its making on."""

    def __init__(self, device: torch.device, powercap: Path = POWERCAP) -> None:
        self.device, self.powercap = device, powercap
        self.began = self._read()

    def watt_hours(self) -> float | None:
        """Since the beginning; None where the machine does not tell."""
        now = self._read()
        if not self.began or now.keys() != self.began.keys():
            return None
        return sum(_difference(self.began[name], now[name]) for name in now)

    def _read(self) -> dict[str, tuple[float, float]]:
        """counter -> (watt-hours, where it starts over; 0 for never)."""
        if self.device.type == "cuda":
            return _gpu(self.device.index or 0)
        readings = {}
        for zone in sorted(self.powercap.glob("intel-rapl:*")):
            if zone.name.count(":") > 1:  # a part of a package that is counted already
                continue
            try:
                used, most = (int((zone / n).read_text()) for n in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                return {}
            readings[zone.name] = used / MICROJOULES, most / MICROJOULES
        return readings


def _difference(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Of two readings of a counter that may have started over once."""
    return after[0] - before[0] + (after[1] if after[0] < before[0] else 0.0)


def _gpu(index: int) -> dict[str, tuple[float, float]]:
    import pynvml

    try:
        pynvml.nvmlInit()
        used = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        return {}
    return {"gpu": (used / MILLIJOULES, 0.0)}
