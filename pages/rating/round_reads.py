"""What the screen of rating rounds reads for those who may look; what raters see: `pages.rating.rater`."""

from __future__ import annotations

import streamlit as st

from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, remembered
from store.documents.rating.round import DealtTask, LeftOutRater, RoundItem, RoundLine, RoundRequest
from store.documents.tables.job import Job
from store.queries import jobs as job_queries
from store.queries.rating import ratings as rating_queries
from store.queries.rating import round_requests as request_queries
from store.queries.rating import rounds as round_queries


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def rounds() -> list[RoundLine]:
    return round_queries.list_rounds(client())


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def round_line(round_id: str) -> RoundLine:
    return round_queries.line(client(), round_id)


@remembered
@st.cache_data(ttl=CALM, max_entries=64, show_spinner=False)
def of_run(run_id: str) -> list[RoundLine]:
    return round_queries.of_run(client(), run_id)


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def unfinished() -> list[Job]:
    return round_queries.unfinished(client())


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return job_queries.with_ids(client(), job_ids)


@remembered
@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def tasks(round_id: str) -> list[DealtTask]:
    return rating_queries.dealt(client(), round_id)


@remembered
@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def items(round_id: str) -> list[RoundItem]:
    return round_queries.items(client(), round_id)


@remembered
@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def left_out(round_id: str) -> list[LeftOutRater]:
    return rating_queries.left_out(client(), round_id)


@remembered
@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def requests(round_id: str) -> list[RoundRequest]:
    return request_queries.of_round(client(), round_id)
