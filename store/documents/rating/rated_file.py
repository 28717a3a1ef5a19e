"""The ask `ratings_file`: what a file of ratings from elsewhere holds, before a round is made of it."""

from __future__ import annotations

from typing import TypedDict


class UnusedColumn(TypedDict):
    """A column of which nothing would be used though it may matter: an import stops at it until somebody maps
    it or leaves it out."""

    name: str
    why: str  # what it may be, to follow the name in a sentence
    values: list[str]  # the most frequent of the first rows, at most 4, cut
    distinct: int  # values in the first rows
    roles: list[str]  # that it may play, none that a column plays already


class UnclearValue(TypedDict):
    """A value of the deciding column that says nothing clear."""

    value: str
    rows: int  # of the first rows


class RatedName(TypedDict):
    """A model or a rater of the file."""

    name: str
    ratings: int


class RatedLine(TypedDict):
    """A rating as it will be stored; texts are cut."""

    prompt: str
    models: list[str]  # in the order in which they were shown
    answers: list[str | None]
    rater: str
    rating: str  # in words


class RatedFile(TypedDict):
    """How a file is read. Counts are of all its rows where `whole`, else of the first `rows`; they are 0
    while `problem` says what is missing, or values are unclear."""

    form: str | None  # of store.catalog.rated_forms; null where none is recognised
    mapping: dict[str, str]  # role -> column
    values: dict[str, str]  # value of the deciding column -> what it means
    columns: list[str]
    ignored: list[str]  # columns of which nothing is used
    undecided: list[UnusedColumn]
    unclear: list[UnclearValue]
    problem: str | None
    whole: bool
    rows: int
    ratings: int
    prompts: int
    models: list[RatedName]  # the most rated first, at most 200
    model_count: int
    raters: list[RatedName]
    rater_count: int
    left_out: dict[str, int]  # why rows and ratings are left out, and how many
    notices: list[str]
    first: list[RatedLine]
