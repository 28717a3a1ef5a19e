"""Tunebench runs no code that comes with a model or lies in a repository of a hub: said here, once.

Every loader of a library gets `NO_CODE`, as transformers asks on the terminal where nothing is said. Before
0.3 configs had a field for it, which documents and files of users may still have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from store.contract.errors import ConfigError

FIELD = "trust_remote_code"
_NO = ("false", "no", "off", "0", "")  # as YAML files of before have it
INSTEAD = (
    "Convert it to an architecture that transformers has itself (a config.json without auto_map), and save it"
    " with save_pretrained()."
)


class NoCode(TypedDict):
    """An argument of from_pretrained() and its like."""

    trust_remote_code: bool


NO_CODE: NoCode = {"trust_remote_code": False}


def without_field(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without the old field, whatever it said."""
    return {field: value for field, value in document.items() if field != FIELD}


def as_now(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without the old field where it is false, which says what holds now."""
    said_no = str(document.get(FIELD) or "").strip().lower() in _NO
    return without_field(document) if said_no else dict(document)


def check_no_code(document: Mapping[str, Any]) -> None:
    """Raise ConfigError where a document asks for code to be run; false says what holds now."""
    value = document.get(FIELD)
    if value is not None and str(value).strip().lower() not in _NO:
        raise ConfigError(
            f"Tunebench runs no code that comes with a model: {FIELD} is {str(value)[:40]!r}.",
            fix=f"Leave the field out. {INSTEAD}",
            field=FIELD,
        )
