"""What jobs want their users to know."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class Alert(TypedDict):
    """A row of table `alert`."""

    job_id: str
    level: str  # info | warning
    message: str
    raised_at: datetime
    kind: str | None  # of a verdict, once a job: store.queries.alerts.KINDS
    step: int | None  # that it is about


class VerdictAlert(TypedDict):
    """An alert of a verdict in the list of a run."""

    kind: str
    step: int | None
    message: str


class RunAlerts(TypedDict):
    """A run with the alerts of its verdict, oldest first."""

    run_id: str
    number: int
    name: str
    status: str
    raised_at: datetime  # of the last
    alerts: list[VerdictAlert]
