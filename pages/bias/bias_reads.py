"""What the views of bias checks read."""

from __future__ import annotations

import streamlit as st

from pages.shared import reads
from pages.shared.session import client, remembered
from store.documents.shipping.bias_details import BiasCheck, BiasSummary
from store.documents.tables.job import Job
from store.queries.bias import checks


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=32, show_spinner=False)
def check(job_id: str) -> BiasCheck:
    return checks.get(client(), job_id)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def listed(run_id: str = "", evaluation_id: str = "") -> list[BiasSummary]:
    """Of a run, or with groups of an evaluation, newest first."""
    return checks.listed(client(), run_id=run_id, evaluation_id=evaluation_id)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def unfinished(run_id: str = "", evaluation_id: str = "") -> list[Job]:
    return checks.unfinished(client(), run_id=run_id, evaluation_id=evaluation_id)
