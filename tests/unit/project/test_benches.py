"""Benches whose parts are the files of a folder find a part in every file of it."""

from __future__ import annotations

import importlib

import pytest

from bench import hostile, truth


@pytest.mark.parametrize("door", hostile.doors())
def test_every_door_has_its_attempts(door: str) -> None:
    assert callable(importlib.import_module(f"bench.hostility.{door}").attempts)


@pytest.mark.parametrize("folder", truth.FOLDERS)
def test_every_topic_has_its_rates(folder: str) -> None:
    assert truth.modules(folder)
    assert [topic for topic in truth.modules(folder) if not truth.rates(topic)] == []
