"""What the engine does with endpoints' logs, as one function of the time: `Monitoring.step(now)`.

A step takes in what gateways have written, queues the measuring of new requests, tests their times and
failures, holds limits, asks for the evaluations of a schedule, and deletes what is too old. It never waits,
and all that it must remember is in the store: a step of the next engine goes on where this one was killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from engine.server.monitoring.limits import over_limits
from engine.server.monitoring.pace_following import follow_pace
from engine.server.monitoring.schedules import Schedules
from engine.server.monitoring.side_by_side import look_at_pairs
from engine.server.monitoring.tailing import endpoint_folders, forget_files, take_logs
from engine.server.scheduling.monitor_alerting import raise_alert
from engine.server.scheduling.removing import remove_noted
from engine.server.scheduling.watch_orders import reference_rows
from store.config.serving.monitor_config import MonitorSettings, WatchConfig
from store.contract.home import Home
from store.contract.states import ALIVE
from store.contract.steady_clock import is_recent
from store.db.database import Database, Transaction
from store.documents.serving.monitor import Monitor
from store.documents.tables.job import Job
from store.queries import jobs, removals
from store.queries.data import datasets
from store.queries.evaluations import evaluations
from store.queries.monitoring import monitors

log = logging.getLogger(__name__)

TAIL_SECONDS = 1.0  # between two looks at the logs while an endpoint is there
NONE_SECONDS = 10.0  # and while none is
MEASURE_SECONDS = 30.0  # between two measurings of an endpoint
AGAIN_SECONDS = 600.0  # after one that failed
LIMITS_SECONDS = 60.0
TIDY_SECONDS = 3_600.0
BATCH = 2_000  # requests that are measured at a time
LEAST_WINDOW = 60  # requests of a reference that is a window


class Monitoring:
    """The monitors of one store. `schedules` has what is asked for again and again."""

    def __init__(
        self,
        database: Database,
        home: Home,
        schedules: Schedules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.home, self.clock = database, home, clock
        self.schedules = schedules
        self._done_at: dict[tuple[str, str], float] = {}  # (task, endpoint) -> when it was last done
        self._troubled: dict[tuple[str, str], str] = {}

    def step(self, now: float | None = None) -> float:
        """Bring the monitors up to date; the seconds that may pass until the next step."""
        at = self.clock() if now is None else now
        folders, more = endpoint_folders(self.home), False
        for endpoint_id in folders:
            more = self._guarded("tail", endpoint_id, self._tail, at) or more
        for monitor in monitors.all_monitors(self.database):
            endpoint_id = monitor["endpoint_id"]
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
        return 0.0 if more else TAIL_SECONDS if folders else NONE_SECONDS

    def _guarded(self, task: str, endpoint_id: str, act: Callable[[str, float], bool], at: float) -> bool:
        """One endpoint behind the border: what goes wrong with it must not hold up the others."""
        try:
            done = act(endpoint_id, at)
        except Exception as error:
            if self._troubled.get((task, endpoint_id)) != repr(error):  # once, not at every step
                log.error("%s of the endpoint %s failed", task, endpoint_id, exc_info=error)
            self._troubled[task, endpoint_id] = repr(error)
            return False
        self._troubled.pop((task, endpoint_id), None)
        return done

    def _tail(self, endpoint_id: str, at: float) -> bool:
        return take_logs(self.database, self.home, endpoint_id, at)

    # -- measuring ----------------------------------------------------------------------------------

    def _measure(self, endpoint_id: str, at: float) -> bool:
        """Queue a look at the requests that wait, or at the reference; one at a time of an endpoint."""
        past = [job for job in _looks(self.database) if job["config"]["endpoint_id"] == endpoint_id]
        if any(job["status"] in ALIVE for job in past):
            return False
        self._forget([job for job in past[1:] if job["status"] not in ALIVE])
        if past and past[0]["status"] != "finished" and is_recent(_ended(past[0]), at, AGAIN_SECONDS):
            return False
        with self.database.transaction() as tx:
            monitor = monitors.find(tx, endpoint_id)
            config = _next_look(tx, monitor) if monitor else None
            if config is None:
                return False
            name = _name(tx, endpoint_id)
            what = "Learn the reference of" if config.reference else "Look at requests of"
            job_id = jobs.new_id("job", at)
            document = config.model_dump()
            jobs.insert(tx, jobs.NewJob(job_id, monitors.KIND, f"{what} {name}", document, at))
        return True

    def _forget_gone(self, _: str, at: float) -> bool:
        """Forget looks at endpoints that were deleted, which hold texts too."""
        there = {monitor["endpoint_id"] for monitor in monitors.all_monitors(self.database)}
        past = [job for job in _looks(self.database) if job["config"]["endpoint_id"] not in there]
        self._forget([job for job in past if job["status"] not in ALIVE])
        return False

    def _forget(self, past: list[Job]) -> None:
        """Looks that have ended: what they brought is in the store."""
        for job in past:
            with self.database.transaction() as tx:
                jobs.delete(tx, job["job_id"])
                removals.note(tx, self.home, [self.home.jobs / job["job_id"]])
        if past:
            remove_noted(self.database, self.home)

    # -- limits, schedule, retention ----------------------------------------------------------------

    def _hold_limits(self, endpoint_id: str, at: float) -> bool:
        settings = monitors.settings(monitors.find(self.database, endpoint_id))
        warned = over_limits(self.database, endpoint_id, settings, jobs.utc(at))
        if warned:
            with self.database.transaction() as tx:
                for each in warned if monitors.find(tx, endpoint_id) else ():
                    raise_alert(tx, endpoint_id, each, at)
        return bool(warned)

    def _follow_pace(self, endpoint_id: str, at: float) -> bool:
        return follow_pace(self.database, endpoint_id, at)

    def _look_at_pairs(self, endpoint_id: str, at: float) -> bool:
        look_at_pairs(self.database, self.home, endpoint_id, at)
        return False

    def _tidy(self, endpoint_id: str, at: float) -> bool:
        """Delete what is older than it is to be kept; what was never measured is lost to the tests too."""
        settings = monitors.settings(monitors.find(self.database, endpoint_id))
        before = jobs.utc(at) - timedelta(days=settings.keep_days)
        with self.database.transaction() as tx:
            count = monitors.forget_before(tx, endpoint_id, before)
        count += forget_files(self.database, self.home, endpoint_id, settings.keep_days, at)
        return bool(count)


def _looks(database: Database) -> list[Job]:
    """Jobs that look at requests, the newest first."""
    return jobs.of_kind(database, monitors.KIND)


def _ended(job: Job) -> float:
    return jobs.epoch(job["ended_at"]) if job["ended_at"] else 0.0


def _name(tx: Transaction, endpoint_id: str) -> str:
    return next(
        (each["name"] for each in monitors.endpoints(tx) if each["endpoint_id"] == endpoint_id), endpoint_id
    )


def _next_look(tx: Transaction, monitor: Monitor) -> WatchConfig | None:
    """What is to be looked at next; None where nothing waits, or too little for a reference."""
    settings = monitors.settings(monitor)
    endpoint_id = monitor["endpoint_id"]
    if monitor["reference"] is None:
        return _reference_look(tx, monitor, settings)
    first = monitor["measured_place"]
    if first >= monitor["next_place"]:
        return None
    end = monitors.end_of_batch(tx, endpoint_id, first, BATCH)
    if end == first:  # all of them are gone by now
        monitors.skip_to(tx, endpoint_id, monitor["next_place"])
        return None
    return WatchConfig(endpoint_id=endpoint_id, revision=monitor["revision"], first=first, end=end)


def _reference_look(tx: Transaction, monitor: Monitor, settings: MonitorSettings) -> WatchConfig | None:
    endpoint_id, source = monitor["endpoint_id"], settings.reference
    end, source_id, source_name = 0, "", ""
    if source in ("first", "window"):
        which = reference_rows(settings)
        needed = which.most if source == "first" else LEAST_WINDOW
        if monitors.reference_count(tx, endpoint_id, which) < needed:
            return None
        end = monitors.reference_end(tx, endpoint_id, which)
        if source == "window":
            source_name = f" from {which.start:%d %b %Y %H:%M} to {which.end:%d %b %Y %H:%M} UTC"
    elif source == "dataset":
        dataset = datasets.get_dataset(tx, settings.dataset)
        source_id, source_name = dataset["dataset_id"], dataset["name"]
    else:
        evaluation = evaluations.get(tx, settings.evaluation)
        source_id, source_name = evaluation["evaluation_id"], evaluation["name"]
    return WatchConfig(
        endpoint_id=endpoint_id,
        revision=monitor["revision"],
        end=end,
        reference=True,
        source=source,
        source_id=source_id,
        source_name=source_name,
        rows=settings.reference_rows,
        watched=settings.watched,
        seed=monitor["revision"],
    )
