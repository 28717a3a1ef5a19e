"""The ask `split`: how the rows of a data set would be dealt."""

from __future__ import annotations

from typing import Literal, TypedDict

from store.documents.data.field_problem import FieldProblem

SplitBy = Literal["random", "group", "time", "stratified", "given"]  # how rows are dealt
KeptTogether = Literal["text", "near", "prompt", "group"]  # what rows have in common that are not parted


class PartRows(TypedDict):
    """Rows of each part."""

    train: int
    validation: int
    test: int


class SplitCounts(TypedDict):
    """How many rows each part would have."""

    rows: PartRows
    kept_together: int  # rows beyond the first of those that must not be parted
    kept: list[KeptTogether]
    leaking: list[int]  # training rows that repeat a held-out one, 10,000 at most
    leaking_rows: int  # of them in all
    problems: list[FieldProblem]  # an error is why a launch with this split would be refused
