"""What the screens' server leaves out when garbage is collected after a run of a page."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterator

import pytest
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner

from pages.__main__ import freeze_modules_on_collect


@pytest.fixture(autouse=True)
def nothing_left_out() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_modules_are_passed_over_from_the_run_that_imported_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[RerunData] = []

    def draw(_: ScriptRunner, asked: RerunData) -> None:
        runs.append(asked)
        if len(runs) != 2:  # the second run is of a page that is known
            monkeypatch.setitem(sys.modules, f"of_run_{len(runs)}", types.ModuleType("page"))

    monkeypatch.setattr(ScriptRunner, "_run_script", draw)
    freeze_modules_on_collect()
    runner, asked = ScriptRunner.__new__(ScriptRunner), RerunData()

    runner._run_script(asked)
    after_first = gc.get_freeze_count()
    assert after_first > 1000

    kept: list[list[int]] = [[n] for n in range(5000)]
    runner._run_script(asked)
    assert gc.get_freeze_count() <= after_first  # what a page made is still looked at

    runner._run_script(asked)
    assert gc.get_freeze_count() >= after_first + len(kept) - 500
    assert runs == [asked] * 3
