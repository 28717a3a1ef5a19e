"""`python -m engine [--home PATH] [--port N] [--allow-host NAME …]`: open the store, serve it, run the queue.

There is one engine per home folder: it holds `engine.lock` as long as it runs, so that a killed engine
leaves no lock behind. SIGTERM and Ctrl-C end the engine but not the workers, which the next engine
follows. Exit codes: 0 asked to stop, 1 the store or the home folder can't be used, 3 another engine runs
for this home folder, 4 the port is in use.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import IO, cast

import uvicorn
from starlette.applications import Starlette

from engine.commands import Commands
from engine.job_handlers import HANDLERS
from engine.server import job_submission
from engine.server.features import CommandContext, Loop, Service, ServiceContext, load_engine_features
from engine.server.file_removal import remove_noted, remove_stale_held
from engine.server.local_launcher import LocalLauncher
from engine.server.machine_access import make_query_check
from engine.server.people_commands import People
from engine.server.profiling import queue_outdated
from engine.server.scheduler import BUSY_SECONDS, IDLE_SECONDS, Scheduler
from engine.server.sync_jobs import QueryRunner
from store.core.errors import StateError, TunebenchError
from store.core.home import Home
from store.core.job_kinds import ASKS
from store.core.processes import acquire_lock, raise_descriptor_limit, read_record, write_record
from store.core.rights import check_complete
from store.data import datasets
from store.db.commit_journal import FIX, describe_loss
from store.db.database import Database
from store.db.named_query import load_queries
from store.http import files
from store.http.access import HostNames, read_secret
from store.http.machine import list_devices as find_devices
from store.http.server import EndpointService, Handlers, Playground, build_app
from store.jobs import job_queue

log = logging.getLogger("engine")

FAILED, ALREADY_RUNNING, PORT_IN_USE = 1, 3, 4
# Of idle connections. Far longer than clients reuse them: one that was held up (a busy or suspended machine)
# must not send a request on a connection that is being closed.
KEEP_ALIVE_SECONDS = 60
GRACE_SECONDS = 5  # for requests in progress when the engine is asked to stop
NO_SAMPLE = "TUNEBENCH_NO_SAMPLE"  # if set, a new home folder stays empty


class CannotStart(Exception):
    """Raised before the engine serves, with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def take_lock(home: Home) -> IO[bytes]:
    """Acquire the home folder's lock; the file must stay open. Raises CannotStart if another engine
    has it.
    """
    lock = acquire_lock(home.engine_lock)
    if lock is None:
        other = read_record(home.engine_file)
        where = f" at {other.address} (process {other.pid})" if other else ""
        raise CannotStart(f"An engine runs for {home.path} already{where}.", ALREADY_RUNNING)
    return lock


def listen(port: int) -> socket.socket:
    """Return a socket on loopback; port 0 is any free one. Raises CannotStart if the port is in use."""
    # Explicitly TCP, as asyncio disables Nagle's algorithm on such sockets only: otherwise headers and body
    # of a response are sent separately, and the second waits 40 ms for the acknowledgement of the first.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        raise CannotStart(
            f"Port {port} can't be used ({error.strerror}). Give another with --port, or 0 for a free one.",
            PORT_IN_USE,
        ) from error
    return listener


class Queue(threading.Thread):
    """Thread that steps the scheduler as often as it requests, and as soon as a command wakes it.

    Before each step, services of the features free resources for jobs that may start, and their loops are
    stepped.
    """

    def __init__(self, scheduler: Scheduler, services: Sequence[Service]) -> None:
        super().__init__(name="scheduler")
        self.scheduler, self.services = scheduler, services
        self.loops: Sequence[Loop] = ()  # set once the commands exist, with which loops queue jobs
        self.awake = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        trouble = ""
        while not self.ended.is_set():
            try:
                stepped = [service.step() for service in self.services]
                looped = [loop.step() for loop in self.loops]
                pauses = (pause for pause in stepped if pause is not None)
                pause = min(self.scheduler.step(), *looped, *pauses)
                trouble = ""
            except Exception as error:  # the border: one bad step must not end the queue
                if repr(error) != trouble:  # logged once, so as not to fill a full disk
                    log.exception("A step of the scheduler failed; it is tried again until it succeeds.")
                trouble, pause = repr(error), BUSY_SECONDS
            self.awake.wait(pause)
            self.awake.clear()

    def stop(self) -> None:
        """End after the current step."""
        self.ended.set()
        self.awake.set()
        self.join()


def build_services(context: ServiceContext) -> dict[str, Service]:
    """Build the services of the features, by the names that the server knows."""
    features = load_engine_features().values()
    return {name: build(context) for feature in features for name, build in feature.services.items()}


def build_loops(context: CommandContext) -> list[Loop]:
    """Build the loops of the features."""
    return [loop for feature in load_engine_features().values() for loop in feature.build_loops(context)]


def close_all(services: Iterable[Service]) -> None:
    """Close all services; those already closed stay so."""
    for service in services:
        service.close()


def prepare_first_start(database: Database, commands: Commands) -> None:
    """In an empty home folder, queue the creation of the bundled model and the sample data set."""
    empty = not datasets.list_datasets(database) and not job_queue.recent_jobs(database, limit=1)
    if empty and not os.environ.get(NO_SAMPLE):
        commands.launching.prepare_sample()


class LoopThread(threading.Thread):
    """A loop in its own thread, stepped as often as it requests."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(name=loop.thread, daemon=True)
        self.loop = loop
        self.ended = threading.Event()

    def run(self) -> None:
        trouble = ""
        pause = 0.0
        while not self.ended.wait(pause):
            try:
                pause, trouble = self.loop.step(), ""
            except Exception as error:  # the border: one bad step must not end the loop
                if repr(error) != trouble:
                    log.exception(
                        "A step of the thread %s failed; it is tried again until it succeeds.", self.name
                    )
                trouble, pause = repr(error), IDLE_SECONDS

    def stop(self) -> None:
        """End after the current step, waiting for up to the loop's patience."""
        self.ended.set()
        self.loop.stop()
        self.join(self.loop.patience)


class EngineServer(uvicorn.Server):
    """Server that shuts down in order on SIGTERM and SIGINT, so that the code after its `run` is executed.

    `stopping` is called at the signal, before requests in progress are waited for.
    """

    def __init__(self, app: Starlette, stopping: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._stopping = stopping
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn re-raises them after its shutdown
            signal.signal(number, self._stop)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal while the server runs; the rest is uvicorn's."""
        super().handle_exit(sig, frame)
        self._stopping()

    def _stop(self, *_: object) -> None:
        self.should_exit = True


def serve(home: Home, port: int, names: HostNames) -> None:
    """Run the engine until SIGTERM or SIGINT. Raises CannotStart and TunebenchError before it serves."""
    os.umask(0o077)  # files of engine and workers are private to this user
    raise_descriptor_limit()
    home.create()
    lock = take_lock(home)
    listener = listen(port)
    token = read_secret(home.token)
    database = Database(home.database, [home.datasets, home.jobs])
    if database.lost:
        log.error("%s %s", describe_loss(database.lost), FIX)
    devices = find_devices()
    launcher = LocalLauncher()
    scheduler = Scheduler(database, launcher, home, devices, HANDLERS)
    services = build_services(ServiceContext(database, home, launcher, devices))
    queue = Queue(scheduler, list(services.values()))
    complete = job_submission.make_body_completer(database, home)
    asks = QueryRunner(launcher, home, devices[0], make_query_check(home), complete=complete)
    asks.remove_stale()
    files.remove_stale(home.uploads)
    home.remove_stale()
    remove_stale_held(database, home)
    remove_noted(database, home)
    people = People(database, token, read_secret(home.screens_token))
    commands = Commands(database, home, asks.run, people=people.commands, wake=queue.awake.set)
    loops = build_loops(commands.context)
    queue.loops = [loop for loop in loops if not loop.thread]
    threads = [LoopThread(loop) for loop in loops if loop.thread]
    prepare_first_start(database, commands)
    with database.transaction() as tx:
        queue_outdated(tx, time.time())
    table = commands.table()
    check_complete("command", table)
    check_complete("ask", ASKS)
    app = build_app(
        database,
        token,
        Handlers(
            table,
            asks,
            # the server knows services by name
            cast("Playground | None", services.get("playground")),
            queries=load_queries(),
            people=people,
            endpoints=cast("EndpointService | None", services.get("endpoints")),
        ),
        home,
        devices,
        names,
    )

    def stop_answers() -> None:
        database.stop_written()
        close_all(services.values())

    server = EngineServer(app, stop_answers)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    version = importlib.metadata.version("tunebench")
    queue.start()
    for thread in threads:
        thread.start()
    try:
        write_record(home.engine_file, address, os.getpid(), version=version)
        log.info("Tunebench %s serves %s at %s on %s.", version, home.path, address, ", ".join(devices))
        server.run(sockets=[listener])
    finally:
        # whatever the reason that the file can't be read or removed, the rest has to end
        with contextlib.suppress(OSError, ValueError):
            record = read_record(home.engine_file)
            if record and record.pid == os.getpid():  # otherwise the folder was replaced
                home.engine_file.unlink(missing_ok=True)
        queue.stop()
        for thread in threads:
            thread.stop()
        close_all(services.values())
        launcher.close()
        database.close()
        lock.close()
    log.info("Stopped. Workers go on; the next engine follows them.")


def main() -> int:
    """Read the command line and run; the last line on stderr gives the reason of a failure."""
    parser = argparse.ArgumentParser(prog="python -m engine", description="The Tunebench engine.")
    parser.add_argument("--home", help="the home folder; TUNEBENCH_HOME or ~/.tunebench where left out")
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0 is any free port")
    parser.add_argument("--allow-host", action="append", default=[], help="a name beside those of loopback")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Home(arguments.home)
    try:
        serve(home, arguments.port, HostNames(arguments.allow_host))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return error.code
    except (TunebenchError, OSError) as error:  # system errors concern the home folder, which has all files
        print(_reason(home, error), file=sys.stderr)
        return FAILED
    return 0


def _reason(home: Home, error: TunebenchError | OSError) -> str:
    """Return why the engine ended: a full disk if that is so, whatever could not be written."""
    with contextlib.suppress(OSError):
        try:
            home.check_space()
        except StateError as full:
            return str(full)
    if isinstance(error, TunebenchError):
        return str(error)
    where = f" ({os.path.basename(error.filename)})" if isinstance(error.filename, str) else ""
    return f"The engine can't use {home.path}: {error.strerror or error}{where}."


if __name__ == "__main__":
    sys.exit(main())
