"""What an improvement is asked for, as it is stored and sent; `store.config` checks it."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class AskedRowSource(TypedDict):
    """A source of new rows: feedback on an endpoint, a rating round, or rows of a data set."""

    source: Literal["feedback", "round", "dataset"]
    endpoint: NotRequired[str]  # id; of feedback, as the four that follow
    start: NotRequired[str | None]  # UTC
    end: NotRequired[str | None]
    alert: NotRequired[str]  # id
    group: NotRequired[str]
    model: NotRequired[str]  # whose answers the feedback is of
    round: NotRequired[str]  # id
    dataset: NotRequired[str]  # id
    where: NotRequired[dict[str, Any] | None]  # store.config.data.filters.Filter


class AskedSettings(TypedDict):
    """What an improvement rests on beside its rows."""

    model: str
    alias: str
    run: str  # id of the run whose config is launched; empty while it is that of the version in use
    held_out: float
    metric: str  # empty: that of the task
    margin: float


class AskedImprovement(AskedSettings):
    """Body of `begin_improvement`, and the column `config` of an improvement, with ids in place of names."""

    rows: list[AskedRowSource]
    name: str


class AskedSchedule(AskedSettings):
    """Body of `schedule_improvement`, and the column `config` of a schedule."""

    rows: list[AskedRowSource]
    every_hours: float
    least_rows: int
