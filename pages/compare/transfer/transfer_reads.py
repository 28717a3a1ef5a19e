"""What the matrix of transfer reads, each answer kept for a moment."""

from __future__ import annotations

from typing import NotRequired, TypedDict, cast

import streamlit as st

from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.session import client, remembered
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


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=32, show_spinner=False)
def measured_transfer(
    run_ids: tuple[str, ...], dataset_ids: tuple[str, ...], asked: tuple[tuple[str, str | int | None], ...]
) -> MeasuredTransfer:
    """What is known of these runs on these data sets."""
    sets = [dataset for dataset in reads.datasets() if dataset["dataset_id"] in dataset_ids]
    return transfers.measured_transfer(client(), run_ids, sets, dict(asked))


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def unfinished() -> list[Job]:
    return transfers.unfinished(client())


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=4, show_spinner=False)
def newest() -> AskedTransfer | None:
    return cast("AskedTransfer | None", transfers.newest(client()))  # a TransferConfig as JSON


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=4, show_spinner=False)
def bad_end() -> Job | None:
    return transfers.last_bad_end(client())


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=8, show_spinner=False)
def seconds_a_cell(max_rows: int | None) -> tuple[float, int] | None:
    return transfers.seconds_a_cell(client(), max_rows)
