"""Supervisor that keeps the gateways in their wanted state, in steps: `Supervisor.step(now)`.

A gateway is a separate process that outlives the engine; the record in its folder identifies it by pid and
start time, and the next engine takes over its supervision. A step writes each gateway's current config,
starts gateways that are wanted but not running, after a longer pause each time they die, and stops those
that aren't wanted. It never waits.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.server.local_launcher import build_worker_environment
from engine.serving import text
from engine.serving.endpoint_folders import EndpointFolder, build_gateway_config, sync_keys
from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.processes import ProcessRecord, is_recent
from store.core.schemas import ErrorDocument
from store.db.database import Database
from store.jobs import job_queue
from store.serving import endpoints
from store.serving.schemas import EndpointRow, EndpointStatus, RequestLine

log = logging.getLogger(__name__)

GATEWAY = (sys.executable, "-m", "engine.serving.gateway")
PROJECT = Path(__file__).resolve().parents[2]
BUSY_SECONDS, IDLE_SECONDS = 2.0, 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0
START_SECONDS = 60.0  # for the process to write its record
GRACE_SECONDS = 15.0  # from SIGTERM to SIGKILL, in addition to the drain
STEADY_SECONDS = 300.0
REQUESTS = 20
MINUTE = 60.0


@dataclass
class _Start:
    """The last start of a gateway by this engine."""

    process: subprocess.Popen[bytes]
    at: float
    pause: float  # before the next start


class Supervisor:
    """Supervisor of all endpoints of one home folder.

    `command`: starts a gateway, given the path of its folder.
    """

    def __init__(
        self,
        database: Database,
        home: Home,
        command: Sequence[str] = GATEWAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._home, self._command, self._clock = database, home, list(command), clock
        self._starts: dict[str, _Start] = {}
        self._stops: dict[str, float] = {}
        self._problems: dict[str, ErrorDocument] = {}

    def step(self, now: float | None = None) -> float:
        """Bring all gateways towards their wanted state; return the maximum seconds until the next step."""
        at = self._clock() if now is None else now
        rows = endpoints.listed(self._database)
        for row in rows:
            try:
                self._supervise(row, at)
            except TunebenchError as error:
                self._problems[row.endpoint_id] = error.to_dict()
            except Exception as error:  # one endpoint must not block the others
                log.exception("The endpoint %s could not be seen to", row.name)
                self._problems[row.endpoint_id] = text.build_supervision_error(error).to_dict()
        return BUSY_SECONDS if any(row.wanted == "running" for row in rows) or self._stops else IDLE_SECONDS

    def close(self) -> None:
        """Do nothing: gateways outlive the engine."""

    def _supervise(self, row: EndpointRow, at: float) -> None:
        folder = EndpointFolder(self._home, row.endpoint_id)
        if start := self._starts.get(row.endpoint_id):
            start.process.poll()  # reaps an ended child process, which would otherwise stay a zombie
        record = folder.get_process()
        if row.wanted == "stopped":
            self._problems.pop(row.endpoint_id, None)
            self._stop(row, folder, record, at)
            return
        self._stops.pop(row.endpoint_id, None)
        sync_keys(self._database, folder)
        try:
            folder.write_document("config.json", build_gateway_config(self._database, self._home, row))
        except TunebenchError as error:
            self._problems[row.endpoint_id] = error.to_dict()
            if folder.read_config() is None:
                return
        else:
            self._problems.pop(row.endpoint_id, None)
        if record is None:
            self._start(row, folder, at)
        else:
            self._record_key_use(folder)

    # -- starting -----------------------------------------------------------------------------------

    def _start(self, row: EndpointRow, folder: EndpointFolder, at: float) -> None:
        last = self._starts.get(row.endpoint_id)
        if last:
            if last.process.poll() is None and is_recent(last.at, at, START_SECONDS):
                return  # it is starting
            self._problems[row.endpoint_id] = self._explain_end(row, folder, last)
            if is_recent(last.at, at, last.pause):
                return
        pause = (
            min(2 * last.pause, LONGEST_PAUSE)
            if last and is_recent(last.at, at, STEADY_SECONDS)
            else FIRST_PAUSE
        )
        with open(folder.path / "gateway.log", "ab") as file:
            process = subprocess.Popen(
                [*self._command, str(folder.path)],
                cwd=PROJECT,
                env=build_worker_environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._starts[row.endpoint_id] = _Start(process, at, pause)

    def _explain_end(self, row: EndpointRow, folder: EndpointFolder, last: _Start) -> ErrorDocument:
        failure = folder.read_failure()
        if failure and failure["at"] >= last.at:
            error: ErrorDocument = failure["error"]
            return error
        code = last.process.poll()
        log_path = folder.path / "gateway.log"
        return text.build_gateway_exit_error(row.name, code, folder.read_log_tail(), log_path).to_dict()

    # -- stopping -----------------------------------------------------------------------------------

    def _stop(
        self, row: EndpointRow, folder: EndpointFolder, record: ProcessRecord | None, at: float
    ) -> None:
        endpoint_id = row.endpoint_id
        process = record.process() if record else None
        if process is None:
            self._stops.pop(endpoint_id, None)
            self._starts.pop(endpoint_id, None)
            return
        config = folder.read_config()
        timeout = GRACE_SECONDS + (config.limits.drain_seconds if config else 0)
        try:
            if endpoint_id not in self._stops:
                process.send_signal(signal.SIGTERM)
                self._stops[endpoint_id] = at
            elif not is_recent(self._stops[endpoint_id], at, timeout):
                process.kill()
        except psutil.NoSuchProcess:
            return

    # -- status -------------------------------------------------------------------------------------

    def _record_key_use(self, folder: EndpointFolder) -> None:
        """Record when keys were last used, to the minute."""
        state = folder.read_state()
        if state is None:
            return
        previous = {
            key.key_id: key.used_at or 0.0 for key in endpoints.list_keys(self._database, state.endpoint_id)
        }
        newer = {
            usage.key_id: usage.used_at
            for usage in state.keys
            if usage.key_id in previous and usage.used_at > previous[usage.key_id] + MINUTE
        }
        if newer:
            with self._database.transaction() as tx:
                for key, at in newer.items():
                    endpoints.touch_key(tx, key, job_queue.to_utc(at))

    def list_status(self) -> list[EndpointStatus]:
        """Return the status of all endpoints."""
        return [self._build_status(row) for row in endpoints.listed(self._database)]

    def _build_status(self, row: EndpointRow) -> EndpointStatus:
        folder = EndpointFolder(self._home, row.endpoint_id)
        return EndpointStatus(
            **vars(row),
            alive=folder.get_process() is not None,
            state=folder.read_state(),
            config=folder.read_config(),
            problem=self._problems.get(row.endpoint_id),
            keys=endpoints.list_keys(self._database, row.endpoint_id),
        )

    def list_last_requests(self, endpoint: str) -> list[RequestLine]:
        """Return the newest lines of an endpoint's log. Raises NotFoundError."""
        row = endpoints.get(self._database, endpoint)
        return EndpointFolder(self._home, row.endpoint_id).list_last_requests(REQUESTS)
