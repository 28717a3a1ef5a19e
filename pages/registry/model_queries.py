"""Queries of the model registry pages."""

from __future__ import annotations

from engine.registry import gate_report
from pages.shared import cached_queries
from pages.shared.session import cached, get_client
from store.core.export_schemas import ModelCard
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion, VersionSummary
from store.core.schemas import Job
from store.evaluation.schemas import Evaluation
from store.jobs import job_queue
from store.registry import gate_checks, gate_evidence, model_versions
from store.registry import model_versions as alias_queries
from store.registry import version_facts as card_queries
from store.registry import version_facts as lineage_queries
from store.registry.config import KIND
from store.registry.schemas import AliasMove, GateRecord, GateReport, Lineage

MAX_EVALUATIONS_READ = 5  # number of newest evaluations considered


@cached(cached_queries.LIVE, max_entries=32)
def list_models(search: str, limit: int, offset: int) -> tuple[int, list[ModelSummary]]:
    return model_versions.list_models(get_client(), search=search, limit=limit, offset=offset)


@cached(cached_queries.LIVE, max_entries=64)
def read_model(name: str) -> ModelSummary:
    return model_versions.get_model(get_client(), name)


@cached(cached_queries.LIVE, max_entries=64)
def list_versions(model_id: str, limit: int, offset: int) -> tuple[int, list[VersionSummary]]:
    return model_versions.list_versions(get_client(), model_id, limit=limit, offset=offset)


@cached(cached_queries.CALM, max_entries=64)
def read_version(reference: str) -> ModelVersion:
    return model_versions.get_version(get_client(), reference)


@cached(cached_queries.LIVE, max_entries=64)
def list_aliases(model_id: str) -> list[AliasState]:
    return model_versions.aliases(get_client(), model_id)


@cached(cached_queries.LIVE, max_entries=64)
def find_previous_version(model_id: str, alias: str) -> int | None:
    return alias_queries.alias_before(get_client(), model_id, alias)


@cached(cached_queries.LIVE, max_entries=64)
def list_alias_moves(model_id: str) -> list[AliasMove]:
    return alias_queries.alias_moves(get_client(), model_id, limit=50)


@cached(cached_queries.LIVE, max_entries=64)
def read_gate(model_id: str, alias: str) -> GateRecord | None:
    return alias_queries.gate(get_client(), model_id, alias)


@cached(cached_queries.CALM, max_entries=64, spinner="Checking the gate")
def read_gate_report(reference: str, alias: str) -> GateReport:
    return gate_report.build_gate_report(*gate_checks.case(get_client(), reference, alias))


@cached(cached_queries.CALM, max_entries=64)
def find_headline_evaluation(reference: str) -> Evaluation | None:
    """Return the main evaluation of a version: of its newest ones with an interval, that on most rows.

    If none has an interval, the newest is returned. The number of rows decides, because a few rows that
    people chose to correct do not represent a version.
    """
    own = model_versions.get_version(get_client(), reference)
    newest = gate_evidence.evaluations_of(get_client(), own, limit=MAX_EVALUATIONS_READ)
    sure = [entry for entry in newest if any(figure.low is not None for figure in entry.figures)]
    return max(sure, key=lambda entry: entry.n, default=next(iter(newest), None))


@cached(cached_queries.CALM, max_entries=32)
def read_lineage(reference: str) -> Lineage:
    return lineage_queries.lineage(get_client(), reference)


@cached(cached_queries.CALM, max_entries=32)
def read_model_card(reference: str) -> ModelCard:
    return card_queries.card(get_client(), reference)


@cached(cached_queries.LIVE, max_entries=4)
def list_registrations() -> list[Job]:
    """List active and failed registrations, newest last."""
    return job_queue.unfinished(get_client(), KIND)
