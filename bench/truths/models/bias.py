"""Bias probes and group figures: coverage of their intervals, and how often "worse" is claimed wrongly.

Pairs come from templates: whether a pair flips, and by how much its odds change, partly depends on its
template. Groups are unequal, some rates rare, and the gap is the largest of many.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import special

from bench.truths import Rate
from engine.bias import groups, probe_statistics, rates, verdict
from engine.bias.groups import GroupRows
from engine.bias.probe_statistics import AnsweredPairs, ChosenAnswers, ReferredPairs
from engine.bias.rates import MeasuredBias
from engine.evaluation.statistics.intervals import Interval

LIKE = 0.3  # intraclass correlation of the pairs of a template
KINDS = 4  # pairs per template


def _holds(interval: Interval, truth: float) -> bool | None:
    if interval.low is None or interval.high is None:
        return None
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def _clustered(rng: np.random.Generator, share: float, templates: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 0 or 1 per pair, of templates whose own share varies around `share`."""
    more = (1 - LIKE) / LIKE
    own = rng.beta(share * more, (1 - share) * more, templates)
    clusters = np.repeat(np.arange(templates), KINDS)
    return (rng.random(len(clusters)) < own[clusters]).astype(float), clusters


def share_covers(rng: np.random.Generator, share: float, templates: int) -> bool | None:
    hits, clusters = _clustered(rng, share, templates)
    return _holds(rates.estimate_share(hits, clusters), share)


def change_covers(rng: np.random.Generator, base: float, tuned: float, templates: int) -> bool | None:
    """Whether the interval of the change of the share covers the truth. If base and tuned share are equal,
    half of the templates have the same outcomes before and after.
    """
    before, clusters = _clustered(rng, base, templates)
    after, _ = _clustered(rng, tuned, templates)
    if base == tuned:
        same = rng.random(templates)[clusters] < 0.5
        after = np.where(same, before, after)
    return _holds(rates.estimate_share_change(before, after, clusters), tuned - base)


def lean_claims(rng: np.random.Generator, base: float, tuned: float, templates: int) -> bool:
    """Whether a lean is called changed."""
    clusters = np.repeat(np.arange(templates), KINDS)
    shared = rng.normal(0, 0.1, templates)[clusters]
    before = base + shared + rng.normal(0, 0.15, len(clusters))
    after = tuned + shared + rng.normal(0, 0.15, len(clusters))
    change = rates.estimate_lean_change(before, after, clusters)
    return change.above or change.below


def gap_covers(rng: np.random.Generator, share: tuple[float, ...], rows: tuple[int, ...]) -> bool | None:
    """Whether the interval of the largest gap between groups with the given shares covers the truth."""
    values = {
        str(place): (rng.random(n) < p).astype(float)
        for place, (p, n) in enumerate(zip(share, rows, strict=True))
    }
    large = [p for p, n in zip(share, rows, strict=True) if n >= groups.MIN_GROUP_ROWS]
    return _holds(groups.compute_group_gap(values, share=True), max(large) - min(large))


def gap_claims(rng: np.random.Generator, count: int, rows: int, share: float) -> bool | None:
    """Whether groups that are all alike are called significantly different."""
    values = {str(place): (rng.random(rows) < share).astype(float) for place in range(count)}
    spread = groups.compute_group_gap(values, share=True)
    return None if spread.low is None else spread.low > 0


def group_change_claims(rng: np.random.Generator, count: int, rows: int, apart: float, kept: float) -> bool:
    """Whether unchanged gaps, of models that agree on `kept` of the rows, are called changed."""
    names = np.repeat([str(place) for place in range(count)], rows)
    share = np.repeat(np.linspace(0.6, 0.6 + apart, count), rows)
    before = rng.random(len(names)) < share
    after = np.where(rng.random(len(names)) < kept, before, rng.random(len(names)) < share)
    old, new = (GroupRows(names, right.astype(float), True) for right in (before, after))
    change = groups.compute_group_gaps("column", old, new)[0].change
    assert change is not None
    return change(0.95).above or change(0.95).below


def odds_covers(rng: np.random.Generator, rows: tuple[int, ...]) -> bool | None:
    """Whether the interval of the equalized odds difference covers the truth of 0.15, for a classifier whose
    rates differ by group.
    """
    names, selected, positive = [], [], []
    for place, n in enumerate(rows):
        is_positive = rng.random(n) < 0.4
        hit = 0.8 - 0.15 * place / (len(rows) - 1)
        names += [str(place)] * n
        positive.append(is_positive)
        selected.append(rng.random(n) < np.where(is_positive, hit, 0.1))
    chosen, right = np.concatenate(selected), np.concatenate(positive)
    made = GroupRows(np.array(names), (chosen == right).astype(float), True, chosen, right)
    return _holds(groups.compute_group_gaps("column", None, made)[-1].tuned, 0.15)


def coreference_claims(rng: np.random.Generator, n: int, level: float, opposed: float) -> bool:
    """Whether an unchanged gap is called changed. opposed: share of the pairs in which a change of one side
    comes with the opposite change of the other.
    """
    base = (rng.random((n, 2)) < [level + 0.1, level - 0.1]).astype(float)
    other = (rng.random((n, 2)) < [level + 0.1, level - 0.1]).astype(float)
    redrawn = rng.random((n, 2)) < 0.3
    tuned = np.where(redrawn, other, base)
    turned = rng.random(n) < opposed
    pro = rng.random(n) < 0.5
    base[turned] = np.where(pro[turned, None], [1.0, 0.0], [0.0, 1.0])
    again = rng.random(n) < 0.5
    tuned[turned] = np.where(again[turned, None], [1.0, 0.0], [0.0, 1.0])
    change = probe_statistics.measure_coreference("made", ReferredPairs(base, tuned, np.full(n, "")))[
        0
    ].change
    assert change is not None
    return change(0.95).above or change(0.95).below


def score_claims(rng: np.random.Generator, n: int, guess: float) -> bool:
    """Whether an unchanged BBQ score of ambiguous contexts is called changed."""
    ways = [rng.choice([1.0, -1.0, 0.0], n, p=[guess * 0.6, guess * 0.4, 1 - guess]) for _ in (0, 1)]
    tuned = np.where(rng.random(n) < 0.6, ways[0], ways[1])
    none = np.zeros(n)
    ambiguous = np.ones(n, bool)
    answers = ChosenAnswers(ambiguous, ~ambiguous, ways[0], tuned, none, none, np.full(n, ""))
    change = probe_statistics.measure_choices("made", answers)[0].change
    assert change is not None
    return change(0.95).above or change(0.95).below


def family_claims(rng: np.random.Generator, templates: int) -> bool:
    """Whether the built-in probe calls anything worse or better for two equally biased models."""
    clusters = np.repeat(np.arange(templates), KINDS)
    axes = np.resize(["age", "gender", "origin", "religion", "health"], len(clusters))
    task = rng.normal(0, 1.5, templates)[clusters]
    lean = 0.3 * (axes == "age")

    def model() -> np.ndarray:
        each = rng.normal(0, 0.4, (len(clusters), 2))
        each[:, 1] += lean
        shift = rng.normal(0, 0.5, templates)[clusters]
        return np.asarray(task[:, None] + shift[:, None] + each)

    answered = AnsweredPairs(model(), model(), axes, clusters)
    figures: list[MeasuredBias] = probe_statistics.measure_counterfactual("made", answered)
    answers = {figure.answer for figure in verdict.build_report(figures, []).figures}
    return bool(answers & {"worse", "better"})


def finds(rng: np.random.Generator, templates: int, lean: float) -> bool:
    """Whether a lean introduced by training is called worse, among all other figures."""
    clusters = np.repeat(np.arange(templates), KINDS)
    axes = np.resize(["age", "gender", "origin", "religion", "health"], len(clusters))
    task = rng.normal(0, 1.0, templates)[clusters]
    before, after = (task[:, None] + rng.normal(0, 0.3, (len(clusters), 2)) for _ in (0, 1))
    after[:, 1] += special.logit(0.5 + lean) * (axes == "age") * 2
    figures = verdict.build_report(
        probe_statistics.measure_counterfactual("made", AnsweredPairs(before, after, axes, clusters)), []
    )
    return any(f.answer == "worse" and f.group in ("age", "") for f in figures.figures)


def _covers(name: str, happens: partial[bool | None], low: float = 0.93, high: float = 1.0) -> Rate:
    return Rate("bias", name, 0.95, low, high, happens, 1_000)


def _level(name: str, happens: partial[bool | None], draws: int = 1_000) -> Rate:
    return Rate("bias", name, 0.05, 0.0, 0.075, happens, draws)


CHANGES = ((2, 60, 0.0, 0.7), (2, 250, 0.2, 0.0), (8, 60, 0.2, 0.5), (5, 100, 0.0, 0.0))
UNEQUAL = (400, 150, 60, 40, 35, 20, 8)

RATES = [
    *(
        _covers(f"share of flips {p:g}, {n} templates: covers", partial(share_covers, share=p, templates=n))
        for p in (0.02, 0.1, 0.4)
        for n in (10, 40, 125)
    ),
    *(
        _covers(
            f"change of flips {b:g} to {t:g}, {n} templates: covers",
            partial(change_covers, base=b, tuned=t, templates=n),
        )
        for b, t in ((0.05, 0.05), (0.02, 0.1), (0.3, 0.3), (0.2, 0.4))
        for n in (10, 40)
    ),
    *(
        _level(
            f"leaning {b:g} to {t:g}, {n} templates: called changed",
            partial(lean_claims, base=b, tuned=t, templates=n),
        )
        for b, t in ((0.0, 0.0), (0.1, 0.1), (0.1, -0.1), (0.02, -0.02))
        for n in (10, 40)
    ),
    _covers(
        "largest gap of 7 unequal groups, all alike: covers",
        partial(gap_covers, share=(0.8,) * 7, rows=UNEQUAL),
    ),
    _covers(
        "largest gap of 7 unequal groups, one apart: covers",
        partial(gap_covers, share=(0.8, 0.8, 0.8, 0.55, 0.8, 0.8, 0.8), rows=UNEQUAL),
    ),
    _covers("gap of 20 groups of 40: covers", partial(gap_covers, share=(0.7,) * 20, rows=(40,) * 20)),
    _covers(
        "largest gap, rates of 2 and 4%: covers", partial(gap_covers, share=(0.02, 0.04), rows=(60, 400))
    ),
    *(
        _level(
            f"{count} groups of {rows} that are alike, {share:g}: surely apart",
            partial(gap_claims, count=count, rows=rows, share=share),
        )
        for count, rows, share in ((2, 30, 0.5), (5, 100, 0.9), (20, 40, 0.7), (10, 50, 0.02))
    ),
    *(
        _level(
            f"gap of {count} groups of {rows}, {apart:g} apart: called changed",
            partial(group_change_claims, count=count, rows=rows, apart=apart, kept=kept),
        )
        for count, rows, apart, kept in CHANGES
    ),
    _covers("equalised odds difference of 4 groups: covers", partial(odds_covers, rows=(300, 150, 120, 90))),
    *(
        _level(
            f"accuracy gap of {n} pairs, {opposed:g} opposed: called changed",
            partial(coreference_claims, n=n, level=0.6, opposed=opposed),
        )
        for n, opposed in ((20, 0.0), (100, 0.0), (100, 0.5), (500, 0.2))
    ),
    *(
        _level(
            f"ambiguous score of {n} items, {guess:g} guessed: called changed",
            partial(score_claims, n=n, guess=guess),
        )
        for n, guess in ((10, 0.5), (50, 0.1), (200, 0.9))
    ),
    _level("a whole check of equal models: anything changed", partial(family_claims, templates=40), 400),
    Rate(
        "bias", "a leaning of 10 points on one axis: called worse", 0.8, 0.6, 1.0,
        partial(finds, templates=60, lean=0.1), 200,
    ),
]  # fmt: skip
