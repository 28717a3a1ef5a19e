"""Leaks of an improvement's held-out rows into training: their effect on the check, and its level.

A tenth of the old held-out rows come back as new ones, in other words and with the held-out answer: rows
that neither version gets right by itself, as people correct what is wrong. Each is recognized with a
measured probability (docs/evidence.md); the others are trained on, and the new version gets them right. It
is truly as good as the one in use, or worse by the margin, and its result without leaks is known. Figures
that are no shares are drawn from lengths that are alike or differ a hundredfold, with rare rows that get
much worse (`bench/made/leaked_rows.py`): the leaked rows are any rows, those that the version in use does
worst, or the longest.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from bench.made.leaked_rows import LOWER, MARGINS, SHAPES, Which, draw_pair
from bench.truths import Rate
from bench.truths.models.gates import as_gate_row, right_or_wrong
from engine.registry import gate_statistics
from engine.retraining.job import ALLOWED, LEVEL, RepeatCounts, bound_learned_rows
from store.registry.schemas import GateRow
from store.retraining.config import MAX_LEAKAGE, MAX_LEAKAGE_SHORT

MARGIN = 0.02
RETURNED = 0.1  # share of the held-out rows
SIZES = (30, 100, 200, 500)  # held-out rows
TRAINED = 1_000  # new training rows


class Slips(NamedTuple):
    """missed: true share of repeats that are not recognized; bound: the assumed maximum of it."""

    missed: float
    bound: float


SLIPS = {  # as measured: reframed; the worst way with the same answer; the worst of all, short answers
    "1 of 100 slip": Slips(0.01, MAX_LEAKAGE),
    "20 of 100 slip": Slips(0.2, MAX_LEAKAGE),
    "72 of 100 slip, short answers": Slips(0.72, MAX_LEAKAGE_SHORT),
}
NOTHING = Slips(0.0, MAX_LEAKAGE)


class LeakedRows(NamedTuple):
    """1 or 0 for each row. clean, leaked: the new version without leaks and with them; in_use: the version in
    use; most: maximum number of rows that may have been learned from repeats; allowed: the number that the
    check allows for.
    """

    clean: np.ndarray
    leaked: np.ndarray
    in_use: np.ndarray
    most: int
    allowed: int

    def moved(self) -> float:
        """Return the shift of the observed difference."""
        return float((self.leaked - self.clean).mean())


def judged(rng: np.random.Generator, rows: int, gap: float, slips: Slips, returned: float) -> LeakedRows:
    """Draw a new version that is truly worse by `gap`, trained on the unrecognized repeats."""
    clean, in_use = right_or_wrong(rng, rows, gap)
    back = rng.permutation(np.flatnonzero((in_use == 0) & (clean == 0)))[: round(returned * rows)]
    missed = rng.random(len(back)) < slips.missed
    leaked = clean.copy()
    leaked[back[missed]] = 1.0
    recognised = int(len(back) - missed.sum())
    kinds = [RepeatCounts(rows, recognised, slips.bound)]
    most, allowed = (bound_learned_rows(kinds, TRAINED, level) for level in (LEVEL, ALLOWED))
    return LeakedRows(clean, leaked, in_use, most, allowed)


def within_bound(rng: np.random.Generator, rows: int, slips: Slips) -> bool:
    """Whether the observed difference is shifted by no more than the card states."""
    drawn = judged(rng, rows, 0.0, slips, RETURNED)
    return drawn.moved() <= drawn.most / rows + 1e-9


def says_yes(
    rng: np.random.Generator,
    rows: int,
    gap: float,
    limit: float,
    slips: Slips,
    allowing: bool = True,
    returned: float = RETURNED,
) -> bool:
    """Whether the difference is called significantly above `limit`. allowing: account for possible leaks, as
    the check does.
    """
    drawn = judged(rng, rows, gap, slips, returned)
    pair = as_gate_row(drawn.leaked), as_gate_row(drawn.in_use)
    lifted = gate_statistics.estimate_lift(*pair, drawn.allowed) if allowing else 0.0
    return (
        gate_statistics.check_above_despite_lift(gate_statistics.estimate_advantage(*pair), limit, lifted)
        == "passed"
    )


def as_figure(sums: np.ndarray, kind: str) -> GateRow:
    """Return the rows of a figure that is computed from their sums [rows, counts]."""
    bounds = {
        "bleu": (0.0, 100.0),
        "chrf": (0.0, 100.0),
        "weighted mean": (0.0, 1.0),
        "perplexity": (1.0, None),
    }
    row, (low, high) = as_gate_row(sums[:, 0] / sums[:, 1]), bounds.get(kind, (None, None))
    figure = replace(
        row.figure,
        estimator=kind.rpartition(" ")[2],
        better="lower" if kind in LOWER else "higher",
        bounds=[0.0 if kind == "bits_per_byte" else low, high],
    )
    return replace(row, figure=figure, statistics=sums.tolist())


def figures_say_yes(
    rng: np.random.Generator,
    kind: str,
    shape: str,
    rows: int,
    slips: Slips,
    which: Which = "random",
    gap: Literal[1, -1] = 1,
    allowing: bool = True,
) -> bool:
    """Whether the check passes a version that is truly worse by the margin, or better (gap -1), in a
    figure.
    """
    back = round(RETURNED * rows) if slips.missed else 0
    missed = int(rng.binomial(back, slips.missed))
    own, other = draw_pair(rng, kind, rows, shape, gap, missed, which)
    pair = as_figure(own, kind), as_figure(other, kind)
    allowed = bound_learned_rows([RepeatCounts(rows, back - missed, slips.bound)], TRAINED, ALLOWED)
    lifted = gate_statistics.estimate_lift(*pair, allowed) if allowing else 0.0
    return (
        gate_statistics.check_above_despite_lift(
            gate_statistics.estimate_advantage(*pair), -MARGINS[kind], lifted
        )
        == "passed"
    )


YES = {  # false claims: the true gap, and the limit that the difference is called above
    "truly worse by the margin: passed": (MARGIN, -MARGIN),
    "truly the same: better": (0.0, 0.0),
}
SOME, SHORT = SLIPS["20 of 100 slip"], Slips(0.0, MAX_LEAKAGE_SHORT)
FIGURES: tuple[tuple[str, Slips, dict[str, Any], float, float], ...] = (  # leaked rows, options, and the band
    ("20 of 100 slip, truly worse by the margin: passed", SOME, {}, 0.0, 0.05),
    ("20 of 100 of the worst slip, truly worse by the margin: passed", SOME, {"which": "hard"}, 0.0, 0.05),
    ("20 of 100 of the longest slip, truly worse by the margin: passed", SOME, {"which": "long"}, 0.0, 0.05),
    (
        "20 of 100 slip, nothing is allowed for (why not so), truly worse by the margin: passed",
        SOME, {"allowing": False}, 0.0, 1.0,
    ),
    (
        "nothing comes back, short answers, truly better by the margin (how often): passed",
        SHORT, {"gap": -1}, 0.0, 1.0,
    ),
)  # fmt: skip
POWER = (  # minimum passing share without leaks, from 100 rows on
    ("nothing allowed for", NOTHING, False, (0.5, 0.78, 0.9)),
    ("longer answers", NOTHING, True, (0.5, 0.78, 0.9)),
    ("short answers", Slips(0.0, MAX_LEAKAGE_SHORT), True, (0.05, 0.4, 0.9)),
)

RATES = [
    *(
        Rate(
            "slipped", f"{rows} rows, {name}: lifted by no more than the card says", 0.95, 0.95, 1.0,
            partial(within_bound, rows=rows, slips=slips), 2_000,
        )
        for name, slips in SLIPS.items()
        for rows in SIZES
    ),
    *(
        Rate(
            "slipped", f"{rows} rows, {name}, {what}", 0.025, 0.0, 0.05,
            partial(says_yes, rows=rows, gap=gap, limit=limit, slips=slips), 1_000,
        )
        for name, slips in SLIPS.items()
        for what, (gap, limit) in YES.items()
        for rows in SIZES
    ),
    *(
        Rate(
            "slipped", f"{rows} rows, nothing comes back, nothing allowed for, {what}", 0.025, 0.0, 0.05,
            partial(
                says_yes, rows=rows, gap=gap, limit=limit, slips=NOTHING, allowing=False, returned=0.0
            ),
            1_000,
        )
        for what, (gap, limit) in YES.items()
        for rows in SIZES
    ),
    *(
        Rate(
            "slipped", f"{rows} rows, {name}, nothing is allowed for (why not so), {what}", 0.025, 0.0, high,
            partial(says_yes, rows=rows, gap=gap, limit=limit, slips=SLIPS[name], allowing=False), 1_000,
        )
        for name, high in zip(SLIPS, (0.05, 0.3, 1.0), strict=True)
        for what, (gap, limit) in YES.items()
        for rows in SIZES
    ),
    *(
        Rate(
            "slipped", f"{rows} rows, nothing comes back, {name}, truly 4 points better (how often): passed",
            least + 0.1, least, min(1.0, least + 0.2),
            partial(
                says_yes, rows=rows, gap=-0.04, limit=-MARGIN, slips=slips, allowing=allowing, returned=0.0
            ),
            1_000,
        )
        for name, slips, allowing, lows in POWER
        for rows, least in zip(SIZES[1:], lows, strict=True)
    ),
    *(
        Rate(
            "slipped", f"{kind} of {rows} rows {words}, {name}", (low + high) / 2, low, high,
            partial(figures_say_yes, kind=kind, shape=shape, rows=rows, slips=slips, **how), 500,
        )
        for kind in MARGINS
        for shape, words in SHAPES.items()
        for name, slips, how, low, high in FIGURES
        for rows in ((30, 200) if kind in ("bleu", "chrf") else (30, 200, 500))
    ),
]  # fmt: skip
