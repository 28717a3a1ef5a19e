"""A team over a store in a temporary home folder, with hashes that cost little and a clock to move."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from engine.commands import Commands
from engine.server.passwords import Passwords
from engine.server.people_commands import People
from pages.people.login import SessionVerifier
from pages.shared.engine_client import get_screens_client
from store.core.processes import SteadyClock, write_record
from store.core.rights import OWNER
from store.core.schemas import CreatedInvitation, CreatedSession, Person, Role
from store.db.named_query import load_queries
from store.http.access import SESSION_HEADER
from store.http.server import Handlers, build_app
from tests.unit.store_samples import Server, echo_ask, new_store

START = 1_800_000_000.0
TOKEN, SCREENS = "token-of-the-home", "token-of-the-screens"
PASSWORD = "a long sentence"


class Company:
    """People over one store; `now` is the time, `ran` what has passed where that is set back."""

    def __init__(self, path: Path, *, team: bool = True) -> None:
        self.home, self.database = new_store(path)
        self.now, self.ran = START, 0.0
        cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.people = People(self.database, TOKEN, SCREENS, passwords=Passwords(cheap), clock=self._steady())
        self.commands = Commands(
            self.database, self.home, _no_ask, people=self.people.commands, clock=lambda: self.now
        ).table()
        if team:
            self("set_team", on=True)

    def _steady(self) -> SteadyClock:
        return SteadyClock(lambda: self.now, lambda: self.ran)

    def restart(self) -> None:
        """Another engine over the same store."""
        passwords = self.people.commands.passwords
        self.people = People(self.database, TOKEN, SCREENS, passwords=passwords, clock=self._steady())
        self.commands = Commands(
            self.database, self.home, _no_ask, people=self.people.commands, clock=lambda: self.now
        ).table()

    def __call__(self, command: str, /, by: Person = OWNER, **body: Any) -> Any:
        return self.commands[command](body, by)

    def door(self, name: str, body: Mapping[str, object]) -> Any:
        """What the door asks; as `store.http.client.Client.door`."""
        return self.people.door[name](body)

    def invite(self, role: Role, **body: Any) -> CreatedInvitation:
        made: CreatedInvitation = self("invite", role=role, **body)
        return made

    def join(self, role: Role, email: str | None = None, name: str | None = None) -> CreatedSession:
        """Somebody who has accepted an invitation."""
        body = {
            "secret": self.invite(role)["secret"],
            "email": email or f"{role}@example.org",
            "name": name or role.title(),
            "password": PASSWORD,
        }
        signed_in: CreatedSession = self.door("accept", body)
        return signed_in

    def sign_in(
        self, email: str, password: str = PASSWORD, address: str = "192.0.2.1", cookie: str = ""
    ) -> CreatedSession:
        body = {"email": email, "password": password, "address": address, "browser_cookie": cookie}
        signed_in: CreatedSession = self.door("sign_in", body)
        return signed_in

    def engine(self, session: str = "", *, bearer: str = SCREENS) -> TestClient:
        """The engine, as the screens reach it for somebody, or whoever has another secret."""
        handlers = Handlers(self.commands, echo_ask, queries=load_queries(), people=self.people)
        app = build_app(self.database, TOKEN, handlers, self.home, ["cpu"])
        headers = {"Authorization": f"Bearer {bearer}"} | ({SESSION_HEADER: session} if session else {})
        return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)


@contextmanager
def at_work(company: Company) -> Iterator[Company]:
    """The company with its engine served, announced in its home folder as the engine does."""
    company.home.token.write_text(TOKEN)
    company.home.screens_token.write_text(SCREENS)
    handlers = Handlers(company.commands, echo_ask, queries=load_queries(), people=company.people)
    app = build_app(company.database, TOKEN, handlers, company.home, ["cpu"])
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    write_record(company.home.engine_file, f"http://127.0.0.1:{port}", os.getpid())
    try:
        yield company
    finally:
        server.should_exit = True
        thread.join(10)
        company.database.close()
        get_screens_client.cache_clear()


def _no_ask(name: str, body: dict[str, Any]) -> dict[str, Any]:
    raise AssertionError(f"{name} was asked: {body}")


class _NobodySignsIn:
    """An engine that says so."""

    def door(self, name: str, body: Mapping[str, object]) -> dict[str, bool]:
        assert name == "state"
        return {"team": False}


def alone() -> SessionVerifier:
    """What the door knows where one person works alone."""
    return SessionVerifier(_NobodySignsIn())  # type: ignore[arg-type]
