"""What the matrix of transfer reads, each answer kept for a moment."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.shared import reads
from pages.shared.session import client, remembered
from store.queries.runs import transfers
from store.queries.runs.transfers import Found as MeasuredTransfer

FINISHED = ("finished",)
LISTED = 400  # runs that the list offers, the newest


def finished_runs() -> list[dict[str, Any]]:
    """The newest finished runs."""
    return reads.runs("", FINISHED, LISTED, 0)


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=32, show_spinner=False)
def measured_transfer(
    run_ids: tuple[str, ...], dataset_ids: tuple[str, ...], asked: tuple[tuple[str, Any], ...]
) -> MeasuredTransfer:
    """What is known of these runs on these data sets."""
    sets = [dataset for dataset in reads.datasets() if dataset["dataset_id"] in dataset_ids]
    return transfers.found(client(), run_ids, sets, dict(asked))


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def unfinished() -> list[dict[str, Any]]:
    return transfers.unfinished(client())


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=4, show_spinner=False)
def newest() -> dict[str, Any] | None:
    return transfers.newest(client())


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=4, show_spinner=False)
def bad_end() -> dict[str, Any] | None:
    return transfers.last_bad_end(client())


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=8, show_spinner=False)
def seconds_a_cell(max_rows: int | None) -> tuple[float, int] | None:
    return transfers.seconds_a_cell(client(), max_rows)
