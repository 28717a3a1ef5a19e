"""A classifier compared with its base on the same rows: false changes, missed gains, and coverage of macro
F1.

Macro F1 is also measured with rare classes, where it has an interval.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.paired_scores import CLASSIFIED
from bench.truths import Rate
from engine.evaluation.statistics.classification import compute_average_intervals
from engine.evaluation.statistics.proportions import estimate_answer_change
from engine.evaluation.verdicts.verdict import determine_state
from engine.models.confusion import Confusion

CLASSES = {
    shape: 6 if shape.startswith("six") else 2 if shape.startswith("two") else 3 for shape in CLASSIFIED
}
BASE = 0.7  # share of rows that are right


def state(rng: np.random.Generator, n: int, agree: float, gain: float) -> str:
    """Return the verdict's state for n rows. Both models agree on a share `agree`; the tuned one is right on
    a share `gain` more.
    """
    same = rng.random(n) < agree
    before = rng.random(n) < BASE
    wins = 0.5 + gain / (2 * (1 - agree))  # share of differing rows won by the tuned model
    alone = rng.random(n) < wins
    base, tuned = np.where(same, before, ~alone), np.where(same, before, alone)
    return determine_state(estimate_answer_change(base, tuned), 1.0)


def _told_apart(n: int, agree: float, rng: np.random.Generator) -> bool:
    return state(rng, n, agree, 0.0) in ("learned", "worse")


def _missed(n: int, rng: np.random.Generator) -> bool:
    return state(rng, n, 0.9, 0.018) == "no_gain"


def _called_better(n: int, rng: np.random.Generator) -> bool:
    return state(rng, n, 0.7, 0.15) == "learned"


def macro_holds(shape: str, rows: int, rng: np.random.Generator) -> bool | None:
    """Whether the interval of macro F1 covers the truth; None if a class has too few rows."""
    drawn = CLASSIFIED[shape](rng, rows)
    classes = max(CLASSES[shape], int(drawn.labels.max()) + 1)
    macro, _ = compute_average_intervals(
        Confusion.of(drawn.labels, drawn.base, classes), [*map(str, range(classes))]
    )
    if macro.low is None or macro.high is None:
        return None
    return macro.low <= drawn.base_macro_f1 <= macro.high


def _level(n: int, agree: float) -> Rate:
    name = f"no change called one, {1 - agree:.0%} of rows differ, n {n}"
    return Rate("classes", name, 0.05, 0, 0.07, partial(_told_apart, n, agree), 4_000)


RATES = [
    *(_level(n, 0.7) for n in (10, 20, 50, 100, 500)),
    *(_level(n, 0.9) for n in (20, 100)),
    *(Rate("classes", f"+1.8 points called no gain, n {n}", 0.025, 0, 0.035, partial(_missed, n), 2_000)
      for n in (20, 100, 500)),
    *(Rate("classes", f"macro F1 covers, {shape}, {rows} rows", 0.95, 0.93, 0.99,
           partial(macro_holds, shape, rows), 1_000)
      for shape in ("six classes, equally good", "six classes, rare ones never predicted",
                    "two classes, 2% of one, equally good", "near chance, equally bad")
      for rows in (100, 500, 1_000) if rows > 100 or shape.startswith("near")),
    Rate("classes", "+15 points called learned, n 100", 0.8, 0.7, 1, partial(_called_better, 100), 2_000),
]  # fmt: skip
