"""Which systems comparisons connect, and which differences of strength they can bound. Pure.

A system's strength is held up by those that it beat or tied with, however long the chain. A difference has an
upper limit where a chain of wins and ties leads from the second system to the first, and a lower one where
one leads back (Ford 1957): a system that always wins has no upper limit. Without any chain two systems can't
be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from engine.diagnostics.rating.rows.ratings import Comparisons, PairOutcome

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Connections:
    """group: of each system the number of what it is connected with. reaches [a, b]: a chain of wins and ties
    leads from a to b."""

    group: Ints
    reaches: Bools

    @classmethod
    def of(cls, comparisons: Comparisons) -> Connections:
        """Of comparisons without those that both were bad."""
        count = len(comparisons.systems)
        holds = np.eye(count, dtype=bool)
        lower, upper, outcome = comparisons.lower, comparisons.upper, comparisons.outcome_in_order
        won, lost = outcome != PairOutcome.RIGHT, outcome != PairOutcome.LEFT
        holds[lower[won], upper[won]] = True
        holds[upper[lost], lower[lost]] = True
        group = csgraph.connected_components(holds, directed=False)[1].astype(np.int64)
        while (further := (holds.astype(np.int64) @ holds) > 0).sum() > holds.sum():
            holds = further
        return cls(group, holds)

    def bounded(self, first: int, second: int) -> tuple[bool, bool]:
        """Whether the difference first minus second has a limit below, and one above."""
        return bool(self.reaches[first, second]), bool(self.reaches[second, first])

    def bounded_in_group(self, system: int) -> tuple[bool, bool]:
        """The same of a system against the mean of its group."""
        mates = self.group == self.group[system]
        return bool(self.reaches[system, mates].all()), bool(self.reaches[mates, system].all())

    def groups(self, systems: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Names of the systems that are connected."""
        return tuple(
            tuple(systems[int(k)] for k in np.flatnonzero(self.group == place))
            for place in np.unique(self.group)
        )
