"""What a measuring of requests brings into the store, in the transaction that ends its job.

Invariant: signals, figures, tests and the place up to which requests are measured move together, and a
measuring that began with other tests or at another place than there are now is left out and made again: no
value is counted twice, and none is left out.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.drift.watched import WATCHED, bins_of
from engine.server.scheduling.monitor_alerting import raise_drift
from store.config.serving.monitor_config import WatchConfig
from store.contract.home import Home
from store.contract.request_log import monitor_folder
from store.db.database import Transaction
from store.documents.serving.drift import WatchedName
from store.documents.serving.monitor import Monitor, WatchResult
from store.documents.tables.job import Job
from store.queries.monitoring import monitors

HOURS = pa.schema(
    [
        ("name", pa.string()),
        ("hour", pa.timestamp("us")),
        ("bin", pa.int32()),
        ("category", pa.string()),
        ("n", pa.int64()),
    ]
)


def keep_watch(tx: Transaction, home: Home, job: Job, result: WatchResult, at: float) -> None:
    """The reference, or signals and tests of new requests with the alerts that come of them."""
    config = WatchConfig.parse(job["config"])
    monitor = monitors.find(tx, config.endpoint_id)
    if monitor is None or monitor["revision"] != config.revision:
        return
    if (look := result.get("base_look")) is not None:
        monitors.keep_base_look(tx, config.endpoint_id, look)
    if config.reference:
        _keep_reference(tx, home, job, result, config)
    elif monitor["measured_place"] == config.first:
        _keep_requests(tx, home, job, result, config, monitor, at)


def _keep_reference(tx: Transaction, home: Home, job: Job, result: WatchResult, config: WatchConfig) -> None:
    facts = result["reference"]
    assert facts is not None  # of a measuring of the reference
    folder = monitor_folder(home, config.endpoint_id)
    folder.mkdir(parents=True, exist_ok=True)
    made, final = home.jobs / job["job_id"] / "fit.npz", folder / f"{job['job_id']}.npz"
    if made.exists():  # else an engine that was killed between the move and the commit has moved it
        os.replace(made, final)
    facts = {**facts, "fit": str(final.relative_to(home.path))}
    place = config.end if config.source == "first" else None
    monitors.keep_reference(tx, config.endpoint_id, facts, result["states"], place)


def _keep_requests(
    tx: Transaction,
    home: Home,
    job: Job,
    result: WatchResult,
    config: WatchConfig,
    monitor: Monitor,
    at: float,
) -> None:
    signals = pq.read_table(home.jobs / job["job_id"] / "signals.parquet")
    settings = monitors.settings(monitor)
    monitors.keep_measured(tx, config.endpoint_id, signals, result["states"], config.end)
    hours = pa.concat_tables([_hours(signals, name) for name in settings.watched])
    if len(hours):
        monitors.add_hours(tx, config.endpoint_id, hours)
    raise_drift(tx, config.endpoint_id, result["states"], settings, at)


def _hours(signals: pa.Table, name: WatchedName) -> pa.Table:
    """How often each bin, or name, of a value came in each hour."""
    present = signals.select(["asked_at", name]).drop_null()
    hour = present["asked_at"].to_numpy().astype("datetime64[h]").astype("datetime64[us]")
    watched = WATCHED[name]
    values = present[name]
    keys: list[Any] = (
        values.to_pylist() if watched.is_category else bins_of(watched.scale, values.to_numpy()).tolist()
    )
    counted: dict[tuple[object, object], int] = {}
    for moment, key in zip(hour.tolist(), keys, strict=True):
        counted[moment, key] = counted.get((moment, key), 0) + 1
    nothing = [None] * len(counted)
    names = [key for _, key in counted]
    columns = {
        "name": [name] * len(counted),
        "hour": [moment for moment, _ in counted],
        "bin": nothing if watched.is_category else names,
        "category": names if watched.is_category else nothing,
        "n": list(counted.values()),
    }
    return pa.table(columns, schema=HOURS)
