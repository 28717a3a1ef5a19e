"""Krippendorff's alpha: how far raters agree beyond chance (0), of comparisons, scores, labels and sets
of labels.

Only items with two ratings or more count; the interval takes whole prompts anew, with random weights.
Chance is taken over pairs of systems, so that raters who toss coins don't agree. Of sets the distance is
MASI (Passonneau 2006), of spans each character is a rating, and neither has an interval. Pure and seeded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.comparisons import Comparisons, select_votes
from engine.rating.analysis.rates import CriterionScores, Passes, Ranks

# Krippendorff's alpha: how far raters agree beyond chance, with an interval over items.
#
# Only items with two ratings or more say anything of agreement; of comparisons the item is a prompt with
# its two systems (`votes.py`). Alpha is 1 - observed / expected disagreement (Krippendorff 2004): 0 is
# chance. Where all ratings are the same nothing is expected and it is not defined. Of three systems or more
# chance is that of two votes on the same two systems for different prompts, as only these could have named
# the same: over all pairs of systems together, raters who toss coins agreed by 0.25 to 0.43. What of a
# prompt is rated hangs together, so that resamples take whole prompts, with random weights, and are widened
# to Student's t. Prompts that were likelier to be rated weigh less. Pure and seeded.

RESAMPLES = 1_000
MIN_UNITS = 20  # items, under which alpha has no interval
MIN_OTHERS = 8  # of them with another rating than the commonest, likewise
UNSEEN, SEEN = 0.5, 0.1  # of an item on which raters disagree as by chance, for the lower and the upper limit
EPSILON = 1e-9
CHUNK = 4_000_000  # numbers held at a time
Level = Literal["nominal", "ordinal", "interval", "sets"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha; its n counts items with two ratings or more, `ratings` those of these items."""

    interval: Interval
    ratings: int
    level: Level


def compute_alpha(
    values: Sequence[object] | NDArray[np.generic],
    item: ArrayLike,
    *,
    level: Level = "nominal",
    among: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Alpha:
    """Of ratings: any labels where they are nominal, else numbers.

    Of each rating, alike for all of an item: `among`, of nominal ones, what its value could be chosen from
    (items with other choices say nothing of chance); `cluster`, what its item hangs together with (else
    itself); `weights`, 1 / the chance that its item had (else the same).
    """
    if not len(values):
        return Alpha(Interval(math.nan, None, None, 0, why="there is no rating"), 0, level)
    labels, place = np.unique(np.asarray(values), return_inverse=True)
    items, first, unit = np.unique(np.asarray(item), return_index=True, return_inverse=True)
    counts = np.zeros((len(items), len(labels)))
    np.add.at(counts, (unit, place), 1)
    stratum = None if among is None else np.unique(np.asarray(among), return_inverse=True)[1][first]
    rated = RatedItems(
        counts,
        np.arange(len(items)) if cluster is None else np.asarray(cluster)[first],
        np.ones(len(items)) if weights is None else np.asarray(weights, np.float64)[first],
        stratum,
    ).with_agreement()
    numbers = np.arange(len(labels), dtype=float) if level == "nominal" else labels.astype(np.float64)
    n, ratings = len(rated.counts), int(rated.counts.sum())
    if why := explain_undefined(rated):
        return Alpha(Interval(math.nan, None, None, n, why=why), ratings, level)
    table = _Coincidences.of(rated, numbers, level)
    value = float(table.alphas(rated.weight[None])[0])
    if not math.isfinite(value):
        why = "all ratings are the same for each two models, so that no disagreement is expected by chance"
        return Alpha(Interval(math.nan, None, None, n, why=why), ratings, level)
    if why := _describe_small_sample(rated):
        return Alpha(Interval(value, None, None, n, why=why), ratings, level)
    low, high = _compute_limits(table, rated, value, confidence, resamples)
    return Alpha(Interval(value, low, high, n), ratings, level)


@dataclass(frozen=True)
class RatedItems:
    """counts [items, values] of ratings; of each item what it hangs together with, its weight, and what its
    values are among."""

    counts: Floats
    cluster: NDArray[np.generic]
    weight: Floats
    stratum: Ints | None

    def take(self, chosen: Bools) -> RatedItems:
        stratum = None if self.stratum is None else self.stratum[chosen]
        return RatedItems(self.counts[chosen], self.cluster[chosen], self.weight[chosen], stratum)

    def with_agreement(self) -> RatedItems:
        """Items with two ratings or more, beside which there is another one of the same choices."""
        several = self.take(self.counts.sum(axis=1) >= 2)
        if several.stratum is None:
            return several
        sizes = np.bincount(several.stratum, minlength=1)
        return several.take(sizes[several.stratum] >= 2)

    @cached_property
    def cluster_place(self) -> Ints:
        """Of each item, from 0 on."""
        places: Ints = np.unique(self.cluster, return_inverse=True)[1].astype(np.int64)
        return places

    @property
    def clusters(self) -> float:
        """So many of equal weight say as much (Kish)."""
        sums = np.bincount(self.cluster_place, self.weight)
        return float(sums.sum() ** 2 / np.square(sums).sum()) if len(sums) else 0.0


def explain_undefined(rated: RatedItems) -> str:
    """Why alpha is not defined; empty where it is."""
    counts = rated.counts
    if not len(counts):
        beside = "" if rated.stratum is None else " beside another one of the same two models"
        return f"no item has two ratings{beside}"
    if (counts.sum(axis=0) > 0).sum() < 2:
        return "all ratings are the same, so that no disagreement is expected by chance either"
    return ""


def _describe_small_sample(rated: RatedItems) -> str:
    """Why so little gives no interval; empty where it does."""
    counts, n = rated.counts, math.floor(rated.clusters + 1e-9)
    if n < MIN_UNITS:
        items = "1 item with two ratings is" if n == 1 else f"{n} items with two ratings or more are"
        if n < len(np.unique(rated.cluster)):
            items = f"items of so unequal weight say as much as {n} would, which are"
        return f"{items} too few (from {MIN_UNITS} on there is an interval)"
    commonest = counts[:, counts.sum(axis=0).argmax()]
    others = int((commonest < counts.sum(axis=1)).sum())
    if others < MIN_OTHERS:
        only = "only 1 item has" if others == 1 else f"only {others} items have"
        return f"{only} any rating but the commonest, so that agreement by chance is hardly known"
    return ""


def _compute_limits(
    table: _Coincidences, rated: RatedItems, value: float, confidence: float, resamples: int
) -> tuple[float, float]:
    """Of disagreement over what is expected: that of resamples, beside a part of an item, of random weight,
    on which raters disagree as by chance (half of one for what may be missing, a tenth for the other limit:
    see `statistics/intervals.py`), as far out as Student's t is for so many items."""
    random = np.random.default_rng(0)
    clusters, n = int(rated.cluster_place.max()) + 1, rated.clusters
    each = float(rated.weight @ table.totals.sum(axis=1)) / n
    apart, whole = np.empty(resamples), np.empty(resamples)
    start, summed = 0, None if table.stratum is not None else table.of_clusters(rated)
    for count in intervals.draw_batches(resamples, clusters + 2 * len(rated.counts) + table.width, CHUNK):
        some = slice(start, start := start + count)
        weights = random.standard_exponential((count, clusters))
        if summed is None:
            weights = weights[:, rated.cluster_place] * rated.weight
        drawn = summed or table
        apart[some], whole[some] = 1 - drawn.alphas(weights), (weights @ drawn.totals).sum(axis=1)
    tail = (1 - confidence) / 2
    ends = []
    for part, level in ((UNSEEN, 1 - tail), (SEEN, tail)):
        beside = each * random.standard_gamma(part, resamples)
        logs = np.log(np.maximum((apart * whole + beside) / (whole + beside), EPSILON))
        middle = float(np.median(logs))
        times = float(special.stdtrit(n - 1, 1 - tail) / special.ndtri(1 - tail)) * math.sqrt(n / (n - 1))
        ends.append(1 - math.exp(middle + times * (float(np.quantile(logs, level)) - middle)))
    return max(-1.0, min(ends[0], value)), 1.0 if value == 1 else max(ends[1], value)


class _Coincidences(NamedTuple):
    """Of each item with two ratings or more: how often each two values were given together, by one rating
    less than there are [items, values, values], of nominal ones how often the same [items, values], as all
    else counts alike; numbers: the values themselves; shares: how much of all items each is; stratum: what an
    item's values are among."""

    pairs: Floats
    totals: Floats
    numbers: Floats
    level: Level
    shares: Floats
    stratum: Ints | None

    def of_clusters(self, rated: RatedItems) -> _Coincidences:
        """Items that hang together as one, each with its weight: they are drawn together, so that a resample
        takes a sum for each cluster in place of its items. Of items without a stratum."""
        items, clusters = len(rated.counts), int(rated.cluster_place.max()) + 1
        member = sparse.csr_array(
            (rated.weight, (rated.cluster_place, np.arange(items))), shape=(clusters, items)
        )
        pairs = (member @ self.pairs.reshape(items, -1)).reshape(clusters, *self.pairs.shape[1:])
        return self._replace(pairs=pairs, totals=member @ self.totals, shares=member @ self.shares)

    @property
    def width(self) -> int:
        """Numbers that one set of weights comes to."""
        groups = 1 if self.stratum is None else int(self.stratum.max()) + 1
        return groups * self.totals.shape[1] if self.level == "nominal" else len(self.numbers) ** 2

    @classmethod
    def of(cls, rated: RatedItems, numbers: Floats, level: Level) -> _Coincidences:
        """From the ratings of each item."""
        counts, stratum = rated.counts, rated.stratum
        others = counts.sum(axis=1) - 1
        shares = np.full(len(counts), 1 / len(counts))
        if level == "nominal":
            return cls(counts * (counts - 1) / others[:, None], counts, numbers, level, shares, stratum)
        every = counts[:, :, None] * counts[:, None, :]
        every -= np.eye(counts.shape[1]) * counts[:, :, None]
        return cls(every / others[:, None, None], counts, numbers, level, shares, stratum)

    def alphas(self, weights: Floats) -> Floats:
        """One alpha for each set of weights of the items, or of clusters of them [sets, items]."""
        if self.level == "nominal":
            return self._nominal(weights) if self.stratum is None else self._among(weights, self.stratum)
        size = len(self.numbers)
        seen = (weights @ self.pairs.reshape(len(self.pairs), -1)).reshape(-1, size, size)
        totals = weights @ self.totals
        distance = self._distances(totals)
        observed = (seen * distance).sum(axis=(1, 2))
        expected = (totals[:, :, None] * totals[:, None, :] * distance).sum(axis=(1, 2))
        whole = totals.sum(axis=1)
        scale = weights @ self.shares  # whole / scale ratings: what one less than all is
        with np.errstate(divide="ignore", invalid="ignore"):
            alphas: Floats = 1 - (whole - scale) * observed / expected
        return alphas

    def _nominal(self, weights: Floats) -> Floats:
        totals = weights @ self.totals
        whole = totals.sum(axis=1)
        observed = whole - (weights @ self.pairs).sum(axis=1)
        expected = whole * whole - np.square(totals).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            alphas: Floats = 1 - (whole - weights @ self.shares) * observed / expected
        return alphas

    def _among(self, weights: Floats, stratum: Ints) -> Floats:
        """Chance of each stratum from its pairs of ratings on different items."""
        each = self.totals.sum(axis=1)
        observed = weights @ (each - self.pairs.sum(axis=1))
        labels = self.totals.shape[1]
        strata = int(stratum.max()) + 1
        own = np.column_stack([np.square(each), np.square(self.totals).sum(axis=1)])  # pairs on one item
        places = stratum[:, None] * labels + np.arange(labels)
        totals = _scatter_add(weights, self.totals, places, strata * labels).reshape(-1, strata, labels)
        on_one = _scatter_add(np.square(weights), own, stratum[:, None] * 2 + np.arange(2), strata * 2)
        whole = totals.sum(axis=2)
        pairs = whole * whole - on_one[:, 0::2]
        same = np.square(totals).sum(axis=2) - on_one[:, 1::2]
        expected = (whole * (1 - same / np.where(pairs > 0, pairs, 1))).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            alphas: Floats = 1 - observed / expected
        return alphas

    def _distances(self, totals: Floats) -> Floats:
        """Squared distance of each two values [sets or 1, values, values]."""
        if self.level == "interval":
            return np.square(self.numbers[:, None] - self.numbers)[None]
        middles = np.cumsum(totals, axis=1) - totals / 2  # ranks: all of what lies between, half of the ends
        return np.square(middles[:, :, None] - middles[:, None, :])


def _scatter_add(weights: Floats, values: Floats, places: Ints, width: int) -> Floats:
    """Sums [sets, width] of the items' values [items, k], each at its place, for `weights` [sets, items]."""
    item = np.repeat(np.arange(len(values)), values.shape[1])
    entries = sparse.csr_array((values.ravel(), (item, places.ravel())), shape=(len(values), width))
    return np.asarray(weights @ entries, np.float64)


def compute_outcome_alpha(comparisons: Comparisons) -> Alpha:
    """Of comparisons, by which of the two was preferred; its items are items with two systems."""
    rated, outcome = select_votes(comparisons)
    pair = rated.lower * len(rated.systems) + rated.upper
    several = len(np.unique(pair)) > 1
    return compute_alpha(
        outcome, rated.unit, among=pair if several else None, cluster=rated.item, weights=rated.weights
    )


def compute_score_alpha(scores: CriterionScores, criterion: str) -> Alpha:
    """Of the scores by one criterion, as ranks; its items are answers."""
    chosen = scores.criterion == scores.criteria.index(criterion)
    return compute_alpha(
        scores.score[chosen],
        _index_answers(scores)[chosen],
        level="ordinal",
        cluster=scores.item[chosen],
        weights=scores.item_weights[chosen],
    )


def compute_pass_alpha(passes: Passes) -> Alpha:
    """Of passes; its items are answers."""
    return compute_alpha(
        passes.passed, _index_answers(passes), cluster=passes.item, weights=passes.item_weights
    )


def compute_rank_alpha(ranks: Ranks) -> Alpha:
    """Of ranks; its items are answers."""
    return compute_alpha(
        ranks.rank, _index_answers(ranks), level="ordinal", cluster=ranks.item, weights=ranks.item_weights
    )


def _index_answers(graded: CriterionScores | Passes | Ranks) -> Ints:
    return graded.item * len(graded.systems) + graded.system


# Krippendorff's alpha where a rating is a set of labels: of a text, or of each character of it.
#
# Two sets that share labels are nearer than two that share none: their distance is MASI (Passonneau 2006),
# 1 less the share of their labels that they have in common, times 1 for equal sets, 2/3 where one holds the
# other, 1/3 where they share some, 0 where none. Two empty sets are equal. Of spans each character is a
# rating, a set of the labels that cover it; each text counts the same, however long, as the characters of
# one hang together: items are texts.
#
# It has no interval: that of `alpha` held the truth in 89 to 93 of 100 made rounds of 60 to 300 texts on
# which raters agree fairly. Pure.

NO_INTERVAL = "none is known that holds for sets of labels"
LabelSet = frozenset[str]
TextId = tuple[int, int]  # its item, and which text of it


class LabelledSpan(NamedTuple):
    """Characters of a text, from the first to the one after the last."""

    start: int
    end: int
    label: str


class MarkedText(NamedTuple):
    """What one rater marked in one text of so many characters. item: its prompt, whose texts hang together;
    text: which of them."""

    item: int
    text: int
    rater: str
    characters: int
    spans: tuple[LabelledSpan, ...]


def masi_distance(sets: Sequence[LabelSet]) -> Floats:
    """The distance of each two [sets, sets]."""
    labels = {label: place for place, label in enumerate(sorted(set().union(*sets)))}
    has = np.zeros((len(sets), max(1, len(labels))))
    for place, given in enumerate(sets):
        has[place, [labels[label] for label in given]] = 1
    shared, size = has @ has.T, has.sum(axis=1)
    smaller = np.minimum(size[:, None], size)
    union = size[:, None] + size - shared
    alike = np.where(union == 0, 1.0, shared / np.maximum(union, 1))
    nested = np.where(shared == smaller, 2 / 3, 1 / 3)
    nearness = np.where(shared == union, 1.0, np.where(shared == 0, 0.0, nested))
    distances: Floats = 1 - alike * nearness
    return distances


def compute_set_alpha(
    sets: Sequence[LabelSet], items: Sequence[int], weights: Sequence[float] | None = None
) -> Alpha:
    """Of ratings that are each a set of labels. weights: of each rating, 1 / the chance that its item had."""
    parts: dict[TextId, list[tuple[LabelSet, float]]] = defaultdict(list)
    weight_of: dict[int, float] = {}
    for place, (given, item) in enumerate(zip(sets, items, strict=True)):
        parts[item, 0].append((given, 1.0))
        weight_of[item] = 1.0 if weights is None else weights[place]
    return _compute_segment_alpha({item: [given] for item, given in parts.items()}, weight_of)


def compute_span_alpha(texts: Sequence[MarkedText], weights: Mapping[int, float] | None = None) -> Alpha:
    """Of spans, character by character. weights: by item."""
    by_text: dict[TextId, list[MarkedText]] = defaultdict(list)
    for text in texts:
        by_text[text.item, text.text].append(text)
    parts = {place: _split_into_segments(marked) for place, marked in by_text.items()}
    weight_of = {item: 1.0 if weights is None else weights[item] for item, _ in by_text}
    return _compute_segment_alpha(parts, weight_of)


def _split_into_segments(marked: Sequence[MarkedText]) -> list[list[tuple[LabelSet, float]]]:
    """Of each stretch of a text in which no mark begins or ends what each rater gave it, and its share."""
    length = marked[0].characters
    cuts = sorted({0, length, *(place for text in marked for span in text.spans for place in span[:2])})
    stretches = []
    for start, end in pairwise(cuts):
        share = (end - start) / length
        stretches.append(
            [
                (
                    frozenset(span.label for span in text.spans if span.start <= start and end <= span.end),
                    share,
                )
                for text in marked
            ]
        )
    return stretches


def _compute_segment_alpha(
    parts: Mapping[TextId, Sequence[Sequence[tuple[LabelSet, float]]]],
    weight_of: Mapping[int, float],
) -> Alpha:
    """parts: of each text its stretches, each with what every rater gave it and its share of the text."""
    several = {item: stretches for item, stretches in parts.items() if stretches and len(stretches[0]) >= 2}
    values = sorted({given for each in several.values() for part in each for given, _ in part}, key=sorted)
    place_of = {given: place for place, given in enumerate(values)}
    distances = masi_distance(values) if values else np.zeros((0, 0))
    totals, apart = np.zeros((len(several), len(values))), np.zeros(len(several))
    for row, stretches in enumerate(several.values()):
        for stretch in stretches:
            places, share = [place_of[given] for given, _ in stretch], stretch[0][1]
            np.add.at(totals[row], places, share)
            pairs = distances[np.ix_(places, places)].sum()
            apart[row] += share * float(pairs) / (len(places) - 1)
    items = [item for item, _ in several]
    rated = RatedItems(totals, np.array(items), np.array([weight_of[item] for item in items]), None)
    n, ratings = len(set(items)), sum(len(stretches[0]) for stretches in several.values())
    if not parts:
        return Alpha(Interval(math.nan, None, None, 0, why="there is no rating"), 0, "sets")
    if why := explain_undefined(rated):
        return Alpha(Interval(math.nan, None, None, n, why=why), ratings, "sets")
    weight = rated.weight
    whole = weight @ totals
    expected = float(whole @ distances @ whole)
    value = 1 - (whole.sum() - weight.mean()) * float(weight @ apart) / expected
    return Alpha(Interval(float(value), None, None, n, why=NO_INTERVAL), ratings, "sets")
