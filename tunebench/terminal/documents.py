"""Files of whoever types a command: a document that it is given (YAML, or standard input), and a file that it
leaves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from store.contract.errors import ConfigError
from store.contract.yaml_text import read_yaml
from store.http.client import Client


def read_document(file: Path | None) -> dict[str, Any]:
    """The mapping in the file, in standard input for `-`; empty for None. Raises ConfigError."""
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


def save_new(client: Client, name: str, target: Path) -> None:
    """A file of the home folder's exports, whole or not at all; one that is there already is never replaced.
    Raises ConfigError."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(aside, "xb") as file:
            for block in client.download(name):
                file.write(block)
        _name(aside, target)
    except OSError as error:
        why = f"{target} can't be written: {error.strerror or error}."
        raise ConfigError(why, fix="Give another name with --out.", field="out") from error
    finally:
        aside.unlink(missing_ok=True)


def _name(aside: Path, target: Path) -> None:
    try:
        os.link(aside, target)  # which replaces nothing
    except OSError:
        if target.exists():
            raise
        os.replace(aside, target)  # a stick or share without hard links
