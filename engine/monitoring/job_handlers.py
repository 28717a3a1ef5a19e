"""Inputs and results of the monitoring jobs (`watch`, `judge_requests`).

Invariant: signals, figures, tests and the measured place move together. A result of other tests or another
place is discarded and computed again, so that no value counts twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.monitoring.alerts import raise_drift_alerts
from engine.monitoring.drift import WATCHED_SIGNALS, compute_bins, compute_log_threshold
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.job_folder import JobDir, write_atomically, write_json
from store.core.monitoring_schemas import (
    Monitor,
    ServedBase,
    ServedBases,
    WatchedName,
    WatchResult,
)
from store.core.schemas import Job
from store.core.version_folders import is_reference
from store.data import datasets
from store.db.database import Queryable, Transaction
from store.jobs.schemas import JobSpecDetails
from store.monitoring import logged_requests, monitors
from store.monitoring.config import EXPENSIVE, MonitorSettings, RequestJudgingConfig, WatchConfig
from store.monitoring.log_ingest import get_monitor_folder
from store.monitoring.logged_requests import JudgingWindow
from store.monitoring.monitors import ReferenceRows
from store.registry import model_versions
from store.runs import runs
from store.runs.schemas import Run
from store.serving import endpoints
from store.serving.config import EndpointSettings, RouteChoice

# Where to find the base model of each version that answered an endpoint's requests.
#
# A log contains only names of versions: NAME@3, a run, a model in the home folder, a folder or file, or a
# model on another server. The worker checks whether the files exist.

REMOTE = "served by another server, base model unknown"
GGUF = "GGUF file, base model unknown"


def find_served_bases(db: Queryable, home: Home, endpoint_id: str, asked: Sequence[str]) -> ServedBases:
    """Base models of these versions, and of the live version of the endpoint's first model."""
    settings = EndpointSettings.parse(endpoints.get(db, endpoint_id).settings)
    routes = [route for model in settings.models for route in model.routes]
    live = _resolve_version(db, next(route for route in settings.models[0].routes if route.role == "live"))
    return {"live": live, "bases": {name: _find_base(db, home, name, routes) for name in {*asked, live}}}


def _resolve_version(db: Queryable, route: RouteChoice) -> str:
    """The name in the log; a deleted alias stays as it is, and has no base model."""
    subject = route.subject
    if route.remote is not None:
        return f"{route.remote.model} at {subject}"
    if is_reference(subject):
        try:
            version = model_versions.get_version(db, subject)
        except TunebenchError:
            return subject
        return f"{version.name}@{version.version}"
    path = Path(subject).expanduser()
    return path.name if path.is_absolute() else subject


def _find_base(db: Queryable, home: Home, version: str, routes: Sequence[RouteChoice]) -> ServedBase:
    if any(route.remote is not None and _resolve_version(db, route) == version for route in routes):
        return _build_unknown_base(REMOTE)
    if is_reference(version):
        return _build_base_of_model(version)
    if Path(version).name == version and (home.models / version).is_dir():
        return _build_base_of_model(version)
    for route in routes:
        path = Path(route.subject).expanduser()
        if path.is_absolute() and path.name == version:
            is_gguf = path.suffix == ".gguf" or next(path.glob("*.gguf"), None) is not None
            return _build_unknown_base(GGUF) if is_gguf else _build_base_of_model(str(path))
    if " at http" in version:
        return _build_unknown_base(REMOTE)
    for name in (
        *(route.subject for route in routes),
        version,
    ):  # among runs with the same name the served one
        run = _find_run(db, name)
        if run is not None and version in (run.run_id, run.name):
            return {"model": "", "run": run.run_id, "why": ""}
    return _build_unknown_base(f"model of version {version} not found")


def _find_run(db: Queryable, name: str) -> Run | None:
    try:
        return runs.get_only_run(db, name)
    except TunebenchError:  # none or several with that name
        return None


def _build_base_of_model(name: str) -> ServedBase:
    return {"model": name, "run": "", "why": ""}


def _build_unknown_base(why: str) -> ServedBase:
    return {"model": "", "run": "", "why": why}


def build_watch_spec(db: Queryable, job: Job) -> JobSpecDetails:
    """Raises NotFoundError if the data set of the reference was deleted."""
    config = WatchConfig.parse(job.config)
    monitor = monitors.find(db, config.endpoint_id)
    settings = monitors.get_settings(monitor)
    reference = monitor.reference if monitor else None
    details: JobSpecDetails = {
        "watch": {
            "states": monitor.states if monitor else [],
            "fit": reference.fit if reference else "",
            "log_threshold": compute_log_threshold(settings.alpha, len(settings.watched)),
            "alpha": settings.alpha / len(settings.watched),
        }
    }
    if config.reference and config.source == "dataset":
        dataset = datasets.get_dataset(db, config.source_id)
        details["dataset"] = {
            "dataset_id": dataset.dataset_id,
            "name": dataset.name,
            "kind": dataset.kind,
            "fingerprint": dataset.fingerprint,
        }
        details["split"] = datasets.get_split_fields(dataset)
    return details


def stage_requests(db: Queryable, home: Home, job: Job) -> None:
    """Write new requests, or those of the reference, into the job's folder, with the location of base models
    if responses are scored."""
    config = WatchConfig.parse(job.config)
    settings = monitors.get_settings(monitors.find(db, config.endpoint_id))
    folder = JobDir(home.jobs / job.job_id).path
    if not config.reference:
        thinned = settings.one_of_caller_and_hour
        rows = monitors.read_requests_between(
            db, config.endpoint_id, config.first, config.end, thinned=thinned
        )
    elif config.source in ("first", "window"):
        rows = monitors.read_reference_requests(db, config.endpoint_id, select_reference_rows(settings))
    else:
        rows = None
    if rows is not None:
        with write_atomically(folder / "requests.parquet") as unfinished:
            pq.write_table(rows, unfinished)
    if EXPENSIVE in (*settings.watched, *config.watched):
        versions = [] if rows is None else sorted({*rows["version"].to_pylist()})
        write_json(folder / "bases.json", find_served_bases(db, home, config.endpoint_id, versions))


def select_reference_rows(settings: MonitorSettings) -> ReferenceRows:
    """The requests that the settings define as the reference."""
    window = settings.reference == "window"
    start, end = (settings.window_start, settings.window_end) if window else (None, None)
    return ReferenceRows(settings.reference_rows, start, end)


# Results of a check are stored in the transaction that ends its job.
#
# Invariant: signals, figures, tests and the measured place move together. A check that started from other
# tests or another place is discarded and repeated, so that no value is counted twice or skipped.

HOURS_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("hour", pa.timestamp("us")),
        ("bin", pa.int32()),
        ("category", pa.string()),
        ("n", pa.int64()),
    ]
)


def save_watch_result(tx: Transaction, home: Home, job: Job, result: WatchResult, at: float) -> None:
    """Store the reference, or the signals and tests of new requests, and raise alerts."""
    config = WatchConfig.parse(job.config)
    monitor = monitors.find(tx, config.endpoint_id)
    if monitor is None or monitor.revision != config.revision:
        return
    if (look := result.get("base_look")) is not None:
        monitors.save_base_measurement(tx, config.endpoint_id, look)
    if config.reference:
        _save_reference(tx, home, job, result, config)
    elif monitor.measured_place == config.first:
        _save_requests(tx, home, job, result, config, monitor, at)


def _save_reference(tx: Transaction, home: Home, job: Job, result: WatchResult, config: WatchConfig) -> None:
    facts = result["reference"]
    assert facts is not None  # set for a check of the reference
    folder = get_monitor_folder(home, config.endpoint_id)
    folder.mkdir(parents=True, exist_ok=True)
    made, final = home.jobs / job.job_id / "fit.npz", folder / f"{job.job_id}.npz"
    if made.exists():  # otherwise it was moved before a crash that preceded the commit
        os.replace(made, final)
    facts = replace(facts, fit=str(final.relative_to(home.path)))
    place = config.end if config.source == "first" else None
    monitors.save_reference(tx, config.endpoint_id, facts, result["states"], place)


def _save_requests(
    tx: Transaction,
    home: Home,
    job: Job,
    result: WatchResult,
    config: WatchConfig,
    monitor: Monitor,
    at: float,
) -> None:
    signals = pq.read_table(home.jobs / job.job_id / "signals.parquet")
    settings = monitors.get_settings(monitor)
    monitors.save_measured(tx, config.endpoint_id, signals, result["states"], config.end)
    hours = pa.concat_tables([_count_by_hour(signals, name) for name in settings.watched])
    if len(hours):
        monitors.add_hours(tx, config.endpoint_id, hours)
    raise_drift_alerts(tx, config.endpoint_id, result["states"], settings, at)


def _count_by_hour(signals: pa.Table, name: WatchedName) -> pa.Table:
    """Counts of a value by hour and bin or name."""
    present = signals.select(["asked_at", name]).drop_null()
    hour = present["asked_at"].to_numpy().astype("datetime64[h]").astype("datetime64[us]")
    watched = WATCHED_SIGNALS[name]
    values = present[name]
    keys: list[Any] = (
        values.to_pylist() if watched.is_category else compute_bins(watched.scale, values.to_numpy()).tolist()
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
    return pa.table(columns, schema=HOURS_SCHEMA)


JUDGEMENTS_FILE = "judgements.parquet"


def build_judging_spec(db: Queryable, job: Job) -> JobSpecDetails:
    """The number of requests in the window."""
    return {"judging": logged_requests.count_window(db, JudgingWindow.of(job))}


def stage_answers(db: Queryable, home: Home, job: Job) -> None:
    """Write the responses to judge into the job's folder."""
    config = RequestJudgingConfig.parse(job.config)
    rows = logged_requests.select_for_judging(db, JudgingWindow.of(job), config.rows, config.seed)
    with write_atomically(JobDir(home.jobs / job.job_id).path / "requests.parquet") as unfinished:
        pq.write_table(rows, unfinished)


def save_judging_result(tx: Transaction, home: Home, job: Job, result: Any, at: float) -> None:
    """Store the verdicts if the endpoint still exists."""
    endpoint_id = job.config["endpoint"]
    if any(each.endpoint_id == endpoint_id for each in monitors.endpoints(tx)):
        table = pq.read_table(home.jobs / job.job_id / JUDGEMENTS_FILE)
        logged_requests.save_judging(tx, job.job_id, endpoint_id, table)
