"""Repeated runs: how often a metric is called reproduced, or not, when the truth is known.

Both runs are evaluated on the same rows. "Reproduced" is counted where this run is truly worse, or better,
by the margin or more over all rows; "outside" where it is not, for any of ten metrics.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.paired_rows import REPRODUCED
from bench.truths import Rate
from engine.archives import reproduction
from engine.evaluation.statistics.intervals import Interval, ratio_interval
from store.archives.schemas import ReproductionOutcome
from store.evaluation.verdict_schemas import RunFigure

MARGIN = reproduction.MARGINS["nats a token"]
SPREAD = 0.004  # spread of a run's loss between seeds
FIGURES = 10


def _figure(key: str, losses: np.ndarray, tokens: np.ndarray) -> RunFigure:
    loss = ratio_interval(losses, tokens)
    return RunFigure(
        key=key, title=key, unit="nats a token", value=loss.value, low=loss.low, high=loss.high, n=loss.n
    )


def says(
    rng: np.random.Generator, shape: str, rows: int, shift: float, came: ReproductionOutcome, figures: int
) -> bool | None:
    """Whether any figure has the given outcome; None if the truth of this draw is on the other side of the
    margin.
    """
    first, second, pairs = [], [], dict[str, Interval]()
    for number in range(figures):
        drawn = REPRODUCED[shape](rng, rows, 1, SPREAD, shift)
        beyond = abs(drawn.of_these_runs) >= MARGIN
        if beyond != (came == "within"):
            return None
        key = f"figure {number}"
        first.append(_figure(key, drawn.original[0], drawn.tokens))
        second.append(_figure(key, drawn.again, drawn.tokens))
        pairs[key] = ratio_interval(drawn.again - drawn.original[0], drawn.tokens)
    answer = reproduction.compare_figures("b", first, second, pairs, [])
    return any(figure.came == came for figure in answer.figures)


def comes_back(rng: np.random.Generator, rows: int) -> bool:
    """Whether a run that differs only by its seed is called reproduced."""
    drawn = REPRODUCED["all rows shift"](rng, rows, 1, SPREAD, 0.0)
    first, second = (_figure("loss", losses, drawn.tokens) for losses in (drawn.original[0], drawn.again))
    pair = ratio_interval(drawn.again - drawn.original[0], drawn.tokens)
    answer = reproduction.compare_figures("b", [first], [second], {"loss": pair}, [])
    return answer.figures[0].came == "within"


RATES = [
    *(
        Rate(
            "reproduced", f"{shape}, {rows} rows, truly {shift:g} nats worse, margin {MARGIN:g}: came back",
            0.025, 0.0, 0.05, partial(says, shape=shape, rows=rows, shift=shift, came="within", figures=1),
            1_000,
        )
        for shape in REPRODUCED
        for rows in (30, 100, 200, 500)
        for shift in (0.02, 0.1)
    ),
    *(
        Rate(
            "reproduced", f"{shape}, {rows} rows, {FIGURES} figures within the margin: one outside", 0.05,
            0.0, 0.05, partial(says, shape=shape, rows=rows, shift=0.01, came="outside", figures=FIGURES),
            500,
        )
        for shape in REPRODUCED
        for rows in (30, 200)
    ),
    Rate(
        "reproduced", "all rows shift, 500 rows, another seed alone: came back (how often)", 0.95, 0.8, 1.0,
        partial(comes_back, rows=500), 500,
    ),
]  # fmt: skip
