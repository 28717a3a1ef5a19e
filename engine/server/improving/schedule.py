"""The schedule of a model's improvements: one begins by itself once enough was said of its answers. A person
promotes, always."""

from __future__ import annotations

from engine.server.improving.acting import may_act
from engine.server.improving.beginning import Beginning
from engine.server.scheduling import gather_orders
from engine.server.scheduling.monitor_alerting import Warned, raise_alert
from store.config.shipping.improve_config import (
    ImproveConfig,
    ImproveSchedule,
    ImproveSettings,
    RowsOfFeedback,
)
from store.contract.errors import TunebenchError
from store.contract.steady_clock import is_recent
from store.db.database import Database, Queryable, Transaction
from store.documents.tables.improvement import AT_WORK, ImprovementSchedule
from store.queries import jobs
from store.queries.monitoring import feedback
from store.queries.shipping import improvements

SUBJECT = "improvement"  # of the alert that one could not begin


def look(database: Database, beginning: Beginning, schedule: ImprovementSchedule, at: float) -> None:
    """Where it is due, count what was said since the last improvement began, and begin the next one."""
    last = schedule["last_at"]
    config = ImproveSchedule.parse(schedule["config"])
    if last is not None and is_recent(jobs.epoch(last), at, config.every_hours * 3_600):
        return
    model_id, by = schedule["model_id"], (schedule["set_by"], schedule["set_by_name"])
    if any(each["state"] in AT_WORK for each in improvements.of_model(database, model_id)):
        return
    rows: int | None = None
    try:
        may_act(database, *by)
        rows = new_rows(database, model_id, config)
        with database.acting(by[0], lambda tx: None), database.transaction() as tx:
            if improvements.schedule(tx, model_id) != schedule:
                return  # somebody has changed it meanwhile
            if rows >= config.least_rows:
                asked = {name: getattr(config, name) for name in ImproveSettings.model_fields}
                beginning.begin(tx, ImproveConfig.model_validate(asked), by, scheduled=True)
            improvements.looked(tx, model_id, jobs.utc(at), rows, None)
    except TunebenchError as error:
        with database.transaction() as tx:
            improvements.looked(tx, model_id, jobs.utc(at), rows, error.to_dict())
            _warn(tx, config, error, at)


def new_rows(db: Queryable, model_id: str, config: ImproveSettings) -> int:
    """Requests of which something was said since the last improvement of the model began. Raises
    NotFoundError where an endpoint is gone."""
    since, count = improvements.last_begun(db, model_id), 0
    for source in config.rows:
        if isinstance(source, RowsOfFeedback):
            which = gather_orders.chosen_feedback(db, source)
            starts = [moment for moment in (which.start, since) if moment is not None]
            count += feedback.count_words(db, which._replace(start=max(starts, default=None)))
    return count


def _warn(tx: Transaction, config: ImproveSchedule, error: TunebenchError, at: float) -> None:
    """On the endpoint whose feedback was to be brought back, as far as it is still there."""
    for source in config.rows:
        if isinstance(source, RowsOfFeedback):
            reason = f"The improvement of {config.model} on a schedule can't begin. {error.message}"
            advice = error.fix or "Change the schedule on the page Models."
            try:
                endpoint_id = gather_orders.chosen_feedback(tx, source).endpoint_id
            except TunebenchError:
                continue  # the schedule's own trouble says so
            raise_alert(tx, endpoint_id, Warned("quality", SUBJECT, reason, advice, at), at)
