"""What a measuring of an endpoint's requests is told: the requests, the tests as they are, and the
reference."""

from __future__ import annotations

import pyarrow.parquet as pq

from engine.diagnostics.drift.watching import threshold
from engine.server.scheduling.served_bases import served_bases
from store.config.serving.monitor_config import DEAR, MonitorSettings, WatchConfig
from store.config.training.train_config import split_of
from store.contract.home import Home
from store.contract.jobdir import JobDir, write_json, written_aside
from store.db.database import Queryable
from store.documents.tables.job import Job
from store.documents.tables.job_order import OrderDetails
from store.queries.data import datasets
from store.queries.monitoring import monitors
from store.queries.monitoring.monitors import ReferenceRows


def of_watch(db: Queryable, job: Job) -> OrderDetails:
    """Raises NotFoundError where the data set of the reference is gone."""
    config = WatchConfig.parse(job["config"])
    monitor = monitors.find(db, config.endpoint_id)
    settings = monitors.settings(monitor)
    reference = monitor["reference"] if monitor else None
    details: OrderDetails = {
        "watch": {
            "states": monitor["states"] if monitor else [],
            "fit": reference["fit"] if reference else "",
            "log_threshold": threshold(settings.alpha, len(settings.watched)),
            "alpha": settings.alpha / len(settings.watched),
        }
    }
    if config.reference and config.source == "dataset":
        dataset = datasets.get_dataset(db, config.source_id)
        details["dataset"] = {
            "dataset_id": dataset["dataset_id"],
            "name": dataset["name"],
            "kind": dataset["kind"],
            "fingerprint": dataset["fingerprint"],
        }
        details["split"] = split_of({}, dataset)
    return details


def bring_requests(db: Queryable, home: Home, job: Job) -> None:
    """Put the requests into the job's folder, those that wait, or those that are the reference; and where
    their bases are, if answers are measured under them."""
    config = WatchConfig.parse(job["config"])
    settings = monitors.settings(monitors.find(db, config.endpoint_id))
    folder = JobDir(home.jobs / job["job_id"]).path
    if not config.reference:
        thinned = settings.one_of_caller_and_hour
        rows = monitors.requests_between(db, config.endpoint_id, config.first, config.end, thinned=thinned)
    elif config.source in ("first", "window"):
        rows = monitors.reference_requests(db, config.endpoint_id, reference_rows(settings))
    else:
        rows = None
    if rows is not None:
        with written_aside(folder / "requests.parquet") as unfinished:
            pq.write_table(rows, unfinished)
    if DEAR in (*settings.watched, *config.watched):
        versions = [] if rows is None else sorted({*rows["version"].to_pylist()})
        write_json(folder / "bases.json", served_bases(db, home, config.endpoint_id, versions))


def reference_rows(settings: MonitorSettings) -> ReferenceRows:
    """Which requests the settings mean by the reference."""
    window = settings.reference == "window"
    start, end = (settings.window_start, settings.window_end) if window else (None, None)
    return ReferenceRows(settings.reference_rows, start, end)
