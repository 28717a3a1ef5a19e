"""Equality of rows, and groups of equal rows: for each row the first row of its group.

Exact: every character is equal in Unicode's form NFC, so that é is é however it was typed. Folded: equal
except for case, white space and character forms (NFKC). Code with another indentation, or a variable N and
another n, are equal when folded and not exactly. So rows that may be dropped as equal are exactly equal,
and rows that must stay together, or leak, are equal when folded. Rows with different labels or rejected
answers are different in both ways.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Columns required by `compute_exact_keys` and `compute_folded_keys`.
EXACT = ("text", "label", "rejected")
FOLDED = ("digest", "label", "rejected")


def normalise_text(text: str) -> str:
    """Normalize to NFKC and lower case, collapse white space to single blanks, and strip the ends."""
    if not text.isascii():  # ASCII is already in NFKC
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def hash_folded_text(text: str) -> bytes:
    """Return 8 bytes, little-endian uint64, that are equal for texts that are equal when folded.

    Raises UnicodeEncodeError for a lone surrogate, which no text may contain.
    """
    return _hash(normalise_text(text).encode("utf-8"))


def compute_exact_keys(batch: pa.RecordBatch | pa.Table, *, labels: bool = True) -> np.ndarray:
    """Return uint64 keys, equal for rows with exactly equal (NFC) text, label and rejected answer.

    Reads the columns EXACT; without `labels` the text alone.
    """
    texts = (_hash(_compose_text(text)) for text in batch["text"].to_pylist())
    keys = np.frombuffer(b"".join(texts), "<u8").copy()
    return _add_sides(keys, batch, _compose_text) if labels else keys


def compute_folded_keys(batch: pa.RecordBatch | pa.Table, *, labels: bool = True) -> np.ndarray:
    """Like `compute_exact_keys`, for texts and rejected answers equal when folded, and equal labels.

    Reads the columns FOLDED; without `labels` the text alone.
    """
    keys = batch["digest"].to_numpy().astype(np.uint64)
    return _add_sides(keys, batch, lambda text: normalise_text(text).encode()) if labels else keys


def _add_sides(
    keys: np.ndarray, batch: pa.RecordBatch | pa.Table, form: Callable[[str], bytes]
) -> np.ndarray:
    """Combine the keys with the label and the rejected answer of the rows that have one."""
    labels, rejected = batch["label"], batch["rejected"]
    if labels.null_count == len(keys) == rejected.null_count:
        return keys
    keys = keys.copy()
    pairs = zip(labels.to_pylist(), rejected.to_pylist(), strict=True)
    for at, (label, refused) in enumerate(pairs):
        if label is not None or refused is not None:
            rejected_key = b"" if refused is None else form(refused)
            whole = b"%d|%b|%b" % (keys[at], json.dumps(label).encode(), rejected_key)
            keys[at] = np.frombuffer(_hash(whole), "<u8")[0]
    return keys


def _compose_text(text: str) -> bytes:
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).encode("utf-8")


def _hash(text: bytes) -> bytes:
    return blake2b(text, digest_size=8).digest()


def join_keys(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Concatenate keys (uint64) of batches."""
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def group_equal(values: np.ndarray) -> np.ndarray:
    """Return for each position the first position with the same value, int64."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def merge_groups(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Merge the groups of `first` and `second`, pair by pair.

    groups: int64, any member of the group of each position. In the result, each group is named by its
    smallest member.
    """
    count = len(groups)
    ends = np.concatenate([np.arange(count), first]), np.concatenate([groups, second])
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(count, count))
    number, component_of = connected_components(graph, directed=False)
    smallest = np.full(number, count, dtype=np.int64)
    np.minimum.at(smallest, component_of, np.arange(count))
    smallest_of: np.ndarray = smallest[component_of]
    return smallest_of


def measure_largest_group(groups: np.ndarray) -> int:
    """Return the number of rows of the largest group."""
    return int(np.bincount(groups).max()) if len(groups) else 0
