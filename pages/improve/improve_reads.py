"""What the screens of improvements read."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from engine.diagnostics.gates import judge
from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, remembered
from store.documents.evaluations.evaluation import Evaluation
from store.documents.rating.round import RoundLine
from store.documents.shipping.gate import GateReport
from store.documents.shipping.version import AliasNow, ModelLine, ModelVersion
from store.documents.tables.endpoint_state import EndpointSeen
from store.documents.tables.improvement import Improvement, ImprovementSchedule
from store.documents.tables.job import Job
from store.queries import jobs
from store.queries.evaluations import evaluations
from store.queries.monitoring import monitor_alerts
from store.queries.rating import rounds as round_queries
from store.queries.shipping import gate_evidence, improvements, versions
from store.queries.shipping import returned as returned_queries
from store.queries.shipping.returned import Returned


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def of_model(model_id: str) -> list[Improvement]:
    return improvements.of_model(client(), model_id)


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def improvement(name: str) -> Improvement:
    return improvements.get(client(), name)


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def schedule(model_id: str) -> ImprovementSchedule | None:
    return improvements.schedule(client(), model_id)


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def model(name: str) -> ModelLine:
    return versions.get_model(client(), name)


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def aliases(model_id: str) -> list[AliasNow]:
    return versions.aliases(client(), model_id)


@remembered
@st.cache_data(ttl=CALM, max_entries=64, show_spinner=False)
def version(reference: str) -> ModelVersion:
    return versions.get_version(client(), reference)


@remembered
@st.cache_data(ttl=CALM, max_entries=64, show_spinner=False)
def returned(model_name: str, since: datetime | None) -> list[Returned]:
    return returned_queries.returned(client(), model_name, since)


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def endpoints() -> list[EndpointSeen]:
    return client().endpoints()


@remembered
@st.cache_data(ttl=LIVE, max_entries=16, show_spinner=False)
def alert_ids(endpoint_id: str) -> list[str]:
    """Of the alerts of an endpoint, seen or not."""
    listed = [*monitor_alerts.open_alerts(client(), endpoint_id)]
    listed += monitor_alerts.past_alerts(client(), endpoint_id)
    return [alert["alert_id"] for alert in listed]


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def rounds() -> list[RoundLine]:
    return round_queries.list_rounds(client())


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def round_line(round_id: str) -> RoundLine:
    return round_queries.line(client(), round_id)


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return jobs.with_ids(client(), job_ids)


@remembered
@st.cache_data(ttl=CALM, max_entries=64, show_spinner=False)
def evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(client(), evaluation_id)


@remembered
@st.cache_data(ttl=CALM, max_entries=64, show_spinner="Judging the version")
def alias_gate(reference: str, alias: str) -> GateReport:
    """The version at the gate that the alias has for every version."""
    return judge.report(*gate_evidence.case(client(), reference, alias))
