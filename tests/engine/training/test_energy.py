"""Energy counters of a processor, as files that a test writes: none, one or several, starting over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.training.training_run import EnergyMeter

CPU = torch.device("cpu")
HOUR = 3_600_000_000  # microjoules in a watt-hour


def write(folder: Path, zone: str, used: float, most: float = 100.0) -> None:
    (folder / zone).mkdir(parents=True, exist_ok=True)
    (folder / zone / "energy_uj").write_text(f"{int(used * HOUR)}\n")
    (folder / zone / "max_energy_range_uj").write_text(f"{int(most * HOUR)}\n")


def test_packages_add_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    for zone, used in (("intel-rapl:0", 1.0), ("intel-rapl:1", 2.0), ("intel-rapl:0:0", 0.5)):
        write(tmp_path, zone, used)
    meter = EnergyMeter(CPU, tmp_path)
    for zone, used in (("intel-rapl:0", 1.5), ("intel-rapl:1", 2.25), ("intel-rapl:0:0", 0.9)):
        write(tmp_path, zone, used)
    assert meter.watt_hours() == pytest.approx(0.75)


def test_a_counter_that_starts_over_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", 99.5)
    meter = EnergyMeter(CPU, tmp_path)
    write(tmp_path, "intel-rapl:0", 0.25)
    assert meter.watt_hours() == pytest.approx(0.75)


def test_what_is_not_counted_is_unknown(tmp_path: Path) -> None:
    assert EnergyMeter(CPU, tmp_path).watt_hours() is None
    write(tmp_path, "intel-rapl:0", 1.0)
    meter = EnergyMeter(CPU, tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.watt_hours() is None
