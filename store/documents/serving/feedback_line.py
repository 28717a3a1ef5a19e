"""What came back about an answer."""

from __future__ import annotations

from typing import Literal, TypedDict


class FeedbackLine(TypedDict):
    """`feedback-NNNNNN.jsonl` beside the requests, a line each; what does not apply is null."""

    feedback_id: str
    request_id: str
    endpoint_id: str
    at: float
    person_id: str | None
    kind: Literal["thumb", "score", "correction", "label"]
    value: float | None  # thumb: 1 or 0; score: as it was given
    text: str | None  # the correction, or the label that is right
    comment: str
