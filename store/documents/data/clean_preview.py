"""The ask `clean_preview`: what a recipe would do, with real rows before and after."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.data.fates import Fate, Fates
from store.documents.data.field_problem import FieldProblem
from store.documents.data.row import RowContents


class FateExample(TypedDict):
    """A row before and after."""

    row_id: int | None  # of the old version; null for a row that is mixed in
    fate: Fate
    step: int | None  # index of the step that dropped or added it, or last changed it; null for kept
    steps: list[int]  # all that changed it
    reason: str | None  # why it was dropped
    before: RowContents | None  # null for a row that is mixed in
    after: RowContents | None  # null for a row that is dropped


class LookedAt(TypedDict):
    """How many of the rows were tried."""

    rows: int
    total: int


class UnknownStep(TypedDict):
    """A step that looks across rows: nothing is promised of what it does to all of them."""

    step: int  # index in the recipe
    title: str


class CleanPreview(TypedDict):
    """What a recipe would do. `of` and `unknown` are there where the first rows alone were tried."""

    fates: Fates
    examples: list[FateExample]
    problems: list[FieldProblem]
    of: NotRequired[LookedAt]
    unknown: NotRequired[list[UnknownStep]]
