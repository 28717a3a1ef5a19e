"""People's comparisons of two answers, as arrays, and the votes derived from them.

Invalid input raises a ValueError that names the field and the entry, so callers can rely on the arrays.
Comparisons keep the sides as shown (left is what was shown as A); votes don't have sides, and each rater has
one vote per item and pair. Systems, raters and items are indices into tuples of names. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class PairOutcome(IntEnum):
    """Outcome of a comparison: left is better, right is better, tie, or both are bad."""

    LEFT = 0
    RIGHT = 1
    TIE = 2
    BOTH_BAD = 3


OUTCOMES_BY_NAME = {
    "left": PairOutcome.LEFT,
    "right": PairOutcome.RIGHT,
    "tie": PairOutcome.TIE,
    "both_bad": PairOutcome.BOTH_BAD,
}


class NameIndex(NamedTuple):
    """Unique names in order of first occurrence, and the index of each entry's name."""

    names: tuple[str, ...]
    places: Ints


def index_names(entries: Sequence[Any], names: Sequence[str] | None = None) -> NameIndex:
    """Index the names in `entries`.

    If `names` is given, it determines the order, and any other name raises ValueError.
    """
    known_names = list(dict.fromkeys(str(entry) for entry in (entries if names is None else names)))
    place_of = {name: place for place, name in enumerate(known_names)}
    try:
        places = [place_of[str(entry)] for entry in entries]
    except KeyError as unknown:
        raise ValueError(f"{unknown.args[0]!r} is none of {', '.join(known_names)}.") from None
    return NameIndex(tuple(known_names), np.array(places, np.int64))


MAX_UNEVEN = 0.5  # e.g. a pair shown three times in one order and once in the other
ENTRY_FIELDS = (
    "left", "right", "outcome", "item", "rater",
    "seconds", "repeat", "adjudication", "differences", "weights", "preference",
)  # fmt: skip


@dataclass(frozen=True)
class Comparisons:
    """Comparisons of two answers, one entry per rating, in the order in which they were made.

    left, right: indices into `systems`. repeat: the second, swapped presentation of a pair, used only for the
    rater's consistency. adjudication: requested because earlier votes disagree; it settles its item and is
    excluded from all statistics, since disputed items would be overweighted. seconds: NaN where not measured.
    differences [n, covariates]: left minus right. weights: 1 / probability that the item was selected for
    rating, if probabilities differ. preference: weight of a decided vote toward the left side, 0 to 1, if the
    vote is fractional; NaN if it isn't. Strengths, win rates and means use fractional votes; agreement, rater
    statistics and side effects use the side that the vote names. by_vote: statistics are over votes, as in
    published leaderboards, and not over items regardless of their number of votes.
    """

    systems: tuple[str, ...]
    left: Ints
    right: Ints
    outcome: Ints
    item: Ints
    rater: Ints
    raters: tuple[str, ...]
    items: tuple[str, ...]
    seconds: Floats | None = None
    repeat: Bools | None = None
    adjudication: Bools | None = None
    covariates: tuple[str, ...] = ()
    differences: Floats | None = None
    weights: Floats | None = None
    preference: Floats | None = None
    by_vote: bool = False

    def __post_init__(self) -> None:
        n = len(self.left)
        _check_names(self)
        for field, most in (("left", self.systems), ("right", self.systems), ("outcome", PairOutcome),
                            ("item", self.items), ("rater", self.raters)):  # fmt: skip
            check_indices(field, getattr(self, field), n, len(most))
        if len(same := np.flatnonzero(self.left == self.right)):
            name = self.systems[self.left[same[0]]]
            raise ValueError(f"left and right: entry {same[0]} compares {name} with itself.")
        for field in ("seconds", "repeat", "adjudication", "weights", "preference"):
            values = getattr(self, field)
            if values is not None and np.shape(values) != (n,):
                raise ValueError(f"{field}: {np.shape(values)} is not one value for each of {n} comparisons.")
        _check_covariates(self.covariates, self.differences, n)
        if self.weights is not None and not (np.isfinite(self.weights) & (self.weights > 0)).all():
            raise ValueError("weights: each must be a number above 0.")
        if self.preference is not None:
            self._check_preference(self.preference)

    def _check_preference(self, preference: Floats) -> None:
        soft = np.isfinite(preference)
        toward = np.where(self.outcome == PairOutcome.LEFT, preference, 1 - preference)[soft]
        if (self.outcome[soft] >= PairOutcome.TIE).any() or not ((toward >= 0.5) & (toward <= 1)).all():
            raise ValueError(
                "preference: each must be 0.5 to 1 where left is better, 0 to 0.5 where right is."
            )

    @classmethod
    def of(
        cls,
        left: Sequence[str],
        right: Sequence[str],
        outcome: Sequence[str],
        item: Sequence[object],
        rater: Sequence[object],
        *,
        systems: Sequence[str] | None = None,
        **more: Any,
    ) -> Comparisons:
        """Create comparisons from names.

        Each `outcome` is "left", "right", "tie" or "both_bad"; `systems` sets the order of the systems.
        """
        names = index_names([*left, *right], systems)
        if wrong := [word for word in outcome if word not in OUTCOMES_BY_NAME]:
            raise ValueError(f"outcome: {wrong[0]!r} is none of {', '.join(OUTCOMES_BY_NAME)}.")
        items, raters = index_names(item), index_names(rater)
        kind = {"repeat": bool, "adjudication": bool}
        arrays: dict[str, Any] = {
            name: tuple(map(str, values))
            if name == "covariates"
            else np.asarray(values, kind.get(name, float))
            for name, values in more.items()
            if values is not None
        }
        return cls(
            systems=names.names, left=names.places[: len(left)], right=names.places[len(left) :],
            outcome=np.array([OUTCOMES_BY_NAME[word] for word in outcome], np.int64), item=items.places,
            rater=raters.places, raters=raters.names, items=items.names, **arrays,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.left)

    @property
    def fresh(self) -> Bools:
        """Mask of comparisons that aren't repeats."""
        fresh: Bools = np.ones(len(self), bool) if self.repeat is None else ~self.repeat
        return fresh

    @property
    def counted(self) -> Bools:
        """Mask of comparisons used in statistics: neither repeats nor adjudication."""
        return self.fresh if self.adjudication is None else self.fresh & ~self.adjudication

    @property
    def vote_weights(self) -> Floats:
        """Weights with which each item and pair counts once (or by its sampling weight), regardless of its
        number of votes; with `by_vote`, each vote counts once.
        """
        if self.by_vote:
            return np.ones(len(self)) if self.weights is None else self.weights
        _, place, votes = np.unique(self.unit, return_inverse=True, return_counts=True)
        each: Floats = 1 / votes[place]
        return each if self.weights is None else each * self.weights

    @property
    def signs(self) -> Floats:
        """1 where the left side won, -1 where the right side won, else 0; for fractional votes, left minus
        right.
        """
        signs: Floats = np.array([1.0, -1.0, 0.0, 0.0])[self.outcome]
        return signs if self.preference is None else np.where(self.soft, 2 * self.preference - 1, signs)

    @property
    def soft(self) -> Bools:
        """Mask of decided votes that are fractional."""
        nothing = np.zeros(len(self), bool)
        return nothing if self.preference is None else np.isfinite(self.preference)

    @property
    def lower(self) -> Ints:
        """The system of each comparison that comes first in `systems`."""
        return np.minimum(self.left, self.right)

    @property
    def upper(self) -> Ints:
        """The system of each comparison that comes second in `systems`."""
        return np.maximum(self.left, self.right)

    @property
    def outcome_in_order(self) -> Ints:
        """Outcomes as if the lower system had always been shown left."""
        swapped = (self.left > self.right) & (self.outcome < PairOutcome.TIE)
        return np.where(swapped, 1 - self.outcome, self.outcome)

    @property
    def unit(self) -> Ints:
        """Id of each comparison's item and pair of systems, equal for ratings of the same item and
        systems.
        """
        return np.ravel_multi_index(
            (self.item, self.lower, self.upper), (max(1, len(self.items)), *[max(1, len(self.systems))] * 2)
        ).astype(np.int64)

    @property
    def stood_on_one_side(self) -> bool:
        """Whether the sides of each pair are so unbalanced in decided votes that the side can't be separated
        from the model shown there.
        """
        decided = self.take(self.outcome < PairOutcome.TIE)
        pairs, of_pair = np.unique(decided.lower * len(self.systems) + decided.upper, return_inverse=True)
        lower_left = np.where(decided.left == decided.lower, 1, -1)
        uneven = np.abs(np.bincount(of_pair, lower_left, len(pairs))).sum() / max(1, len(decided))
        return bool(uneven > MAX_UNEVEN)

    def of_pair(self, first: int, second: int) -> Bools:
        """Return the mask of comparisons between these two systems."""
        chosen: Bools = (self.lower == min(first, second)) & (self.upper == max(first, second))
        return chosen

    def take(self, chosen: Bools | Ints) -> Comparisons:
        """Select comparisons by mask or index; the names of systems, raters and items are unchanged."""
        taken = copy(self)  # not validated again: a subset of valid entries is valid
        for name in ENTRY_FIELDS:
            if (values := getattr(self, name)) is not None:
                object.__setattr__(taken, name, values[chosen])
        return taken

    def place_of(self, system: str) -> int:
        """Return the index of a system. Raises ValueError if it is unknown."""
        if system not in self.systems:
            raise ValueError(f"{system!r} is none of {', '.join(self.systems)}.")
        return self.systems.index(system)


def _check_names(comparisons: Comparisons) -> None:
    for field in ("systems", "raters", "items"):
        names = getattr(comparisons, field)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{field}: {twice!r} is listed twice.")


def check_indices(field: str, places: Ints, n: int, most: int) -> None:
    if np.shape(places) != (n,):
        raise ValueError(f"{field}: {np.shape(places)} is not one value for each of {n} ratings.")
    wrong = np.flatnonzero((places < 0) | (places >= most))
    if len(wrong):
        raise ValueError(f"{field}: entry {wrong[0]} is {places[wrong[0]]}, not a place among {most}.")


def _check_covariates(names: tuple[str, ...], differences: Floats | None, n: int) -> None:
    if differences is None:
        if names:
            raise ValueError(f"differences: there are none for {', '.join(names)}.")
        return
    if differences.shape != (n, len(names)):
        raise ValueError(f"differences: {differences.shape} is not ({n}, {len(names)}).")
    if len(wrong := np.argwhere(~np.isfinite(differences))):
        entry, column = wrong[0]
        raise ValueError(f"differences: entry {entry} of {names[column]} is not a finite number.")


def compute_length_difference(left: ArrayLike, right: ArrayLike) -> Floats:
    """Return the difference of log lengths, left minus right; an empty answer counts as one character."""
    logs = [np.log(np.maximum(1.0, np.asarray(lengths, np.float64))) for lengths in (left, right)]
    return logs[0] - logs[1]


# Votes ignore sides, as A for one rater and B for another may be the same answer: a vote names the system
# that comes first in the round's list, the other system, a tie, or that both are bad. Adjudication counts as
# a vote only in the list of disputed items.

FIRST, _, TIE, BOTH_BAD = range(4)  # values of a vote; 1 stands for the second system
KINDS = 4


def select_votes(comparisons: Comparisons, *, adjudicated: bool = False) -> tuple[Comparisons, Ints]:
    """Return the counted comparisons, one per rater, item and pair, and the vote of each.

    A rater's later ratings of the same item and pair are dropped. With `adjudicated`, ratings that settled a
    dispute are included.
    """
    rated = comparisons.take(comparisons.fresh if adjudicated else comparisons.counted)
    _, first_time = np.unique(rated.unit * (len(rated.raters) + 1) + rated.rater, return_index=True)
    chosen = np.zeros(len(rated), bool)
    chosen[first_time] = True
    rated = rated.take(chosen)
    return rated, rated.outcome_in_order


@dataclass(frozen=True)
class Tally:
    """Vote counts per item and pair [units, KINDS], in the order of first votes.

    lower, upper: systems of the pair. unit: index of each vote's unit. weight: 1 / probability that the item
    was selected for rating.
    """

    item: Ints
    lower: Ints
    upper: Ints
    counts: Floats
    unit: Ints
    weight: Floats

    @classmethod
    def of(cls, rated: Comparisons, outcome: Ints) -> Tally:
        """Count the votes that `select_votes` returns."""
        _, first_vote, unit = np.unique(rated.unit, return_index=True, return_inverse=True)
        counts = np.zeros((len(first_vote), KINDS))
        np.add.at(counts, (unit, outcome), 1)
        weights = np.ones(len(rated)) if rated.weights is None else rated.weights
        return cls(
            rated.item[first_vote], rated.lower[first_vote], rated.upper[first_vote], counts,
            unit.astype(np.int64), weights[first_vote],
        )  # fmt: skip


@dataclass(frozen=True)
class DisputedItem:
    """Item on which raters disagree, with the entropy of its votes in bits and the vote counts by choice."""

    item: str
    first: str
    second: str
    entropy: float
    votes: dict[str, int]
    n: int


def find_disputed_items(comparisons: Comparisons) -> list[DisputedItem]:
    """Return items and pairs with at least two votes that aren't all equal, most disputed first.

    Items are sorted by entropy, then by number of votes.
    """
    rated, outcome = select_votes(comparisons, adjudicated=True)
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
            DisputedItem(
                rated.items[tally.item[unit]], first, second, float(entropy[unit]), given, int(n[unit])
            )
        )
    return rows
