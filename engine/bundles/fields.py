"""A document as its fields, each by its path, so that what differs between two can be named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from store.documents.runs.bundle import FieldDifference

MAX_WORDS = 60  # characters of a value that are shown
NOT_THERE = "not there"
DIGEST = 16  # hexadecimal digits of a field's checksum


def leaves(document: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that holds no other, by its path: config.learning_rate, figures[2].value."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from leaves(value, f"{at}.{key}" if at else str(key))
    elif isinstance(document, list) and document:
        for place, value in enumerate(document):
            yield from leaves(value, f"{at}[{place}]")
    else:
        yield at, document


def digests(document: Any) -> dict[str, str]:
    """A short checksum of each field: it names what was changed, and proves nothing by itself."""
    return {path: hashlib.sha256(_as_json(value)).hexdigest()[:DIGEST] for path, value in leaves(document)}


def _as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, sort_keys=True).encode()


def differing(bundle: Any, here: Any) -> list[FieldDifference]:
    """Fields that differ between a bundle's document and the one of this home."""
    theirs, ours = dict(leaves(bundle)), dict(leaves(here))
    return [
        {"field": path, "bundle": _value_words(theirs, path), "here": _value_words(ours, path)}
        for path in dict.fromkeys([*ours, *theirs])
        if path not in theirs or path not in ours or _as_json(theirs[path]) != _as_json(ours[path])
    ]


def _value_words(values: Mapping[str, Any], path: str) -> str:
    return in_words(values[path]) if path in values else NOT_THERE


def in_words(value: Any) -> str:
    """On one line, cut where it is long."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
