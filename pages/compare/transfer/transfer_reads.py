"""What the matrix of transfer reads, each answer kept for a moment."""

from __future__ import annotations

from typing import NotRequired, TypedDict, cast

from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.session import client, kept_for
from store.documents.tables.job import Job
from store.documents.tables.run import Run
from store.queries.runs import transfers
from store.queries.runs.transfers import MeasuredTransfer

FINISHED = ("finished",)
LISTED = 400  # runs that the list offers, the newest


class AskedTransfer(TypedDict):
    """What the newest matrix was asked for."""

    runs: list[str]
    datasets: list[str]
    part: NotRequired[str]
    max_rows: NotRequired[int | None]


def finished_runs() -> list[Run]:
    """The newest finished runs."""
    return run_reads.newest("", FINISHED, LISTED)


@kept_for(reads.CALM, most=32)
def measured_transfer(
    run_ids: tuple[str, ...], dataset_ids: tuple[str, ...], asked: tuple[tuple[str, str | int | None], ...]
) -> MeasuredTransfer:
    """What is known of these runs on these data sets."""
    sets = [dataset for dataset in reads.datasets() if dataset["dataset_id"] in dataset_ids]
    return transfers.measured_transfer(client(), run_ids, sets, dict(asked))


@kept_for(reads.LIVE, most=4)
def unfinished() -> list[Job]:
    return transfers.unfinished(client())


@kept_for(reads.CALM, most=4)
def newest() -> AskedTransfer | None:
    return cast("AskedTransfer | None", transfers.newest(client()))  # a TransferConfig as JSON


@kept_for(reads.CALM, most=4)
def bad_end() -> Job | None:
    return transfers.last_bad_end(client())


@kept_for(reads.CALM, most=8)
def seconds_a_cell(max_rows: int | None) -> tuple[float, int] | None:
    return transfers.seconds_a_cell(client(), max_rows)
