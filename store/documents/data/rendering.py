"""A row as a model reads it, and what a length means for all rows: the ask `rendering`, and the row that a
preview shows."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class RowToken(TypedDict):
    """One token of a row."""

    text: str  # of tokens that share one character the last has it, and the others are empty
    id: int
    trained: bool


class RowTokens(TypedDict):
    """A row as the model sees it, up to max_length."""

    row_id: int
    index: int  # the place of the row among those that are looked at
    of: int  # how many these are
    tokens: list[RowToken]
    truncated: bool  # the row goes on beyond max_length


class RenderedRow(RowTokens):
    """A row; of preference tuning it ends with the chosen answer."""

    rejected: NotRequired[RowTokens]  # of preference tuning: the same with the rejected answer
    label: NotRequired[str]  # of a classifier


class LengthHistogram(TypedDict):
    """Tokens of the rows."""

    counts: list[int]  # rows of each bin
    edges: list[float]  # tokens; one more than there are bins


class RenderedSet(TypedDict):
    """What a length means for the rows, of large data sets a sample of them."""

    counted: int  # rows that were looked at
    of: int  # rows of the data set
    tokens: int
    trained_tokens: int
    max_length: int  # tokens
    longest: int  # tokens of the longest row
    cut_rows: int
    shortened_answers: int  # rows that lose trained tokens
    lost_tokens: int  # trained ones
    median_lost_share: float  # of the trained tokens of a shortened answer
    untrained: dict[str, int]  # why a row has no trained token -> rows
    keeping_all: tuple[int, float] | None  # (length that cuts no row, share of more tokens); null: none cut
    lengths: LengthHistogram


class MaskChecks(TypedDict):
    """Rows of `counted` whose trained tokens are not the right ones."""

    counted: int
    unlocated: int  # the answers can't be located in the template
    leaking: int  # a token of a prompt is trained
    missed: int  # a token of an answer is not trained
    unclosed: int  # the last trained token does not close the turn


class Rendering(TypedDict):
    """A row and the set under a chat template."""

    row: RenderedRow
    set: RenderedSet
    checks: MaskChecks | None  # null for plain text
    template: str
    own_template: bool  # the tokenizer has one of its own
