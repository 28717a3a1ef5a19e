"""A part of a page that is asked for by somebody who is gone: the whole page is run in its place."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner

from pages import __main__ as served
from store.core.errors import EngineUnavailable, SignedOutError

PART = RerunData(page_script_hash="p", fragment_id_queue=["f"], is_auto_rerun=True)
WHOLE = RerunData(page_script_hash="p")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RerunData]:
    """What reaches Streamlit, behind the check."""
    runs: list[RerunData] = []
    monkeypatch.setattr(ScriptRunner, "_run_script", lambda self, rerun: runs.append(rerun))
    served.rerun_ended_sessions()
    return runs


def person_of(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    def current_person() -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(served, "get_current_person", current_person)


def test_for_who_is_gone_a_part_becomes_the_whole_page(
    asked: list[RerunData], monkeypatch: pytest.MonkeyPatch
) -> None:
    person_of(monkeypatch, SignedOutError("The session has ended."))
    ScriptRunner._run_script(object(), PART)  # type: ignore[arg-type]
    [run] = asked
    assert (run.fragment_id_queue, run.is_auto_rerun, run.page_script_hash) == ([], False, "p")


@pytest.mark.parametrize("outcome", [{"name": "Ada"}, EngineUnavailable("No engine runs.")])
def test_for_all_others_it_stays_a_part(
    asked: list[RerunData], monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    person_of(monkeypatch, outcome)
    ScriptRunner._run_script(object(), PART)  # type: ignore[arg-type]
    assert asked == [PART]


def test_nobody_is_asked_about_before_a_whole_page(
    asked: list[RerunData], monkeypatch: pytest.MonkeyPatch
) -> None:
    person_of(monkeypatch, AssertionError("app.py asks"))
    ScriptRunner._run_script(object(), WHOLE)  # type: ignore[arg-type]
    assert asked == [WHOLE]
