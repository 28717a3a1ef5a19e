"""Shared parts of all commands: connecting to the engine, sending changes, options, input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from store.core.config import read_yaml
from store.core.errors import ConfigError, EngineUnavailable
from store.core.home import Home
from store.core.rights import is_owner
from store.http.client import Client
from tunebench.terminal import processes
from tunebench.terminal.output import print_json, print_notice, report_errors

Json = Annotated[bool, typer.Option("--json", help="Print a single JSON document to stdout")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job has ended")]


def connect(start: bool = False) -> Client:
    """Return a client of the engine. If none runs, start it if `start`, otherwise raise EngineUnavailable."""
    home = Home()
    client = processes.find_running_engine(home)
    if client is None and start:
        client = processes.start_engine(home)
        print_notice("Started the engine in the background; stop it with `tunebench down`.")
    if client is None:
        raise EngineUnavailable(f"No engine is running for {home.path}.", fix="Start it with `tunebench up`.")
    return client


def upload_files(client: Client, source: Mapping[str, Any]) -> dict[str, object]:
    """Return a document with `path` or `paths` as the client may send it.

    The owner of the engine's machine may send paths; for anybody else the files are uploaded. A folder is
    not changed, for the engine to refuse.
    """
    paths = [Path(path) for path in source.get("paths") or [source.get("path")] if path]
    if not paths or is_owner(client.me()) or not all(path.is_file() for path in paths):
        return dict(source)
    uploads = []
    for path in paths:
        with open(path, "rb") as file:
            uploads.append(client.upload(path.name, file))
    sent = {"upload": uploads[0]} if len(uploads) == 1 else {"uploads": uploads}
    return {name: value for name, value in source.items() if name not in ("path", "paths")} | sent


def send_change(command: str, body: Mapping[str, object], done: str, as_json: bool) -> None:
    """Send one command; print its answer as JSON, or `done`."""
    with report_errors(as_json):
        answer = connect(start=command == "resume").command(command, body)
        print_json(answer) if as_json else print_notice(done)


def parse_columns(given: list[str]) -> dict[str, str]:
    """Return role -> column; a repeated role gets numbered: choices, choices_2 …"""
    columns: dict[str, str] = {}
    for text in given:
        role, column = _parse_pair("column", "role=column", text)
        number = sum(name == role or name.rpartition("_")[0] == role for name in columns)
        columns[f"{role}_{number + 1}" if number else role] = column
    return columns


def parse_pairs(field: str, form: str, given: list[str]) -> dict[str, str]:
    """Parse a repeatable option as left -> right. Raises ConfigError for a value without "="."""
    return dict(_parse_pair(field, form, text) for text in given)


def _parse_pair(field: str, form: str, text: str) -> tuple[str, str]:
    left, equals, right = text.rpartition("=") if field != "column" else text.partition("=")
    if not equals:
        raise ConfigError(
            f"Invalid value {text!r} for --{field.replace('_', '-')}.",
            fix=f"Use the form {form}.",
            field=field,
        )
    return left, right


def read_document(file: Path | None) -> dict[str, object]:
    """Read a mapping from the file, or from standard input for `-`; {} for None. Raises ConfigError."""
    if file is None:
        return {}
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} can't be read: {error}.", field="file") from error
    document = read_yaml(text)
    if not isinstance(document, dict):
        raise ConfigError("The config is not a mapping of fields to values.", field="config")
    return document


def save_new_file(client: Client, name: str, target: Path) -> None:
    """Download a file of the home folder's exports, atomically, never overwriting an existing one.

    Raises: ConfigError.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(aside, "xb") as file:
            for block in client.download(name):
                file.write(block)
        _rename_without_overwrite(aside, target)
    except OSError as error:
        why = f"{target} can't be written: {error.strerror or error}."
        raise ConfigError(why, fix="Choose another file with --out.", field="out") from error
    finally:
        aside.unlink(missing_ok=True)


def _rename_without_overwrite(aside: Path, target: Path) -> None:
    try:
        os.link(aside, target)  # never overwrites
    except OSError:
        if target.exists():
            raise
        os.replace(aside, target)  # a drive or share without hard links
