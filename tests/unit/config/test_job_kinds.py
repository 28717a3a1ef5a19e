"""Both tables of kinds of job have the same kinds, and every kind has a module that does it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from engine.job_handlers import HANDLERS
from store.core.job_kinds import ASKS, JOB_KINDS, RUNS
from store.evaluation.evaluation_pairs import KIND as JUDGE
from store.evaluation.evaluations import KIND as EVALUATE

WITH_ROWS = {name for name, kind in JOB_KINDS.items() if kind.has_row}


def test_the_engine_handles_every_kind_that_has_a_row() -> None:
    assert set(HANDLERS.by_kind) == WITH_ROWS == set(JOB_KINDS) - {*ASKS, "talk"}


@pytest.mark.parametrize("name", JOB_KINDS)
def test_a_kind_has_a_module_and_a_name_of_its_own(name: str) -> None:
    kind = JOB_KINDS[name]
    assert kind.name == name
    assert importlib.util.find_spec(kind.module)
    assert [other.title for other in JOB_KINDS.values()].count(kind.title) == 1
    assert not (kind.is_run and kind.is_ask)


@pytest.mark.parametrize("name", sorted(WITH_ROWS))
def test_a_kind_that_people_see_declares_its_phases(name: str) -> None:
    spec = importlib.util.find_spec(JOB_KINDS[name].module)  # importing all of them takes seconds
    assert spec is not None
    assert spec.origin is not None
    assert re.search(r"^(def phases\(|phases = )", Path(spec.origin).read_text("utf-8"), re.MULTILINE)


def test_kinds_that_are_named_elsewhere_are_in_the_table() -> None:
    assert {JUDGE, EVALUATE, "interpolate"} <= set(JOB_KINDS)
    assert RUNS == ("train", "variant")
