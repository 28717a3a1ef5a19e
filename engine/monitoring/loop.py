"""The monitoring loop of the engine, as one function of time: `MonitoringLoop.step(now)`.

A step ingests gateway logs, queues checks of new requests, tests latency and errors in the engine itself, and
runs limits and schedules. It never waits and keeps no state outside the store: the next engine continues
where this one was killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import get_args

from engine.monitoring.alerts import raise_alert, raise_pace_alerts
from engine.monitoring.checks import MonitorSchedules, check_pairs, find_exceeded_limits
from engine.monitoring.job_handlers import select_reference_rows
from engine.monitoring.sequential_tests import (
    PACES,
    PacedRequest,
    advance_pace_test,
    begin_pace_test,
    compute_pace_threshold,
)
from engine.server.file_removal import remove_noted
from engine.serving.endpoint_folders import EndpointFolder
from store.core.home import Home
from store.core.job_folder import MAX_READ, read_events
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import Monitor, PaceTest, PaceWatch
from store.core.processes import is_recent
from store.core.schemas import Job
from store.data import datasets
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.jobs import job_queue
from store.monitoring import monitors
from store.monitoring.config import MonitorSettings, WatchConfig
from store.monitoring.log_ingest import (
    LogBatch,
    Series,
    get_next_file,
    has_endpoint,
    ingest_batch,
    list_log_files,
    read_offsets,
)

log = logging.getLogger(__name__)


def list_endpoint_folders(home: Home) -> list[str]:
    """Ids of endpoints that have a folder."""
    try:
        return sorted(path.name for path in (home.path / "endpoints").iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def ingest_logs(database: Database, home: Home, endpoint_id: str, at: float) -> bool:
    """Ingest new lines of each log file once; True if a file has more. Requests come first, so that feedback
    finds them."""
    if not has_endpoint(database, endpoint_id):
        return False
    past, more = read_offsets(database, endpoint_id), False
    for series, path in _list_files(home, endpoint_id):
        offset = past.get(path.name, 0)
        if path.stat().st_size <= offset:
            continue
        lines, end = read_events(path, offset)
        if end > offset:
            ingest_batch(
                database, LogBatch(endpoint_id, series, path.name, lines, offset, end), job_queue.to_utc(at)
            )
            more = more or end - offset > MAX_READ // 2
    return more


def delete_old_files(database: Database, home: Home, endpoint_id: str, days: int, at: float) -> int:
    """Delete ingested files that were last written more than `days` days ago; returns how many. For a stopped
    endpoint its own log retention counts too. The newest file of a series is deleted only for a stopped
    endpoint, and leaves an empty successor, so that numbers are never reused."""
    past, count = read_offsets(database, endpoint_id), 0
    folder = EndpointFolder(home, endpoint_id)
    wanted = database.query("SELECT wanted FROM endpoint WHERE endpoint_id = ?", [endpoint_id])["wanted"]
    stopped = all(state == "stopped" for state in wanted.to_pylist()) and folder.get_process() is None
    if stopped and (config := folder.read_config()):
        days = min(days, config.log.days)
    before = job_queue.to_utc(at) - timedelta(days=days, hours=1)
    for series in get_args(Series):
        files = list_log_files(home, endpoint_id, series)
        for path in files if stopped else files[:-1]:
            about, newest = path.stat(), path == files[-1]
            if newest and not about.st_size:
                continue
            written = job_queue.to_utc(about.st_mtime)
            if written < before and past.get(path.name, 0) >= about.st_size:
                if newest:
                    get_next_file(path).touch(mode=0o600)
                path.unlink(missing_ok=True)
                count += 1
    return count


def _list_files(home: Home, endpoint_id: str) -> Iterator[tuple[Series, Path]]:
    for series in get_args(Series):
        for path in list_log_files(home, endpoint_id, series):
            yield series, path


PACE_BATCH = 20_000  # requests per batch: a few tenths of a second


def follow_pace(database: Database, endpoint_id: str, at: float) -> bool:
    """Advance the tests by new requests and raise their alerts; returns whether there were any. A request
    counts exactly once: tests and place are stored together, and only if nobody has reset the tests
    meanwhile."""
    monitor = monitors.find(database, endpoint_id)
    if monitor is None:
        return False
    settings = monitors.get_settings(monitor)
    before = _begin_pace_watch(database, monitor)
    if before is None:
        return False
    rows = monitors.read_timed_requests(database, endpoint_id, before.place, PACE_BATCH)
    if not len(rows):
        return False
    columns = [rows[name].to_pylist() for name in PacedRequest._fields]
    requests = [PacedRequest(*row) for row in zip(*columns, strict=True)]
    limit = compute_pace_threshold(settings.alpha)
    tests = [_advance_alone(test, requests, limit) for test in before.tests]
    after = PaceWatch(place=requests[-1].place + 1, tests=tests)
    with database.transaction() as tx:
        present = monitors.find(tx, endpoint_id)
        if present is None or (present.pace, present.revision) != (
            monitor.pace,
            monitor.revision,
        ):
            return False
        monitors.save_pace(tx, endpoint_id, after)
        raise_pace_alerts(tx, endpoint_id, tests, settings, at)
    return True


def _advance_alone(test: PaceTest, requests: Sequence[PacedRequest], limit: float) -> PaceTest:
    """A test that fails on these requests keeps its state, continues with the next ones, and does not stop
    others."""
    try:
        return advance_pace_test(test, requests, limit)
    except Exception:
        log.exception(
            "The test %r can't take requests %d to %d", test.name, requests[0].place, requests[-1].place
        )
        return test


def _begin_pace_watch(db: Queryable, monitor: Monitor) -> PaceWatch | None:
    """The current tests, or new ones; None while the reference window has no requests."""
    watch: PaceWatch = monitor.pace or PaceWatch(place=0, tests=[])
    if watch.tests:
        return watch
    settings = monitors.get_settings(monitor)
    place, ends_at = watch.place, None
    if settings.reference == "window":
        which = select_reference_rows(settings)
        first = monitors.find_window_start(db, monitor.endpoint_id, which)
        if first is None or which.end is None:
            return None
        place, ends_at = first, job_queue.to_epoch(which.end)
    tests = [begin_pace_test(name, settings.reference_rows, ends_at=ends_at) for name in PACES]
    return PaceWatch(place=place, tests=tests)


# The monitoring loop: see the docstring of the module. All state is in the store, so that the next engine
# continues where this one was killed.


TAIL_SECONDS = 1.0  # between log reads, with endpoints
IDLE_SECONDS = 10.0  # between log reads, without endpoints
MEASURE_SECONDS = 30.0  # between checks of an endpoint
RETRY_SECONDS = 600.0  # after a failed check
LIMITS_SECONDS = 60.0
TIDY_SECONDS = 3_600.0
BATCH = 2_000  # requests per check
MIN_WINDOW = 60  # requests in a reference window


class MonitoringLoop:
    """The monitors of one store. schedules: scheduled evaluations and checks."""

    def __init__(
        self,
        database: Database,
        home: Home,
        schedules: MonitorSchedules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.home, self.clock = database, home, clock
        self.schedules = schedules
        self._done_at: dict[tuple[str, str], float] = {}  # (task, endpoint) -> when it was last done
        self._troubled: dict[tuple[str, str], str] = {}

    def step(self, now: float | None = None) -> float:
        """Update all monitors; returns the seconds until the next step."""
        at = self.clock() if now is None else now
        folders, more = list_endpoint_folders(self.home), False
        for endpoint_id in folders:
            more = self._guarded("tail", endpoint_id, self._tail, at) or more
        for monitor in monitors.list_monitors(self.database):
            endpoint_id = monitor.endpoint_id
            for task, every, act in (
                ("measure", MEASURE_SECONDS, self._measure),
                ("pace", MEASURE_SECONDS, self._follow_pace),
                ("limits", LIMITS_SECONDS, self._hold_limits),
                ("golden", LIMITS_SECONDS, self.schedules.ask_for_golden),
                ("bias", LIMITS_SECONDS, self.schedules.ask_for_bias),
                ("side by side", LIMITS_SECONDS, self._look_at_pairs),
                ("tidy", TIDY_SECONDS, self._tidy),
            ):
                if not is_recent(self._done_at.get((task, endpoint_id), float("-inf")), at, every):
                    self._done_at[task, endpoint_id] = at
                    self._guarded(task, endpoint_id, act, at)
        if not is_recent(self._done_at.get(("gone", ""), float("-inf")), at, MEASURE_SECONDS):
            self._done_at["gone", ""] = at
            self._guarded("gone", "", self._forget_gone, at)
        return 0.0 if more else TAIL_SECONDS if folders else IDLE_SECONDS

    def _guarded(self, task: str, endpoint_id: str, act: Callable[[str, float], bool], at: float) -> bool:
        """Isolate failures of one endpoint from the others."""
        try:
            done = act(endpoint_id, at)
        except Exception as error:
            if self._troubled.get((task, endpoint_id)) != repr(error):  # log once, not at every step
                log.error("%s of the endpoint %s failed", task, endpoint_id, exc_info=error)
            self._troubled[task, endpoint_id] = repr(error)
            return False
        self._troubled.pop((task, endpoint_id), None)
        return done

    def _tail(self, endpoint_id: str, at: float) -> bool:
        return ingest_logs(self.database, self.home, endpoint_id, at)

    # -- measuring ----------------------------------------------------------------------------------

    def _measure(self, endpoint_id: str, at: float) -> bool:
        """Queue a check of new requests, or of the reference; one at a time per endpoint."""
        past = [job for job in _list_watch_jobs(self.database) if job.config["endpoint_id"] == endpoint_id]
        if any(job.status in ALIVE for job in past):
            return False
        self._forget([job for job in past[1:] if job.status not in ALIVE])
        if past and past[0].status != "finished":
            ended_at = job_queue.to_epoch(past[0].ended_at) if past[0].ended_at else 0.0
            if is_recent(ended_at, at, RETRY_SECONDS):
                return False
        with self.database.transaction() as tx:
            monitor = monitors.find(tx, endpoint_id)
            config = _plan_next_look(tx, monitor) if monitor else None
            if config is None:
                return False
            names = {each.endpoint_id: each.name for each in monitors.endpoints(tx)}
            what = "Compute the reference of" if config.reference else "Check requests of"
            job_id = job_queue.create_id("job", at)
            document = config.model_dump()
            title = f"{what} {names.get(endpoint_id, endpoint_id)}"
            job_queue.insert(tx, job_queue.NewJob(job_id, monitors.KIND, title, document, at))
        return True

    def _forget_gone(self, _: str, at: float) -> bool:
        """Delete checks of deleted endpoints, which contain texts."""
        there = {monitor.endpoint_id for monitor in monitors.list_monitors(self.database)}
        past = [job for job in _list_watch_jobs(self.database) if job.config["endpoint_id"] not in there]
        self._forget([job for job in past if job.status not in ALIVE])
        return False

    def _forget(self, past: list[Job]) -> None:
        """Delete finished checks; their results are in the store."""
        for job in past:
            with self.database.transaction() as tx:
                job_queue.delete(tx, job.job_id)
                job_queue.note_removals(tx, self.home, [self.home.jobs / job.job_id])
        if past:
            remove_noted(self.database, self.home)

    # -- limits, schedule, retention ----------------------------------------------------------------

    def _hold_limits(self, endpoint_id: str, at: float) -> bool:
        settings = monitors.get_settings(monitors.find(self.database, endpoint_id))
        warned = find_exceeded_limits(self.database, endpoint_id, settings, job_queue.to_utc(at))
        if warned:
            with self.database.transaction() as tx:
                for each in warned if monitors.find(tx, endpoint_id) else ():
                    raise_alert(tx, endpoint_id, each, at)
        return bool(warned)

    def _follow_pace(self, endpoint_id: str, at: float) -> bool:
        return follow_pace(self.database, endpoint_id, at)

    def _look_at_pairs(self, endpoint_id: str, at: float) -> bool:
        check_pairs(self.database, self.home, endpoint_id, at)
        return False

    def _tidy(self, endpoint_id: str, at: float) -> bool:
        """Delete data past its retention; requests that were not processed by then never reach the tests."""
        settings = monitors.get_settings(monitors.find(self.database, endpoint_id))
        before = job_queue.to_utc(at) - timedelta(days=settings.keep_days)
        with self.database.transaction() as tx:
            count = monitors.forget_before(tx, endpoint_id, before)
        count += delete_old_files(self.database, self.home, endpoint_id, settings.keep_days, at)
        return bool(count)


def _list_watch_jobs(database: Database) -> list[Job]:
    """Jobs that check requests, the newest first."""
    return job_queue.list_of_kind(database, monitors.KIND)


def _plan_next_look(tx: Transaction, monitor: Monitor) -> WatchConfig | None:
    """The next check; None if there are no new requests, or too few for a reference."""
    settings = monitors.get_settings(monitor)
    endpoint_id = monitor.endpoint_id
    if monitor.reference is None:
        return _plan_reference_look(tx, monitor, settings)
    first = monitor.measured_place
    if first >= monitor.next_place:
        return None
    end = monitors.find_batch_end(tx, endpoint_id, first, BATCH)
    if end == first:  # all were deleted
        monitors.skip_to(tx, endpoint_id, monitor.next_place)
        return None
    return WatchConfig(endpoint_id=endpoint_id, revision=monitor.revision, first=first, end=end)


def _plan_reference_look(tx: Transaction, monitor: Monitor, settings: MonitorSettings) -> WatchConfig | None:
    endpoint_id, source = monitor.endpoint_id, settings.reference
    end, source_id, source_name = 0, "", ""
    if source in ("first", "window"):
        which = select_reference_rows(settings)
        needed = which.most if source == "first" else MIN_WINDOW
        if monitors.reference_count(tx, endpoint_id, which) < needed:
            return None
        end = monitors.get_reference_end(tx, endpoint_id, which)
        if source == "window":
            source_name = f" from {which.start:%d %b %Y %H:%M} to {which.end:%d %b %Y %H:%M} UTC"
    elif source == "dataset":
        dataset = datasets.get_dataset(tx, settings.dataset)
        source_id, source_name = dataset.dataset_id, dataset.name
    else:
        evaluation = evaluations.get(tx, settings.evaluation)
        source_id, source_name = evaluation.evaluation_id, evaluation.name
    return WatchConfig(
        endpoint_id=endpoint_id,
        revision=monitor.revision,
        end=end,
        reference=True,
        source=source,
        source_id=source_id,
        source_name=source_name,
        rows=settings.reference_rows,
        watched=settings.watched,
        seed=monitor.revision,
    )
