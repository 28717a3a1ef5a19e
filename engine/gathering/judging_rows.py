"""Which of the new rows judge: drawn by a hash of each row, those that were drawn at random of all requests
before those that somebody chose to correct."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST = 10  # rows that judge, where there are `ENOUGH`
ENOUGH = 40


class Judging(NamedTuple):
    """judges: bool of each row. at_random: all of these were drawn at random."""

    judges: np.ndarray
    at_random: bool


def wanted(count: int, share: float) -> int:
    """How many of so many rows are to judge: never more than half."""
    least = LEAST if count >= ENOUGH else 1
    return min(max(least, round(share * count)), count // 2)


def choose(
    digests: np.ndarray,
    groups: np.ndarray,
    may_judge: np.ndarray,
    random: np.ndarray,
    share: float,
    seed: int = 0,
) -> Judging:
    """digests: uint64; groups: int64, equal where rows must not be parted; may_judge, random: bool. A group
    judges as a whole, where all of its rows may."""
    count = len(digests)
    most, left = count // 2, wanted(count, share)
    names, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place, minlength=len(names))
    allowed = np.bincount(place, weights=~may_judge, minlength=len(names)) == 0
    drawn = np.bincount(place, weights=~random, minlength=len(names)) == 0
    keys = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(keys, place, _hashed(digests, seed))
    judges, taken = np.zeros(count, bool), 0
    for group in np.lexsort((keys, ~drawn)):
        if taken >= left:
            break
        if allowed[group] and taken + sizes[group] <= most:
            judges |= place == group
            taken += int(sizes[group])
    return Judging(judges, bool(judges.any() and random[judges].all()))


def _hashed(values: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 of the digests, moved by the seed: the same rows for the same seed on every machine."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
