"""What the screen of models reads."""

from __future__ import annotations

from engine.registry import gate_report
from pages.shared import cached_queries
from pages.shared.session import client, kept_for
from store.core.export_schemas import ModelCard
from store.core.model_schemas import AliasNow, ModelLine, ModelVersion, VersionLine
from store.core.schemas import Job
from store.evaluation.schemas import Evaluation
from store.jobs import job_queue
from store.registry import gate_evidence, model_versions
from store.registry import model_versions as alias_queries
from store.registry import version_facts as card_queries
from store.registry import version_facts as lineage_queries
from store.registry.config import KIND
from store.registry.schemas import AliasMove, GateLine, GateReport, Lineage

LOOKED_AT = 5  # newest evaluations


@kept_for(cached_queries.LIVE, most=32)
def models(search: str, limit: int, offset: int) -> tuple[int, list[ModelLine]]:
    return model_versions.list_models(client(), search=search, limit=limit, offset=offset)


@kept_for(cached_queries.LIVE, most=64)
def model(name: str) -> ModelLine:
    return model_versions.get_model(client(), name)


@kept_for(cached_queries.LIVE, most=64)
def listed(model_id: str, limit: int, offset: int) -> tuple[int, list[VersionLine]]:
    return model_versions.list_versions(client(), model_id, limit=limit, offset=offset)


@kept_for(cached_queries.CALM, most=64)
def version(reference: str) -> ModelVersion:
    return model_versions.get_version(client(), reference)


@kept_for(cached_queries.LIVE, most=64)
def aliases(model_id: str) -> list[AliasNow]:
    return model_versions.aliases(client(), model_id)


@kept_for(cached_queries.LIVE, most=64)
def before(model_id: str, alias: str) -> int | None:
    return alias_queries.alias_before(client(), model_id, alias)


@kept_for(cached_queries.LIVE, most=64)
def moves(model_id: str) -> list[AliasMove]:
    return alias_queries.alias_moves(client(), model_id, limit=50)


@kept_for(cached_queries.LIVE, most=64)
def gate(model_id: str, alias: str) -> GateLine | None:
    return alias_queries.gate(client(), model_id, alias)


@kept_for(cached_queries.CALM, most=64, spinner="Judging the version")
def report(reference: str, alias: str) -> GateReport:
    return gate_report.report(*gate_evidence.case(client(), reference, alias))


@kept_for(cached_queries.CALM, most=64)
def measured(reference: str) -> Evaluation | None:
    """Of the newest evaluations of a version the one on most rows that has a figure with an interval; else
    the newest. Few rows that people chose to correct are not what a version is known by."""
    own = model_versions.get_version(client(), reference)
    newest = gate_evidence.evaluations_of(client(), own, limit=LOOKED_AT)
    sure = [entry for entry in newest if any(figure["low"] is not None for figure in entry["figures"])]
    return max(sure, key=lambda entry: entry["n"], default=next(iter(newest), None))


@kept_for(cached_queries.CALM, most=32)
def lineage(reference: str) -> Lineage:
    return lineage_queries.lineage(client(), reference)


@kept_for(cached_queries.CALM, most=32)
def card(reference: str) -> ModelCard:
    return card_queries.card(client(), reference)


@kept_for(cached_queries.LIVE, most=4)
def registering() -> list[Job]:
    """What is being registered now, and what could not be, the newest last."""
    return job_queue.unfinished(client(), KIND)
