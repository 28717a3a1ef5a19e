"""The engine's real HTTP interface over a real store, without a scheduler: nothing moves by itself.

So a run stays queued or training for as long as a test looks at it. Commands are recorded, not done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from engine.__main__ import listen
from engine.commands import Commands
from engine.server.features import ServiceContext, load_engine_features
from engine.server.people_commands import People
from store.core.home import Home
from store.core.processes import write_record
from store.core.rights import OWNER
from store.core.schemas import Person
from store.db.database import Database
from store.db.named_query import load_queries
from store.http.schemas import PlaygroundState
from store.http.server import Handlers, build_app
from store.people import settings

COMMANDS = ("cancel", "resume", "delete", "edit_run", "organize_runs", "launch", "launch_sample")
COMMANDS += ("profile", "clean", "save_recipe", "delete_recipe", "evaluate", "transfer", "judge")
COMMANDS += ("interpolate", "keep_variant", "comment", "edit_comment", "delete_comment")
COMMANDS += ("begin_conversation", "edit_conversation", "delete_conversation", "keep_answer", "use_kept_rows")
COMMANDS += ("start_round", "import_round", "bundle", "check_bias")
COMMANDS += ("start_round", "export_model", "verify_model", "delete_export")
COMMANDS += ("begin_improvement", "decide_improvement", "stop_improvement", "resume_improvement")
COMMANDS += ("schedule_improvement", "unschedule_improvement")
ALWAYS_DONE = ("record_comparison",)  # what a page sends without a click
Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
Serve = Callable[[Database, Home], Any]


class Silent:
    """A playground in which nobody talks; `standing`: how it stands."""

    def __init__(self) -> None:
        self.standing: PlaygroundState = PlaygroundState(
            state="away",
            memory_bytes=None,
            gpu_bytes=None,
            loaded=[],
            machine_has=None,
            beside=False,
            seconds_left=None,
            slowdown=None,
            answering=[],
        )

    async def generate(self, body: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
        raise AssertionError(f"{body} was said to an engine that answers nothing")

    async def stop(self, body: Mapping[str, object]) -> None:
        raise AssertionError(f"{body} was to be stopped in an engine that answers nothing")

    def state(self) -> PlaygroundState:
        return self.standing


@dataclass
class StillEngine:
    """The home folder it serves, its store, the commands that were sent to it: (name, body)."""

    home: Home
    database: Database
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    made: str = "run-still"  # id of the run that a launch is answered with
    endpoints: Any = None  # who tells how they stand, where the feature is there
    playground: Silent = field(default_factory=Silent)


async def _no_asks(name: str, body: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"{name} was asked of an engine that answers nothing: {body}")


def _build_endpoints(database: Database, home: Home) -> Any:
    nobody: Any = None  # starts a job here
    context = ServiceContext(database, home, nobody, ["cpu"])
    services = [feature.services for feature in load_engine_features().values()]
    return next((each["endpoints"](context) for each in services if "endpoints" in each), None)


@contextmanager
def still_engine(
    home: Home, ask: Ask = _no_asks, real: Collection[str] = (), serve: Serve | None = None
) -> Iterator[StillEngine]:
    """Serve `home` while the block runs; `ask` answers what is asked. `real`: commands that are done.
    `serve`: makes what tells how endpoints stand, in place of what the engine has."""
    database = Database(home.database, [home.datasets, home.jobs])
    engine = StillEngine(home, database)
    for secret in (home.token, home.screens_token):
        secret.write_text("still")
        secret.chmod(0o600)
    commands = {name: _recorder(engine, name) for name in COMMANDS}
    done = Commands(database, home, lambda name, body: {}).table()
    commands |= {name: done[name] for name in (*ALWAYS_DONE, *real)}
    engine.endpoints = (serve or _build_endpoints)(database, home)
    with database.transaction() as tx:
        settings.set_owner_name(tx, OWNER.name)  # whatever the account is called that runs the tests
    handlers = Handlers(
        commands,
        lambda name, body, person: ask(name, body),
        engine.playground,
        queries=load_queries(),
        people=People(database, "still", "still"),
        endpoints=engine.endpoints,
    )
    app = build_app(database, "still", handlers, home, ["cpu"])
    listener = listen(0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = listener.getsockname()[1]
    write_record(home.engine_file, f"http://127.0.0.1:{port}", os.getpid())
    try:
        yield engine
    finally:
        server.should_exit = True
        thread.join(10)
        database.close()


def _recorder(engine: StillEngine, name: str) -> Any:
    def record(body: dict[str, Any], person: Person) -> dict[str, Any]:
        engine.sent.append((name, body))
        if name in ("launch", "keep_variant"):
            return {"run_id": engine.made}
        if name == "start_round":
            return {"round_id": "round-still", "job_ids": []}
        if name == "begin_improvement":
            return {"improvement_id": "improvement-still"}
        return {"job_id": "job-still"} if name in ("profile", "clean", "bundle") else {}

    return record
