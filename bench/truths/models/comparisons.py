"""Equal models compared with the best of them, and equal methods at equal gain: how often any is called
different.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.evaluation.comparison import pareto, run_comparison
from engine.evaluation.comparison import run_comparison as seeds
from engine.evaluation.statistics.intervals import Interval, ratio_interval

SWEPT = ((0.2, 0.05), (0.4, 0.1), (0.6, 0.2))  # gain and forgetting of the runs of a sweep


def one_differs(rng: np.random.Generator, models: int, rows: int) -> bool:
    """Whether any of this number of equal models, on the same rows, is called different from the one with the
    lowest loss.
    """
    tokens = lengths(rng, rows)
    losses = tokens * (2 + heavy(rng, rows, spread=0.5) + heavy(rng, models, rows, spread=0.1))
    best, *others = losses[np.argsort(losses.sum(axis=1))]
    comparisons = run_comparison.count_run_pairs(models)
    differences = (
        run_comparison.compare_runs(
            "A", "B", run_comparison.SharedRows(best, other, tokens), comparisons=comparisons
        )
        for other in reversed(others)  # the last is the most distant, so that most draws end with the first
    )
    return any(difference.separated for difference in differences)


def one_setting_differs(rng: np.random.Generator, settings: int, repeats: int, rows: int) -> bool:
    """Whether any of this number of equal settings, each run with several seeds, is called different from the
    best.
    """
    tokens = lengths(rng, rows)
    by_seed = rng.normal(0, 0.02, (settings, repeats, 1)) + heavy(rng, settings, repeats, rows, spread=0.1)
    losses = tokens * (2 + heavy(rng, rows, spread=0.5) + by_seed)
    seed_spread = seeds.estimate_seed_spread(list(losses), tokens)
    assert seed_spread is not None
    best, *others = losses[np.argsort(losses.sum(axis=(1, 2)))]
    confidence = 1 - 0.05 / run_comparison.count_run_pairs(settings)
    differences = (
        seeds.compare_settings(best, other, tokens, seed_spread, confidence=confidence) for other in others
    )
    return any(interval.above or interval.below for interval in differences)


def _point_figure(measured: Interval) -> pareto.PointFigure:
    return {"value": measured.value, "low": measured.low, "high": measured.high}


def a_method_differs(rng: np.random.Generator, rows: int, *, paired: bool = True, more: float = 0.0) -> bool:
    """Whether one of two methods with three runs each, on the same rows and passages, is called to forget
    less at equal gain.

    more: nats that the second forgets in addition. The gain of a row and the loss of a passage are mostly
    common to all runs.
    """
    tokens = lengths(rng, rows)
    common = heavy(rng, 2, rows, spread=0.3)
    measured, sweeps = {}, []
    for method in "ab":
        sweep: list[pareto.RunPoint] = []
        for place, means in enumerate(SWEPT):
            truth = np.array([[means[0]], [means[1] + (more if method == "b" else 0.0)]])
            values = truth + common + heavy(rng, 2, rows, spread=0.05)
            run = f"{method}{place}"
            measured[run] = dict(zip(pareto.AXES, tokens * values, strict=True))
            gain, lost = (_point_figure(ratio_interval(measured[run][axis], tokens)) for axis in pareto.AXES)
            sweep.append({"run": run, "group": method, "setting": place, "gain": gain, "forgetting": lost})
        sweeps.append(sweep)

    def pair(run: str, other: str, axis: pareto.Axis) -> Interval:
        return ratio_interval(measured[run][axis] - measured[other][axis], tokens)

    matched = pareto.compare_sweeps(*sweeps, pair=pair if paired else pareto.get_no_paired_difference)
    return matched["state"] in {"first", "second", "mixed"}


RATES = [
    *(
        Rate(
            "comparisons", f"{models} equal models, {rows} rows: one called different", 0.05, 0.0, 0.07,
            partial(one_differs, models=models, rows=rows), 1_000,
        )
        for models, rows in ((2, 50), (5, 30), (5, 100), (10, 100), (20, 100))
    ),
    *(
        Rate(
            "comparisons", f"{settings} equal settings of {repeats} seeds: one called different", 0.05, 0.0,
            0.07, partial(one_setting_differs, settings=settings, repeats=repeats, rows=100),
        )
        for settings, repeats in ((3, 2), (5, 3))
    ),
    *(
        Rate(
            "comparisons", f"two equal methods of 3 runs, {rows} rows: one called to forget less", 0.05, 0.0,
            0.07, partial(a_method_differs, rows=rows), 1_000,
        )
        for rows in (30, 100)
    ),
    Rate(
        "comparisons", "two methods of 3 runs, 100 rows, 0.05 nats apart: one forgets less", 1.0, 0.8, 1.0,
        partial(a_method_differs, rows=100, more=0.05), 400,
    ),
]  # fmt: skip
