"""What the screens of improvements read."""

from __future__ import annotations

from datetime import datetime

from engine.diagnostics.gates import judge
from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, kept_for
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
from store.queries.monitoring import returned as returned_queries
from store.queries.monitoring.returned import Returned
from store.queries.rating import rounds as round_queries
from store.queries.shipping import gate_evidence, improvements, versions


@kept_for(LIVE, most=64)
def of_model(model_id: str) -> list[Improvement]:
    return improvements.of_model(client(), model_id)


@kept_for(LIVE, most=64)
def improvement(name: str) -> Improvement:
    return improvements.get(client(), name)


@kept_for(LIVE, most=64)
def schedule(model_id: str) -> ImprovementSchedule | None:
    return improvements.schedule(client(), model_id)


@kept_for(LIVE, most=64)
def model(name: str) -> ModelLine:
    return versions.get_model(client(), name)


@kept_for(LIVE, most=64)
def aliases(model_id: str) -> list[AliasNow]:
    return versions.aliases(client(), model_id)


@kept_for(CALM, most=64)
def version(reference: str) -> ModelVersion:
    return versions.get_version(client(), reference)


@kept_for(CALM, most=64)
def returned(model_name: str, since: datetime | None) -> list[Returned]:
    return returned_queries.returned(client(), model_name, since)


@kept_for(LIVE, most=4)
def endpoints() -> list[EndpointSeen]:
    return client().endpoints()


@kept_for(LIVE, most=16)
def alert_ids(endpoint_id: str) -> list[str]:
    """Of the alerts of an endpoint, seen or not."""
    listed = [*monitor_alerts.open_alerts(client(), endpoint_id)]
    listed += monitor_alerts.past_alerts(client(), endpoint_id)
    return [alert["alert_id"] for alert in listed]


@kept_for(LIVE, most=4)
def rounds() -> list[RoundLine]:
    return round_queries.list_rounds(client())


@kept_for(LIVE, most=64)
def round_line(round_id: str) -> RoundLine:
    return round_queries.line(client(), round_id)


@kept_for(LIVE, most=64)
def jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return jobs.with_ids(client(), job_ids)


@kept_for(CALM, most=64)
def evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(client(), evaluation_id)


@kept_for(CALM, most=64, spinner="Judging the version")
def alias_gate(reference: str, alias: str) -> GateReport:
    """The version at the gate that the alias has for every version."""
    return judge.report(*gate_evidence.case(client(), reference, alias))
