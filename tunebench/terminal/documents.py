"""A document that a command is given: a YAML file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from store.contract.errors import ConfigError
from store.contract.yaml_text import read_yaml


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
