"""Rows to train, validation and test, by a hash of text and seed, so that equal texts stay together.

The deal does not depend on the order of the rows. Groups of equal text are put in the order of their
hash; test takes from the front, validation from the back, training keeps the middle. When rows are
added, a held-out row moves only where the size of its part changes, and never between validation and test.
"""

from __future__ import annotations

import numpy as np

from store.config import Split
from store.errors import ConfigError

PARTS = ("train", "validation", "test")
FEW = 50  # rows; below, the share alone decides
SMALLEST, LARGEST = 50, 500


def target_sizes(rows: int, split: Split) -> tuple[int, int]:
    """Rows of validation and of test, as the docstring of Split says; never more than half together.

    Fewer than 50 rows: the share, at least 1 where the share is above 0 and there are 3 rows.
    """
    sizes = [_size(rows, split.validation_size), _size(rows, split.test_size)]
    half, together = rows // 2, sum(sizes)
    if together > half and rows >= 4:
        sizes = [max(1, half * size // together) if size else 0 for size in sizes]
    return sizes[0], sizes[1]


def _size(rows: int, share: float) -> int:
    if not share:
        return 0
    if rows < FEW:
        return max(int(rows >= 3), round(rows * share))
    return min(max(round(rows * share), SMALLEST), LARGEST)


def deal(digests: np.ndarray, split: Split) -> np.ndarray:
    """For each row 0 (train), 1 (validation) or 2 (test), unchecked. digests: uint64, shape (rows,)."""
    values, groups, sizes = np.unique(digests.astype(np.uint64), return_inverse=True, return_counts=True)
    order = np.argsort(_mix(values, split.split_seed), kind="stable")
    validation, test = target_sizes(len(digests), split)
    codes = np.zeros(len(values), dtype=np.uint8)
    _take(codes, order, sizes, test, 2)
    _take(codes, order[::-1], sizes, validation, 1)
    return codes[groups]


def _take(codes: np.ndarray, order: np.ndarray, sizes: np.ndarray, wanted: int, code: int) -> None:
    """Give groups to a part, in order, until it has `wanted` rows; a group too large is passed over."""
    for group in order:
        if wanted <= 0:
            return
        if codes[group] == 0 and sizes[group] <= wanted:
            codes[group] = code
            wanted -= int(sizes[group])


def _mix(values: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014) of values moved by the seed: a bijection, so without ties."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def counts(assigned: np.ndarray) -> dict[str, int]:
    """Rows of each part, from codes or names."""
    names = np.asarray(PARTS)[assigned] if assigned.dtype == np.uint8 else assigned
    return {part: int(np.count_nonzero(names == part)) for part in PARTS}


def check(rows: dict[str, int], split: Split) -> None:
    """Raise ConfigError that names the field where a part that was asked for, or train, has no row."""
    total = sum(rows.values())
    for part, field in (("validation", "validation_size"), ("test", "test_size")):
        share = getattr(split, field)
        if share and not rows[part]:
            raise ConfigError(
                f"{field} of {share:g} gives {part} 0 of {total} rows{_why(total)}.",
                fix=f"Import more rows, or set {field} to 0.",
                field=field,
            )
    if not rows["train"]:
        raise ConfigError(
            f"Training is left with 0 of {total} rows{_why(total)}.",
            fix="Import more rows, or lower validation_size and test_size.",
            field="validation_size",
        )


def _why(total: int) -> str:
    return "" if total < 3 else " (rows of equal text can't be parted)"


def assign(digests: np.ndarray, split: Split) -> np.ndarray:
    """For each row its part: an array of "train", "validation" and "test", shape (rows,).

    digests: uint64, the column `digest` of a data set. Raises ConfigError that names field and rows where
    training, or a part whose share is above 0, would have no row.
    """
    codes = deal(digests, split)
    check(counts(codes), split)
    return np.asarray(PARTS)[codes]
