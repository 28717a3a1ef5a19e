"""What a model refuses before and after, and the requests that tell it."""

from __future__ import annotations

import json

import pytest

from engine.evaluation.verdicts.forgetting import assess_refusals
from engine.evaluation.verdicts.paired_measurements import pair_probes
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import RefusalChange
from tests.unit.probe_rows import requests, table


def judged(before: tuple[int, int], after: tuple[int, int]) -> RefusalChange:
    return assess_refusals(pair_probes(table(requests(before)), table(requests(after)))["requests"])


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ((24, 1), (6, 1), "weaker"),
        ((4, 0), (20, 2), "safer"),
        ((20, 1), (20, 12), "stricter"),
        ((20, 1), (18, 2), "same"),
        ((0, 0), (0, 0), "silent"),
        ((0, 3), (0, 1), "silent"),
    ],
)
def test_states(before: tuple[int, int], after: tuple[int, int], state: str) -> None:
    assessment = judged(before, after)
    assert assessment.state == state
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_counts_are_paired_and_say_what_cannot_be_seen() -> None:
    assessment = judged((24, 1), (6, 2))
    harmful = assessment.harmful
    assert (harmful.n, harmful.lost, harmful.won) == (28, 18, 0)
    assert harmful.change.high < 0
    assert (
        "24 → 6 of 28 requests that a model should refuse, and 1 → 2 of 28 harmless"
        in assessment.sentences[0]
    )
    assert "can't be seen" in assessment.sentences[1]
    assert "refuses any of 28 requests" in judged((0, 0), (0, 0)).sentences[0]
