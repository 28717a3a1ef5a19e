"""Benches find all their parts: a module in every file of a folder, code and tests for planted faults."""

from __future__ import annotations

import importlib

import pytest

from bench import hostile, mutants, truth


@pytest.mark.parametrize("door", hostile.doors())
def test_every_door_has_its_attempts(door: str) -> None:
    assert callable(importlib.import_module(f"bench.hostility.{door}").attempts)


@pytest.mark.parametrize("folder", truth.FOLDERS)
def test_every_topic_has_its_rates(folder: str) -> None:
    assert truth.modules(folder)
    assert [topic for topic in truth.modules(folder) if not truth.rates(topic)] == []


@pytest.mark.parametrize("fault", mutants.read_faults(), ids=lambda fault: f"{fault.feature}: {fault.says}")
def test_every_planted_fault_fits_the_code_and_its_tests_are_there(fault: mutants.PlantedFault) -> None:
    text = (mutants.ROOT / fault.file).read_text("utf-8")
    assert fault.plant(text) != text
    assert [name for name in fault.tests if not (mutants.ROOT / name.partition("::")[0]).exists()] == []
