"""By what rows count as equal, and groups of rows that belong together: for each row the first row of its
group.

Exact: every character is the same in NFC. Folded: the same but for case, white space and forms of
characters (NFKC).
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

# By what rows count as equal. There are two ways, and each says which it is.
#
# Exact: every character is the same, in Unicode's form NFC, so that é is é however it was typed. Folded:
# the same but for case, white space and forms of characters (NFKC). Code in another indentation, or a
# variable N and another n, are equal when folded and not exactly; so rows that may be dropped as equal are
# exactly equal, and rows that must not be parted, or leak, are equal when folded. A row of another label,
# or with another rejected answer, is another row either way.

# What a batch must have for `compute_exact_keys` and `compute_folded_keys`.
EXACT = ("text", "label", "rejected")
FOLDED = ("digest", "label", "rejected")


def normalise_text(text: str) -> str:
    """NFKC, lower case, every run of white space one blank, none at the ends."""
    if not text.isascii():  # ASCII is in NFKC as it is
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def hash_folded_text(text: str) -> bytes:
    """8 bytes, little-endian uint64: equal for texts that are equal when folded.

    Raises UnicodeEncodeError for half a surrogate pair, which no text may hold.
    """
    return _hash(normalise_text(text).encode("utf-8"))


def compute_exact_keys(batch: pa.RecordBatch | pa.Table, *, labels: bool = True) -> np.ndarray:
    """uint64 of each row, equal where text, label and rejected answer are exactly equal (NFC). The columns
    EXACT are looked at; without `labels` the text alone."""
    texts = (_hash(_compose_text(text)) for text in batch["text"].to_pylist())
    keys = np.frombuffer(b"".join(texts), "<u8").copy()
    return _add_sides(keys, batch, _compose_text) if labels else keys


def compute_folded_keys(batch: pa.RecordBatch | pa.Table, *, labels: bool = True) -> np.ndarray:
    """As `compute_exact_keys`, equal where text and rejected answer are equal when folded, and the label
    exactly. The
    columns FOLDED are looked at."""
    keys = batch["digest"].to_numpy().astype(np.uint64)
    return _add_sides(keys, batch, lambda text: normalise_text(text).encode()) if labels else keys


def _add_sides(
    keys: np.ndarray, batch: pa.RecordBatch | pa.Table, form: Callable[[str], bytes]
) -> np.ndarray:
    """The keys, moved by the label and the rejected answer of the rows that have one."""
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
    """Keys (uint64) that come batch by batch, in one array."""
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def group_equal(values: np.ndarray) -> np.ndarray:
    """For each place the first place that has the same value, int64."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def merge_groups(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`groups` (int64, any member of the group for each place) with those of `first` and `second` made one,
    pair by pair; each group of the answer is named by its smallest member."""
    count = len(groups)
    ends = np.concatenate([np.arange(count), first]), np.concatenate([groups, second])
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(count, count))
    number, component_of = connected_components(graph, directed=False)
    smallest = np.full(number, count, dtype=np.int64)
    np.minimum.at(smallest, component_of, np.arange(count))
    smallest_of: np.ndarray = smallest[component_of]
    return smallest_of


def measure_largest_group(groups: np.ndarray) -> int:
    """Rows of the largest group."""
    return int(np.bincount(groups).max()) if len(groups) else 0
