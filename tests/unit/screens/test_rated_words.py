"""What a rating says in words, on the page of a round's answers, whatever its protocol."""

from __future__ import annotations

from typing import Any

import pytest

from pages.rating.round import describe_answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"skipped": True, "reason": "Broken"}, "skipped Broken"),
        ({"choice": "B"}, "Tuned is better"),
        ({"choice": "tie"}, "a tie"),
        ({"ranks": [2, 1]}, "1. Tuned, 2. Base"),
        ({"scores": {"Tone": 4}}, "Base: Tone 4"),
        ({"label": None, "note": "odd"}, "none of these (odd)"),
        ({"labels": ["price", "tone"], "note": ""}, "price, tone"),
        ({"labels": [], "note": "odd"}, "none of these (odd)"),
        ({"spans": [{"start": 0, "end": 5, "label": "word"}]}, "word at 0 to 5"),
        ({"spans": []}, "nothing marked"),
        ({"written": "It lacks an example."}, "It lacks an example."),
        ({"passed": False, "reasons": ["Wrong"]}, "Base fails (Wrong)"),
        ({"text": "Better."}, "Base corrected: Better."),
    ],
)
def test_an_answer_is_put_into_words(answer: dict[str, Any], words: str) -> None:
    assert describe_answer(answer, ("Base", "Tuned")) == words
