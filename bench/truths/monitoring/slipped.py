"""What slips into training of the rows that judge an improvement: how far it moves the check, and whether
that keeps its level.

A tenth of the old rows that judge come back as new ones, in other words and with the held-out answer: rows
that neither version gets right by itself, as people correct what is wrong. Each is recognised by chance,
at a rate that was measured (docs/evidence.md); what is not is trained on, and the new version gets it right.
It is truly as good as the one in use, or worse by the margin, and how it would be without leaks is known.
Figures that are no shares are drawn of lengths that are alike or lie a hundredfold apart, with rare rows that
get much worse (`bench/made/leaked_rows.py`): of any rows, of those that the version in use does worst, or of
the longest, some slip.
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
RETURNED = 0.1  # of the rows that judge
SIZES = (30, 100, 200, 500)  # rows that judge
TRAINED = 1_000  # new rows that train


class Slips(NamedTuple):
    """missed: the share of repeats that is not recognised, in truth; bound: what it is taken for at most."""

    missed: float
    bound: float


SLIPS = {  # as measured: framed anew; the worst way with the same answer; the worst of all, of short answers
    "1 of 100 slip": Slips(0.01, MAX_LEAKAGE),
    "20 of 100 slip": Slips(0.2, MAX_LEAKAGE),
    "72 of 100 slip, short answers": Slips(0.72, MAX_LEAKAGE_SHORT),
}
NOTHING = Slips(0.0, MAX_LEAKAGE)


class LeakedRows(NamedTuple):
    """1 or 0 of each row: the new version without any leak and with what has slipped through, the one in use;
    and how many rows may have been learned from repeats, at most and as the check allows for."""

    clean: np.ndarray
    leaked: np.ndarray
    in_use: np.ndarray
    most: int
    allowed: int

    def moved(self) -> float:
        """How far the shown difference is moved."""
        return float((self.leaked - self.clean).mean())


def judged(rng: np.random.Generator, rows: int, gap: float, slips: Slips, returned: float) -> LeakedRows:
    """A new version that is truly worse by `gap`, trained on what has slipped through."""
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
    """The shown difference is moved by no more than the card says."""
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
    """The difference is called surely above `limit`. allowing: for what may have slipped, as the check."""
    drawn = judged(rng, rows, gap, slips, returned)
    pair = as_gate_row(drawn.leaked), as_gate_row(drawn.in_use)
    lifted = gate_statistics.estimate_lift(*pair, drawn.allowed) if allowing else 0.0
    return (
        gate_statistics.check_above_despite_lift(gate_statistics.estimate_advantage(*pair), limit, lifted)
        == "passed"
    )


def as_figure(sums: np.ndarray, kind: str) -> GateRow:
    """Rows of a figure that follows from their sums [rows, counts]."""
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
    """The check passes a version that is truly worse by the margin, or better (gap -1), in a figure."""
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


YES = {  # what is said where it is not so: the true gap, and what the difference is called above
    "truly worse by the margin: passed": (MARGIN, -MARGIN),
    "truly the same: better": (0.0, 0.0),
}
SOME, SHORT = SLIPS["20 of 100 slip"], Slips(0.0, MAX_LEAKAGE_SHORT)
FIGURES: tuple[tuple[str, Slips, dict[str, Any], float, float], ...] = (  # what slips, how, and the band
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
POWER = (  # of the check where nothing slips through, from 100 rows on: least share that passes
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
