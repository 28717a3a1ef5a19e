"""An improvement over a real store, whose checks answer what a test says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.retraining import gate
from tests.unit.improving.chained import Chained

PASSED = "passed"


@pytest.fixture
def chained(tmp_path: Path) -> Iterator[Chained]:
    made = Chained(tmp_path / "home")
    yield made
    made.database.close()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the checks answer, in place of what evaluations would say."""
    given = {"answer": PASSED}
    judged = gate.judge_candidate

    def answered(*arguments: Any) -> Any:
        report = judged(*arguments)
        answer: Any = given["answer"]
        checks = [replace(check, answer=answer) for check in report.checks]
        return replace(report, checks=checks, answer=answer, sentence=f"It is {answer}.")

    monkeypatch.setattr(gate, "judge_candidate", answered)
    return given
