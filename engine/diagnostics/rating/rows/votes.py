"""What raters said of the same two answers to the same item, and where they part.

Sides are taken away first, as A by one rater and B by another may be the same answer: a vote names the system
that comes first in the round's list, the other, a tie, or that both are bad. A rater has one vote on each
item and pair. Adjudication is no vote here, but where items in dispute are listed. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.rating.rows.ratings import Comparisons

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FIRST, SECOND, TIE, BOTH_BAD = range(4)  # of a vote
KINDS = 4


def votes(comparisons: Comparisons, *, adjudicated: bool = False) -> tuple[Comparisons, Ints]:
    """Comparisons that count but for a rater's second rating of the same, and of each its vote; with those
    that settled a dispute where `adjudicated`."""
    rated = comparisons.take(comparisons.fresh if adjudicated else comparisons.counted)
    _, first_time = np.unique(rated.unit * (len(rated.raters) + 1) + rated.rater, return_index=True)
    chosen = np.zeros(len(rated), bool)
    chosen[first_time] = True
    rated = rated.take(chosen)
    return rated, rated.outcome_in_order


@dataclass(frozen=True)
class Tally:
    """Votes on each item and pair [units, KINDS], in the order of first votes; `lower` and `upper` are the
    systems of a pair; unit: of each vote; weight: of the item, 1 / its chance to be rated."""

    item: Ints
    lower: Ints
    upper: Ints
    counts: Floats
    unit: Ints
    weight: Floats

    @classmethod
    def of(cls, rated: Comparisons, outcome: Ints) -> Tally:
        """Of what `votes` gives."""
        _, first_vote, unit = np.unique(rated.unit, return_index=True, return_inverse=True)
        counts = np.zeros((len(first_vote), KINDS))
        np.add.at(counts, (unit, outcome), 1)
        weights = np.ones(len(rated)) if rated.weights is None else rated.weights
        return cls(
            rated.item[first_vote], rated.lower[first_vote], rated.upper[first_vote], counts,
            unit.astype(np.int64), weights[first_vote],
        )  # fmt: skip


@dataclass(frozen=True)
class Disputed:
    """An item on which people part: entropy of its votes in bits, and the votes by what they name."""

    item: str
    first: str
    second: str
    entropy: float
    votes: dict[str, int]
    n: int


def disputed(comparisons: Comparisons) -> list[Disputed]:
    """Items and pairs with two votes or more that are not all the same, most disputed first: by entropy, and
    among equals by the number of votes."""
    rated, outcome = votes(comparisons, adjudicated=True)
    tally = Tally.of(rated, outcome)
    n = tally.counts.sum(axis=1)
    shares = tally.counts / n[:, None] if len(n) else tally.counts
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(shares > 0, shares * np.log2(shares), 0.0).sum(axis=1)
    places = [unit for unit in np.lexsort((-n, -entropy)) if entropy[unit] > 0]
    rows = []
    for unit in places:
        first, second = rated.systems[tally.lower[unit]], rated.systems[tally.upper[unit]]
        named = dict(zip((first, second, "tie", "both bad"), map(int, tally.counts[unit]), strict=True))
        given = {name: count for name, count in named.items() if count}
        rows.append(
            Disputed(rated.items[tally.item[unit]], first, second, float(entropy[unit]), given, int(n[unit]))
        )
    return rows
