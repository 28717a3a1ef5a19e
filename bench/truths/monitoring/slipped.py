"""What slips into training of the rows that judge an improvement: how far it moves the check, and whether
that keeps its level.

A tenth of the old rows that judge come back as new ones, in other words and with the held-out answer: rows
that neither version gets right by itself, as people correct what is wrong. Each is recognised by chance,
at a rate that was measured (docs/evidence.md); what is not is trained on, and the new version gets it right.
It is truly as good as the one in use, or worse by the margin, and how it would be without leaks is known.
Bits per byte are drawn of texts whose lengths lie a hundredfold apart: a long one that slips moves them most.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.truths import Rate
from bench.truths.models.gates import as_gate_row, right_or_wrong
from engine.diagnostics.gates import decide, lifts
from engine.gathering.slipping import ALLOWED, LEVEL, RepeatsOf, most_learned
from store.config.shipping.improve_config import MAX_SLIPPING, MAX_SLIPPING_SHORT
from store.documents.shipping.gate import GateRow

MARGIN = 0.02
RETURNED = 0.1  # of the rows that judge
SIZES = (30, 100, 200, 500)  # rows that judge
TRAINED = 1_000  # new rows that train
LENGTHS = math.log(100) / (2 * 1.96)  # of a normal logarithm, whose middle 95 of 100 are a hundredfold apart
BITS, UNLIKE = 0.7, 0.08  # a byte, of the version in use; how far both part on a row, standard deviation
LEARNED = 0.1  # of its loss is left to a row that was trained on


class Slips(NamedTuple):
    """missed: the share of repeats that is not recognised, in truth; bound: what it is taken for at most."""

    missed: float
    bound: float


SLIPS = {  # as measured: framed anew; the worst way with the same answer; the worst of all, of short answers
    "1 of 100 slip": Slips(0.01, MAX_SLIPPING),
    "20 of 100 slip": Slips(0.2, MAX_SLIPPING),
    "72 of 100 slip, short answers": Slips(0.72, MAX_SLIPPING_SHORT),
}
NOTHING = Slips(0.0, MAX_SLIPPING)


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
    kinds = [RepeatsOf(rows, recognised, slips.bound)]
    most, allowed = (most_learned(kinds, TRAINED, level) for level in (LEVEL, ALLOWED))
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
    lifted = lifts.lift(*pair, drawn.allowed) if allowing else 0.0
    return decide.above_despite(decide.advantage(*pair), limit, lifted) == "passed"


def as_losses(bits: np.ndarray, lengths: np.ndarray) -> GateRow:
    """bits [rows]: a byte, of texts of so many bytes."""
    row, nats = as_gate_row(bits), bits * lengths * math.log(2)
    ratio = {"estimator": "bits_per_byte", "better": "lower", "bounds": [0.0, None], "unit": "bits per byte"}
    figure: Any = {**row["figure"], **ratio}
    sums = np.column_stack([nats, lengths]).tolist()
    return {**row, "figure": figure, "statistics": sums}


def losses_say_yes(
    rng: np.random.Generator,
    rows: int,
    slips: Slips,
    allowing: bool = True,
    returned: float = RETURNED,
    gap: float = MARGIN,
) -> bool:
    """The check passes a version that is truly worse by `gap` bits per byte."""
    lengths = np.ceil(rng.lognormal(math.log(300), LENGTHS, rows))
    in_use = BITS * rng.lognormal(-0.02, 0.2, rows)
    leaked = np.maximum(0.0, in_use + gap + rng.normal(0.0, UNLIKE, rows))
    back = rng.permutation(rows)[: round(returned * rows)]
    missed = rng.random(len(back)) < slips.missed
    leaked[back[missed]] *= LEARNED
    kinds = [RepeatsOf(rows, int(len(back) - missed.sum()), slips.bound)]
    pair = as_losses(leaked, lengths), as_losses(in_use, lengths)
    lifted = lifts.lift(*pair, most_learned(kinds, TRAINED, ALLOWED)) if allowing else 0.0
    return decide.above_despite(decide.advantage(*pair), -MARGIN, lifted) == "passed"


YES = {  # what is said where it is not so: the true gap, and what the difference is called above
    "truly worse by the margin: passed": (MARGIN, -MARGIN),
    "truly the same: better": (0.0, 0.0),
}
LOSSES = (  # of uneven texts: what slips, whether the check allows for it, what comes back, the band
    ("nothing comes back, nothing allowed for", NOTHING, False, 0.0, 0.05),
    ("20 of 100 slip", SLIPS["20 of 100 slip"], True, RETURNED, 0.05),
    ("20 of 100 slip, nothing is allowed for (why not so)", SLIPS["20 of 100 slip"], False, RETURNED, 1.0),
)
LOSSES_POWER = {  # of such texts, by how much it is truly worse: the band of each size from 100 on
    -0.1: ((0.0, 0.05), (0.0, 0.1), (0.0, 0.3)),
    -0.2: ((0.0, 0.1), (0.0, 0.4), (0.6, 1.0)),
}
POWER = (  # of the check where nothing slips through, from 100 rows on: least share that passes
    ("nothing allowed for", NOTHING, False, (0.5, 0.78, 0.9)),
    ("longer answers", NOTHING, True, (0.5, 0.78, 0.9)),
    ("short answers", Slips(0.0, MAX_SLIPPING_SHORT), True, (0.05, 0.4, 0.9)),
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
            "slipped", f"{rows} texts of uneven lengths, {name}, truly worse by the margin: passed",
            0.025, 0.0, high,
            partial(losses_say_yes, rows=rows, slips=slips, allowing=allowing, returned=returned), 1_000,
        )
        for name, slips, allowing, returned, high in LOSSES
        for rows in SIZES[1:]
    ),
    *(
        Rate(
            "slipped", f"{rows} texts of uneven lengths, nothing comes back, short answers, truly"
            f" {-gap:g} bits better (how often): passed",
            (low + high) / 2, low, high,
            partial(losses_say_yes, rows=rows, slips=POWER[2][1], returned=0.0, gap=gap), 1_000,
        )
        for gap, bands in LOSSES_POWER.items()
        for rows, (low, high) in zip(SIZES[1:], bands, strict=True)
    ),
]  # fmt: skip
