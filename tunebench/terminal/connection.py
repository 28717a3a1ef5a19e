"""What every command of the command line shares: reaching the engine, asking it for a change, its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from store.contract.errors import EngineUnavailable
from store.contract.home import Home
from store.contract.roles import is_owner
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


def with_files(client: Client, source: Mapping[str, Any]) -> dict[str, Any]:
    """A document with `path` or `paths`, as the client may send it: the owner of the engine's machine names
    paths, for anybody else the files are uploaded. A folder stays as it is, for the engine to refuse."""
    paths = [Path(path) for path in source.get("paths") or [source.get("path")] if path]
    if not paths or is_owner(client.me()) or not all(path.is_file() for path in paths):
        return dict(source)
    uploads = []
    for path in paths:
        with open(path, "rb") as file:
            uploads.append(client.upload(path.name, file))
    sent = {"upload": uploads[0]} if len(uploads) == 1 else {"uploads": uploads}
    return {name: value for name, value in source.items() if name not in ("path", "paths")} | sent


def change(command: str, body: Mapping[str, object], done: str, as_json: bool) -> None:
    """Send one command; print its answer as JSON, or say `done`."""
    with errors(as_json):
        answer = connect(start=command == "resume").command(command, body)
        print_json(answer) if as_json else say(done)
