"""What every command of the command line shares: reaching the engine, asking it for a change, its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from store.contract.errors import EngineUnavailable
from store.contract.home import Home
from store.http.client import Client
from tunebench.terminal import processes
from tunebench.terminal.output import errors, print_json, say

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it has ended")]


def connect(start: bool = False) -> Client:
    """A client of the engine; where none runs it is started if `start`, else EngineUnavailable."""
    home = Home()
    client = processes.running_engine(home)
    if client is None and start:
        client = processes.start_engine(home)
        say("Started the engine in the background; `tunebench down` stops it.")
    if client is None:
        raise EngineUnavailable(f"No engine runs for {home.path}.", fix="Start it with `tunebench up`.")
    return client


def change(command: str, body: Mapping[str, object], done: str, as_json: bool) -> None:
    """Send one command; print its answer as JSON, or say `done`."""
    with errors(as_json):
        answer = connect(start=command == "resume").command(command, body)
        print_json(answer) if as_json else say(done)
