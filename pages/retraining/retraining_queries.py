"""What the screens of improvements read."""

from __future__ import annotations

from datetime import datetime

from engine.registry import gate_report
from pages.shared.cached_queries import CALM, LIVE
from pages.shared.session import client, kept_for
from store.core.model_schemas import AliasNow, ModelLine, ModelVersion
from store.core.rating_schemas import RoundLine
from store.core.schemas import Job
from store.evaluation import evaluations
from store.evaluation.schemas import Evaluation
from store.jobs import job_queue
from store.monitoring import feedback as returned_queries
from store.monitoring import monitor_alerts
from store.monitoring.feedback import Returned
from store.rating import rounds as round_queries
from store.registry import gate_evidence, model_versions
from store.registry.schemas import GateReport
from store.retraining import improvements
from store.retraining.schemas import Improvement, ImprovementSchedule
from store.serving.schemas import EndpointSeen


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
    return model_versions.get_model(client(), name)


@kept_for(LIVE, most=64)
def aliases(model_id: str) -> list[AliasNow]:
    return model_versions.aliases(client(), model_id)


@kept_for(CALM, most=64)
def version(reference: str) -> ModelVersion:
    return model_versions.get_version(client(), reference)


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
    return job_queue.with_ids(client(), job_ids)


@kept_for(CALM, most=64)
def evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(client(), evaluation_id)


@kept_for(CALM, most=64, spinner="Judging the version")
def alias_gate(reference: str, alias: str) -> GateReport:
    """The version at the gate that the alias has for every version."""
    return gate_report.report(*gate_evidence.case(client(), reference, alias))
