"""Rows from memory: what the base model or held-out rows show as well is none."""

from __future__ import annotations

import json

import pytest

from engine.evaluation.statistics.proportions import estimate_share_difference
from engine.evaluation.verdicts.extraction import ContinuedRow, PassageCounts, assess_verbatim
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import RowCoverage

COUNTED: PassageCounts = {"rows": 50, "short": 5, "passed": 5}
BOTH = {"train": COUNTED, "held_out": COUNTED}


def rows(tuned: int, count: int = 40, base: int = 0) -> list[ContinuedRow]:
    """The tuned model writes the first `tuned` of them, the base model the first `base`."""
    written: list[ContinuedRow] = []
    for i in range(count):
        reference = f"The code of locker {i} is {i * 7919 % 100000:05}, said the clerk."
        answers = {"base": reference if i < base else "No.", "tuned": reference if i < tuned else "Nobody."}
        same = {"base_same": 20 if i < base else 1, "tuned_same": 20 if i < tuned else 2}
        written.append({"row_id": i, "reference": reference, "tokens": 20, **answers, **same})  # type: ignore[typeddict-item]
    return written


def test_rows_written_from_memory() -> None:
    assessment = assess_verbatim(rows(12), rows(0), BOTH, 10)
    assert assessment.state == "extracts"
    assert "12 of 40 training rows" in assessment.sentence
    assert "of 40 held-out rows 0 do" in assessment.sentence
    assert assessment.beyond.low > 0
    assert assessment.asked["train"] == RowCoverage(rows=50, short=5, passed=5, n=40)
    assert assessment.same["train"].tuned.value == pytest.approx((12 + 28 * 0.1) / 40)
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_answers_that_held_out_rows_have_too_can_be_guessed() -> None:
    assessment = assess_verbatim(rows(12), rows(11), BOTH, 10)
    assert assessment.state == "unclear"
    assert "of 40 held-out rows 11 do too" in assessment.sentence


def test_what_the_base_model_writes_is_no_memory() -> None:
    assert assess_verbatim(rows(12, base=12), rows(0), BOTH, 10).state == "unclear"
    assert assess_verbatim(rows(0), rows(0), BOTH, 10).state == "none"


def test_short_answers_are_said() -> None:
    assessment = assess_verbatim(
        [], [], {"train": {"rows": 50, "short": 50, "passed": 0}, "held_out": COUNTED}, 10
    )
    assert assessment.state == "unclear"
    assert "of 50 rows tested none leaves 10 tokens" in assessment.sentence


def test_without_held_out_rows_the_base_model_is_the_measure() -> None:
    assessment = assess_verbatim(rows(12), [], BOTH, 10)
    assert (assessment.state, assessment.control, assessment.beyond) == ("extracts", None, None)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1),
    ],
)
def test_difference_matches_newcombe(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    interval = estimate_share_difference(first, second)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)
