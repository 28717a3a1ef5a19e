"""What the screen of rating rounds reads for those who may look; what raters see: `pages.rating.rater`."""

from __future__ import annotations

import time

import pyarrow as pa

from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, kept_for
from store.documents.rating.round import (
    DealtTask,
    LeftOutRater,
    LetInRater,
    RaterCounts,
    RoundItem,
    RoundItemPage,
    RoundLine,
    RoundRequest,
)
from store.documents.rating.workload import Workload
from store.documents.tables.job import Job
from store.queries import jobs as job_queries
from store.queries.rating import ratings as rating_queries
from store.queries.rating import round_requests as request_queries
from store.queries.rating import rounds as round_queries
from store.queries.rating import workload as workload_queries


@kept_for(LIVE, most=4)
def rounds() -> list[RoundLine]:
    return round_queries.list_rounds(client())


@kept_for(LIVE, most=64)
def round_line(round_id: str) -> RoundLine:
    return round_queries.line(client(), round_id)


@kept_for(CALM, most=64)
def of_run(run_id: str) -> list[RoundLine]:
    return round_queries.of_run(client(), run_id)


@kept_for(LIVE, most=4)
def unfinished() -> list[Job]:
    return round_queries.unfinished(client())


@kept_for(LIVE, most=4)
def jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return job_queries.with_ids(client(), job_ids)


@kept_for(LIVE, most=16)
def tasks(round_id: str) -> list[DealtTask]:
    return rating_queries.dealt(client(), round_id)


@kept_for(LIVE, most=64)
def item_page(round_id: str, words: str, size: int, number: int) -> RoundItemPage:
    """A page of the items that a search finds, and how many it finds. number: from 1 on."""
    return round_queries.item_page(client(), round_id, words, limit=size, offset=size * (number - 1))


@kept_for(LIVE, most=64)
def tasks_of(round_id: str, item_ids: tuple[int, ...]) -> list[DealtTask]:
    """Rated ones, of these items."""
    return rating_queries.of_items(client(), round_id, list(item_ids))


@kept_for(CALM, most=8)
def rated(round_id: str, stamped: str) -> pa.Table:
    """stamped: of `last_change`."""
    return rating_queries.rated(client(), round_id)


@kept_for(LIVE, most=16)
def last_change(round_id: str) -> str:
    return rating_queries.last_change(client(), round_id)


@kept_for(LIVE, most=16)
def rater_counts(round_id: str) -> list[RaterCounts]:
    return rating_queries.rater_counts(client(), round_id)


@kept_for(LIVE, most=16)
def checks(round_id: str) -> tuple[list[DealtTask], list[RoundItem]]:
    """Tasks by which raters are checked, and their items."""
    tasks = rating_queries.check_tasks(client(), round_id)
    item_ids = sorted({task["item_id"] for task in tasks})
    return tasks, list(round_queries.some_items(client(), round_id, item_ids).values()) if item_ids else []


@kept_for(LIVE, most=16)
def workload(round_id: str) -> Workload:
    return workload_queries.workload(client(), round_id, job_queries.utc(time.time()))


@kept_for(60, most=16)
def items(round_id: str) -> list[RoundItem]:
    return round_queries.items(client(), round_id)


@kept_for(60, most=16)
def bare_items(round_id: str) -> list[RoundItem]:
    """Without their prompts."""
    return round_queries.items(client(), round_id, prompts=False)


@kept_for(60, most=64)
def some_items(round_id: str, item_ids: tuple[int, ...]) -> dict[int, RoundItem]:
    return round_queries.some_items(client(), round_id, list(item_ids))


@kept_for(LIVE, most=16)
def left_out(round_id: str) -> list[LeftOutRater]:
    return rating_queries.left_out(client(), round_id)


@kept_for(LIVE, most=16)
def let_in(round_id: str) -> list[LetInRater]:
    return rating_queries.let_in(client(), round_id)


@kept_for(60, most=16)
def requests(round_id: str) -> list[RoundRequest]:
    return request_queries.of_round(client(), round_id)
