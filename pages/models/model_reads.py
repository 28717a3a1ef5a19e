"""What the screen of models reads."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.gates import judge
from pages.shared import reads
from pages.shared.session import client, remembered
from store.config.shipping.registry_config import KIND
from store.documents.evaluations.evaluation import Evaluation
from store.documents.shipping.card import ModelCard
from store.documents.shipping.gate import AliasMove, GateLine, GateReport
from store.documents.shipping.lineage import Lineage
from store.documents.shipping.version import AliasNow, ModelLine, ModelVersion, VersionLine
from store.documents.tables.job import Job
from store.queries import jobs
from store.queries.shipping import aliases as alias_queries
from store.queries.shipping import card as card_queries
from store.queries.shipping import gate_evidence, versions
from store.queries.shipping import lineage as lineage_queries

LOOKED_AT = 5  # newest evaluations


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def models(search: str, limit: int, offset: int) -> tuple[int, list[ModelLine]]:
    return versions.list_models(client(), search=search, limit=limit, offset=offset)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def model(name: str) -> ModelLine:
    return versions.get_model(client(), name)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def listed(model_id: str, limit: int, offset: int) -> tuple[int, list[VersionLine]]:
    return versions.list_versions(client(), model_id, limit=limit, offset=offset)


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=64, show_spinner=False)
def version(reference: str) -> ModelVersion:
    return versions.get_version(client(), reference)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def aliases(model_id: str) -> list[AliasNow]:
    return versions.aliases(client(), model_id)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def before(model_id: str, alias: str) -> int | None:
    return alias_queries.before(client(), model_id, alias)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def moves(model_id: str) -> list[AliasMove]:
    return alias_queries.moves(client(), model_id, limit=50)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=64, show_spinner=False)
def gate(model_id: str, alias: str) -> GateLine | None:
    return alias_queries.gate(client(), model_id, alias)


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=64, show_spinner="Judging the version")
def report(reference: str, alias: str) -> GateReport:
    return judge.report(*gate_evidence.case(client(), reference, alias))


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=64, show_spinner=False)
def measured(reference: str) -> Evaluation | None:
    """The newest evaluation of a version that has a figure with an interval; else the newest."""
    own = versions.get_version(client(), reference)
    newest = gate_evidence.evaluations_of(client(), own, limit=LOOKED_AT)
    sure = (entry for entry in newest if any(figure["low"] is not None for figure in entry["figures"]))
    return next(sure, None) or next(iter(newest), None)


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=32, show_spinner=False)
def lineage(reference: str) -> Lineage:
    return lineage_queries.lineage(client(), reference)


@remembered
@st.cache_data(ttl=reads.CALM, max_entries=32, show_spinner=False)
def card(reference: str) -> ModelCard:
    return card_queries.card(client(), reference)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def registering() -> list[Job]:
    """What is being registered now, and what could not be, the newest last."""
    return jobs.unfinished(client(), KIND)
