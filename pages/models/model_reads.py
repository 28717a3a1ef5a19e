"""What the screen of models reads."""

from __future__ import annotations

from engine.diagnostics.gates import judge
from pages.shared import reads
from pages.shared.session import client, kept_for
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
from store.queries.shipping import gate_evidence, measured_evidence, versions
from store.queries.shipping import lineage as lineage_queries

LOOKED_AT = 5  # newest evaluations


@kept_for(reads.LIVE, most=32)
def models(search: str, limit: int, offset: int) -> tuple[int, list[ModelLine]]:
    return versions.list_models(client(), search=search, limit=limit, offset=offset)


@kept_for(reads.LIVE, most=64)
def model(name: str) -> ModelLine:
    return versions.get_model(client(), name)


@kept_for(reads.LIVE, most=64)
def listed(model_id: str, limit: int, offset: int) -> tuple[int, list[VersionLine]]:
    return versions.list_versions(client(), model_id, limit=limit, offset=offset)


@kept_for(reads.CALM, most=64)
def version(reference: str) -> ModelVersion:
    return versions.get_version(client(), reference)


@kept_for(reads.LIVE, most=64)
def aliases(model_id: str) -> list[AliasNow]:
    return versions.aliases(client(), model_id)


@kept_for(reads.LIVE, most=64)
def before(model_id: str, alias: str) -> int | None:
    return alias_queries.before(client(), model_id, alias)


@kept_for(reads.LIVE, most=64)
def moves(model_id: str) -> list[AliasMove]:
    return alias_queries.moves(client(), model_id, limit=50)


@kept_for(reads.LIVE, most=64)
def gate(model_id: str, alias: str) -> GateLine | None:
    return alias_queries.gate(client(), model_id, alias)


@kept_for(reads.CALM, most=64, spinner="Judging the version")
def report(reference: str, alias: str) -> GateReport:
    return judge.report(*gate_evidence.case(client(), reference, alias))


@kept_for(reads.CALM, most=64)
def measured(reference: str) -> Evaluation | None:
    """Of the newest evaluations of a version the one on most rows that has a figure with an interval; else
    the newest. Few rows that people chose to correct are not what a version is known by."""
    own = versions.get_version(client(), reference)
    newest = measured_evidence.evaluations_of(client(), own, limit=LOOKED_AT)
    sure = [entry for entry in newest if any(figure["low"] is not None for figure in entry["figures"])]
    return max(sure, key=lambda entry: entry["n"], default=next(iter(newest), None))


@kept_for(reads.CALM, most=32)
def lineage(reference: str) -> Lineage:
    return lineage_queries.lineage(client(), reference)


@kept_for(reads.CALM, most=32)
def card(reference: str) -> ModelCard:
    return card_queries.card(client(), reference)


@kept_for(reads.LIVE, most=4)
def registering() -> list[Job]:
    """What is being registered now, and what could not be, the newest last."""
    return jobs.unfinished(client(), KIND)
