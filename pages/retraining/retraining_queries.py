"""Queries of the improvement pages."""

from __future__ import annotations

from datetime import datetime

from engine.registry import gate_report
from pages.shared.cached_queries import CALM, LIVE
from pages.shared.session import cached, get_client
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion
from store.core.rating_schemas import RoundSummary
from store.core.schemas import Job
from store.evaluation import evaluations
from store.evaluation.schemas import Evaluation
from store.jobs import job_queue
from store.monitoring import feedback as returned_queries
from store.monitoring import monitor_alerts
from store.monitoring.feedback import FeedbackTotals
from store.rating import rounds as round_queries
from store.registry import gate_checks, model_versions
from store.registry.schemas import GateReport
from store.retraining import improvements
from store.retraining.schemas import Improvement, ImprovementSchedule, ImprovementState
from store.serving import endpoint_status
from store.serving.schemas import EndpointStatus


@cached(LIVE, max_entries=64)
def list_improvements(model_id: str) -> list[Improvement]:
    return improvements.of_model(get_client(), model_id)


@cached(LIVE, max_entries=8)
def list_improvements_in(states: tuple[ImprovementState, ...]) -> list[Improvement]:
    """Improvements of all models in these states, oldest first."""
    return improvements.in_states(get_client(), states)


@cached(LIVE, max_entries=64)
def read_improvement(name: str) -> Improvement:
    return improvements.get(get_client(), name)


@cached(LIVE, max_entries=64)
def read_schedule(model_id: str) -> ImprovementSchedule | None:
    return improvements.schedule(get_client(), model_id)


@cached(LIVE, max_entries=64)
def read_model(name: str) -> ModelSummary:
    return model_versions.get_model(get_client(), name)


@cached(LIVE, max_entries=64)
def list_aliases(model_id: str) -> list[AliasState]:
    return model_versions.aliases(get_client(), model_id)


@cached(CALM, max_entries=64)
def read_version(reference: str) -> ModelVersion:
    return model_versions.get_version(get_client(), reference)


@cached(CALM, max_entries=64)
def list_returned(model_name: str, since: datetime | None) -> list[FeedbackTotals]:
    return returned_queries.returned(get_client(), model_name, since)


@cached(LIVE, max_entries=4)
def list_endpoints() -> list[EndpointStatus]:
    return endpoint_status.list_endpoints(get_client())


@cached(LIVE, max_entries=16)
def list_alert_ids(endpoint_id: str) -> list[str]:
    """Ids of an endpoint's alerts, acknowledged or not."""
    listed = [*monitor_alerts.open_alerts(get_client(), endpoint_id)]
    listed += monitor_alerts.past_alerts(get_client(), endpoint_id)
    return [alert.alert_id for alert in listed]


@cached(LIVE, max_entries=4)
def list_rounds() -> list[RoundSummary]:
    return round_queries.list_rounds(get_client())


@cached(LIVE, max_entries=64)
def read_round(round_id: str) -> RoundSummary:
    return round_queries.line(get_client(), round_id)


@cached(LIVE, max_entries=64)
def list_jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return job_queue.with_ids(get_client(), job_ids)


@cached(CALM, max_entries=64)
def read_evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(get_client(), evaluation_id)


@cached(CALM, max_entries=64, spinner="Checking the gate")
def check_alias_gate(reference: str, alias: str) -> GateReport:
    """The report of the alias's gate for a version."""
    return gate_report.build_gate_report(*gate_checks.case(get_client(), reference, alias))
