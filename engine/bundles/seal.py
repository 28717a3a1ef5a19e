"""The seal of a bundle: checksums of its manifest, whole and field by field, and the fingerprint of all.

The manifest has the checksums of all other files, and the seal that of the manifest: a single change is found
and named, wherever it is. There is no secret in it: who writes all checksums anew makes a bundle of their
own, whose fingerprint is another. So two people compare fingerprints, and a home that has the run compares
that.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from engine.bundles import fields
from store.config.training.bundle_config import ReadSeal
from store.contract.errors import ConfigError
from store.documents.runs.bundle import BundleManifest, BundleSeal

SEAL = "seal.json"
SEAL_BYTES = 64 * 2**20
MAX_NAMED = 5  # fields that are named one by one
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: none is taken for another when it is read out
GROUPS, GROUP = 4, 4  # of letters: 80 bits, which nobody finds a second bundle for


def text_of(manifest: BundleManifest) -> bytes:
    """The manifest as it is written."""
    return json.dumps(manifest, ensure_ascii=False, indent=1).encode()


def write(manifest: bytes) -> bytes:
    """The seal of a manifest that was just written."""
    seal: BundleSeal = {
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "fields": fields.digests(json.loads(manifest)),
    }
    return json.dumps(seal, ensure_ascii=False, indent=1).encode()


def fingerprint(manifest: bytes) -> str:
    """Of the bundle, to be compared by voice or mail: K7QF-2M9D-0RXA-T41C."""
    number = int.from_bytes(hashlib.sha256(manifest).digest()[: GROUPS * GROUP * 5 // 8])
    letters = [LETTERS[number >> 5 * place & 31] for place in reversed(range(GROUPS * GROUP))]
    return "-".join("".join(letters[i : i + GROUP]) for i in range(0, len(letters), GROUP))


def broken(manifest: bytes, seal: bytes) -> str:
    """What of the two was changed since they were written; empty where nothing was."""
    try:
        stated = ReadSeal.parse(json.loads(seal))
    except (ValueError, RecursionError, ConfigError):
        return f"its {SEAL} is none: it was changed after it was written"
    try:
        document: Any = json.loads(manifest)
        present = fields.digests(document)
    except (ValueError, RecursionError):
        return "its manifest is no JSON"
    paths = [p for p in dict.fromkeys([*stated.fields, *present]) if stated.fields.get(p) != present.get(p)]
    if hashlib.sha256(manifest).hexdigest() == stated.manifest:
        return f"its {SEAL} was changed after it was written: {_named(paths, document)}" if paths else ""
    if paths:
        return f"its manifest.json was changed after it was written: {_named(paths, document)}"
    return f"its manifest.json or its {SEAL} was changed after it was written, in no field of the manifest"


def _named(paths: list[str], document: Any) -> str:
    """ "config.learning_rate is 0.5"."""
    values = dict(fields.leaves(document))
    parts = []
    for path in paths[:MAX_NAMED]:
        value = fields.in_words(values[path]) if path in values else fields.NOT_THERE
        parts.append(f"{path[:120]!r} is {value!r}")
    more = len(paths) - MAX_NAMED
    return ", ".join(parts) + (f" and {more:,} more" if more > 0 else "")
