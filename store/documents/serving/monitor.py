"""An endpoint's monitor: what it rests on, what it raises, and whom it tells."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypedDict

from store.documents.serving.drift import PaceWatch, TestState, WatchedName
from store.documents.serving.served_base import BaseLook

AlertKind = Literal["drift", "quality", "errors", "latency"]
AlertOutcome = Literal["same_reference", "new_normal"]


class ReferenceValue(TypedDict):
    """What the reference says of one watched value."""

    n: int  # rows that the test begins with
    bins: list[int]  # of a number: those with a value, rising
    names: list[str]  # of a category
    counts: list[int]  # of each of them
    why: str  # that it isn't watched, or is watched against the first requests; empty where neither


class ReferenceFacts(TypedDict):
    """What new requests are held against."""

    source: str  # in words: "the first 300 requests"
    rows: int
    fitted: int  # rows that distances and topics are measured from; not among those that tests begin with
    topics: list[str]  # names
    values: dict[WatchedName, ReferenceValue]
    fit: str  # file in the endpoint's folder `monitor`; empty where no text was kept


class Monitor(TypedDict):
    """A row of `monitor`."""

    endpoint_id: str
    config: dict[str, Any]  # store.config.serving.monitor_config.MonitorConfig
    revision: int
    next_place: int
    measured_place: int
    reference: ReferenceFacts | None
    states: list[TestState]
    changed_by_name: str
    changed_at: datetime
    base_look: BaseLook | None  # the last one; null: perplexity was never watched
    pace: PaceWatch | None  # null: no request was seen yet


class MonitorAlert(TypedDict):
    """A row of `monitor_alert`."""

    alert_id: str
    endpoint_id: str
    kind: AlertKind
    subject: str  # of drift the watched value; "slower", "failing": beside the reference; else what of it
    reason: str
    advice: str
    first_place: int | None
    last_place: int | None
    since: datetime
    raised_at: datetime
    acknowledged_by: str | None
    acknowledged_by_name: str | None
    acknowledged_at: datetime | None
    outcome: AlertOutcome | None
    note: str | None


class WatchOrder(TypedDict):
    """What a measuring of requests begins with; the requests lie in `requests.parquet` of the job's
    folder."""

    states: list[TestState]
    fit: str  # path of the file, beneath the home folder; empty where there is none
    log_threshold: float
    alpha: float  # of each watched value, a month: for what whole days say


class WatchResult(TypedDict):
    """What a measuring leaves: `signals.parquet`, of a reference `fit.npz` too, and this."""

    states: list[TestState]
    reference: ReferenceFacts | None  # of a measuring of the reference alone
    requests: int
    base_look: BaseLook | None  # where perplexity is watched


class WebhookSet(TypedDict):
    """Where alerts go; the secret is never read back."""

    webhook_id: str
    url: str
    set_by_name: str
    set_at: datetime


class WebhookDelivery(TypedDict):
    """One message to a webhook and what became of it."""

    delivery_id: str
    webhook_id: str
    alert_id: str | None
    body: str
    state: Literal["waiting", "sent", "given_up"]
    attempts: int
    next_at: datetime
    status: int | None
    trouble: str | None
    queued_at: datetime
    ended_at: datetime | None
