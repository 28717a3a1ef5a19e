"""A rating round whose truth is known: simulated ratings of systems of given strengths.

An item adds its own effect to the strength of each system, a rater their taste, divided by how much they
guess; some press one side whatever is shown. So neither the ratings of an item nor those of a rater are
independent, and Davidson's model holds for none of them exactly. The truth is what its fit to infinitely
many ratings would be: `Round.truth` integrates over items, and over raters if others could have rated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from engine.rating.analysis import davidson
from engine.rating.analysis.comparisons import Comparisons, PairOutcome

Floats = NDArray[np.float64]
NODES, WEIGHTS = hermegauss(31)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
POPULATION = 4_000  # raters that represent the population


@dataclass(frozen=True)
class Round:
    """Parameters of a simulated round.

    strengths: log strengths. raters: number of raters. overlap: ratings per item and pair. apart: pairs
    per item; 0: all. of_item, of_rater: standard deviations of the effects of an item and a rater on a
    system's strength. noise: standard deviation of the logarithm of a rater's scale. side: mean and
    standard deviation of the effect of the left side. random: the maximum share of a rater's random
    answers. bad: share of items on which both are bad. taste: log odds per unit of a covariate (log
    length), whose mean is `longer` times the system's index.
    """

    strengths: tuple[float, ...]
    nu: float = 0.6
    items: int = 100
    raters: int = 3
    overlap: int = 1
    apart: int = 1
    of_item: float = 1.0
    of_rater: float = 0.0
    noise: float = 0.0
    side: tuple[float, float] = (0.0, 0.0)
    random: float = 0.0
    bad: float = 0.0
    taste: float = 0.0
    longer: float = 0.0

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs of systems."""
        return list(combinations(range(len(self.strengths)), 2))

    def people(self, rng: np.random.Generator, raters: int | None = None) -> People:
        """Draw raters of this kind."""
        count = raters or self.raters
        return People(
            rng.normal(0, 1, (count, len(self.strengths))) * self.of_rater,
            np.exp(rng.normal(0, 1, count) * self.noise),
            rng.normal(*self.side, count),
            rng.uniform(0, 1, count) * self.random,
        )

    def draw(self, rng: np.random.Generator, people: People) -> Comparisons:
        """Draw one round of these raters: each item is rated by `overlap` of them, in turn, with random
        sides.
        """
        count = len(self.strengths)
        of_item = rng.normal(0, 1, (self.items, count)) * self.of_item
        entries = []
        for item in range(self.items):
            chosen = rng.permutation(len(self.pairs))[: self.apart or len(self.pairs)]
            raters = (item * self.overlap + np.arange(self.overlap)) % self.raters
            entries += [(item, *self.pairs[pair], rater) for pair in chosen for rater in raters]
        item, first, second, rater = np.array(entries, np.int64).T
        swap = rng.random(len(item)) < 0.5
        left, right = np.where(swap, second, first), np.where(swap, first, second)
        lengths = rng.normal(0, 0.5, (self.items, count)) + self.longer * np.arange(count)
        apart = lengths[item, left] - lengths[item, right]
        levels = np.array(self.strengths) + of_item
        d = levels[item, left] - levels[item, right]
        d += people.likes[rater, left] - people.likes[rater, right] + self.taste * apart
        chance = people.chances(d, rater, self.nu)
        outcome = (rng.random((len(item), 1)) > chance.cumsum(axis=1)[:, :2]).sum(axis=1)
        bad = rng.random(self.items) < self.bad
        outcome = np.where(bad[item], PairOutcome.BOTH_BAD, outcome)
        return Comparisons(
            tuple(f"s{k}" for k in range(count)), left, right, outcome, item, rater,
            tuple(f"r{k}" for k in range(self.raters)), tuple(f"i{k}" for k in range(self.items)),
            covariates=("length",), differences=apart[:, None],
        )  # fmt: skip

    def truth(self, people: People) -> tuple[Floats, float]:
        """Return the strengths less their mean, and nu, for infinitely many items rated by these raters."""
        every = np.arange(len(people.scale))
        counts = np.array([self.expected(people, every, *pair) for pair in self.pairs])
        x = np.zeros((len(self.pairs), len(self.strengths)))
        for row, (i, j) in enumerate(self.pairs):
            x[row, i], x[row, j] = 1, -1
        design = davidson.Design(x, np.full(len(self.strengths), davidson.RIDGE))
        fitted = davidson.fit(design, 1e4 * counts[None])
        strengths = fitted.coefficients[0]
        return strengths - strengths.mean(), float(np.exp(fitted.log_nu[0]))

    def expected(self, people: People, raters: NDArray[np.int64], first: int, second: int) -> Floats:
        """Return the shares of wins of the first, wins of the second, and ties, averaged over raters, sides
        and items.
        """
        d = self.strengths[first] - self.strengths[second] + self.longer * self.taste * (first - second)
        spread = np.sqrt(2 * self.of_item**2 + 2 * (0.5 * self.taste) ** 2)
        likes = people.likes[raters, first] - people.likes[raters, second]
        shares = np.zeros(3)
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            at = d + spread * node + likes
            shares += weight * people.chances(at, raters, self.nu).mean(axis=0) / 2
            shares += weight * people.chances(-at, raters, self.nu).mean(axis=0)[[1, 0, 2]] / 2
        return shares


@dataclass(frozen=True)
class People:
    """Raters. likes [raters, systems]; scale: how strongly a rater responds to differences; side: effect of
    the left side; random: share of random answers.
    """

    likes: Floats
    scale: Floats
    side: Floats
    random: Floats

    def chances(self, d: Floats, rater: NDArray[np.int64], nu: float) -> Floats:
        """Return the probabilities of left, right and tie if the left system is stronger by d."""
        log_nu = np.full(len(rater), np.log(nu) if nu else -50.0)
        mine = davidson.compute_probabilities(d * self.scale[rater] + self.side[rater], log_nu)
        random = self.random[rater][:, None]
        return (1 - random) * mine + random / 3
