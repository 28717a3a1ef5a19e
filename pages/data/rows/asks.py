"""What the tabs of a data set ask of short-lived workers, each answer by its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from pages.shared import reads
from store.config.training.train_config import Split
from store.documents.data.neighbours import Neighbours
from store.documents.data.overlap import Overlap
from store.documents.data.rendering import Rendering
from store.documents.data.row import Kind
from store.documents.data.split import SplitCounts


class RenderingQuestion(TypedDict):
    """Which row of which rows, and how the model is to see them."""

    fingerprint: str
    kind: Kind
    model: str
    chat_template: str  # a name of the catalogue or Jinja; empty for the model's own
    completion_only_loss: bool
    max_length: int | None  # tokens; null: as long as 99% of the rows fit
    row: int


def neighbours(fingerprint: str, row_id: int, count: int) -> Neighbours:
    """The rows that mean most nearly what one of them means."""
    answer = _ask("neighbours", {"fingerprint": fingerprint, "row_id": row_id, "count": count})
    return cast(Neighbours, answer)  # as the worker writes it


def overlap(fingerprint: str, other: str) -> Overlap:
    """Which rows of the first data set the other one has too."""
    answer = _ask("overlap", {"fingerprint": fingerprint, "other": other})
    return cast(Overlap, answer)  # as the worker writes it


def split_counts(fingerprint: str, split: Split) -> SplitCounts:
    """How many rows each part would have."""
    answer = _ask("split", {"fingerprint": fingerprint, "split": split.model_dump()})
    return cast(SplitCounts, answer)  # as the worker writes it


def rendering(question: RenderingQuestion) -> Rendering:
    """One row as the model will see it, and the whole set in numbers."""
    return cast(Rendering, _ask("rendering", question))  # as the worker writes it


def _ask(name: str, question: Mapping[str, Any]) -> dict[str, Any]:
    return reads.ask(name, json.dumps(question, sort_keys=True))
