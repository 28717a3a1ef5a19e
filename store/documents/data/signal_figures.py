"""Figures of measured signals: of each column by its type, and of the set as a whole."""

from __future__ import annotations

from typing import NotRequired, TypedDict, final

# The types are final, so that asking for a key of one of them ("flagged" in figure) says which one it is.


@final
class NumberFigure(TypedDict):
    """A column of numbers; without a measured row all but n and positive are null."""

    n: int  # rows that were measured
    min: float | None
    mean: float | None
    median: float | None
    p95: float | None
    max: float | None
    positive: int  # rows above 0


@final
class FlagFigure(TypedDict):
    """A column of flags."""

    n: int  # rows that were measured
    flagged: int


@final
class CategoryFigure(TypedDict):
    """A column of names."""

    n: int  # rows that were measured
    distinct: int
    values: dict[str, int]  # value -> rows, the 20 most frequent


@final
class GroupFigure(TypedDict):
    """A column that names the group a row belongs to."""

    n: int  # all rows
    groups: int
    rows: int  # that share their group with another
    extra: int  # rows beyond the first of their group


@final
class SetFigure(TypedDict):
    """A figure of the set as a whole, taken on a sample of `n`."""

    value: float | None  # null where the set is too small to say
    n: int
    unit: NotRequired[str]  # of n: rows where left out
    low: NotRequired[float | None]  # a 95% interval; of half_loss* the range over the halves
    high: NotRequired[float | None]
    sd: NotRequired[float | None]  # half_loss*: over the halves
    repeats: NotRequired[int]  # half_loss*: halves
    bytes: NotRequired[int]  # compression: of text that was compressed
    topics: NotRequired[int]  # cluster_entropy
    template: NotRequired[str]  # top_template: the most frequent one
    templates: NotRequired[int]  # top_template: how many there are
    pairs: NotRequired[
        list[tuple[str, str, int]]
    ]  # confused: (given, suggested, suspects), most frequent first
    without_label: NotRequired[int]  # unjudged: rows
    rare_labels: NotRequired[int]  # unjudged: labels of too few rows
    examples: NotRequired[list[str]]  # unjudged: such labels, 20 at most
    trained_rows: NotRequired[int]  # accuracy: rows that the judge was trained on


ColumnFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure
SignalFigure = NumberFigure | FlagFigure | CategoryFigure | GroupFigure | SetFigure


class SignalOptions(TypedDict, total=False):
    """What decided the values of a group: rows of a new version take values over where it is the same."""

    endings: str  # text: how the answers of the set end, in words
    model: str  # tokens, difficulty
    max_length: int  # tokens: that rows are cut to
    chosen: bool  # tokens: the length was given, not derived from the rows
    threshold: float  # duplicates: Jaccard similarity of near duplicates
    sample: int | None  # difficulty: rows that were drawn; null for as many as the device allows


class ProfileResult(TypedDict):
    """Result of the job `profile`: one group of signals, measured for every row of a data set."""

    options: SignalOptions
    row_count: int
    reused_count: int  # rows whose values the version before had
    seconds: float
    figures: dict[str, SignalFigure]  # column, or set.NAME for the set as a whole
