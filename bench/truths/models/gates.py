"""Gates of models: how often a check passes a version truly beyond its limit, or fails one truly within it.

Each is measured at the limit itself, where errors are most likely.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench.made.shapes import SIZES
from bench.made.shapes.paired_rows import PAIRED
from bench.made.shapes.paired_scores import SCORED
from bench.made.shapes.streams import TIMED
from bench.truths import Rate
from engine.evaluation.statistics.intervals import ratio_interval
from engine.registry import gate_report, gate_statistics
from store.core.figure_schemas import Figure, UnscoredRows
from store.registry.schemas import CheckAnswer, GateRow

MARGIN, SMALL_MARGIN = 0.05, 0.03  # in the scores' unit
LIMIT = 0.2  # nats a token


UNMEASURED = Figure(  # gates use only its kind
    metric="eval/m", unit="share", better="higher", estimator="mean", bounds=[0.0, 1.0], labels=[],
    value=None, low=None, high=None, n=0, groups=None, rows=0, empty=0,
    unscored=UnscoredRows(count=0, reasons={}, examples=[]), failed="", details={},
)  # fmt: skip


def as_gate_row(scores: np.ndarray) -> GateRow:
    return GateRow(
        evaluation_id="e",
        name="e",
        figure=UNMEASURED,
        row_ids=list(range(len(scores))),
        scores=scores.tolist(),
        statistics=None,
        groups=None,
    )


def right_or_wrong(rng: np.random.Generator, rows: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw two models that agree on most rows; the first is right less often by `gap`."""
    other = rng.random(rows) < 0.75
    lost = other & (rng.random(rows) < (0.06 + gap) / 0.75)
    won = ~other & (rng.random(rows) < 0.06 / 0.25)
    return ((other & ~lost) | won).astype(float), other.astype(float)


def _graded(rng: np.random.Generator, rows: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores between 0 and 1 that tend toward 1, like those of texts."""
    other = rng.beta(4, 1.5, rows)
    return np.clip(other + rng.normal(-gap, 0.12, rows), -0.5, 1.5), other


def not_worse(rng: np.random.Generator, kind: str, rows: int, gap: float, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for a version that is worse by `gap` than the one with the
    alias.
    """
    first, second = {"right or wrong": right_or_wrong, "graded": _graded}[kind](rng, rows, gap)
    return (
        gate_statistics.check_above(
            gate_statistics.estimate_advantage(as_gate_row(first), as_gate_row(second)), -MARGIN
        )
        == answer
    )


def better(rng: np.random.Generator, rows: int, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for a version exactly as good as its base."""
    first, second = right_or_wrong(rng, rows, 0.0)
    return (
        gate_statistics.check_above(
            gate_statistics.estimate_advantage(as_gate_row(first), as_gate_row(second)), 0.0
        )
        == answer
    )


def prefers(rng: np.random.Generator, items: int, raters: int, truth: float, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for ratings by people with individual biases, on prompts with
    biases too; `truth` is the true share.
    """
    lean = rng.normal(0, 0.1, raters)[None] + rng.normal(0, 0.2, items)[:, None]
    outcomes = (rng.random((items, raters)) < np.clip(truth + lean, 0, 1)).astype(float)
    prompts = np.repeat(np.arange(items), raters).astype(str).tolist()
    people = np.tile(np.arange(raters), items).astype(str).tolist()
    share = gate_statistics.estimate_preference(outcomes.ravel().tolist(), prompts, people)
    return gate_statistics.check_above(share, 0.4) == answer


def calibrated(rng: np.random.Generator, rows: int, truth: float, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for a classifier whose accuracy is below its confidence by `truth`,
    at every level.
    """
    sure = rng.uniform(0.5, 1.0, rows)
    right = rng.random(rows) < sure - truth
    return gate_statistics.check_below(gate_statistics.estimate_calibration_error(sure, right), 0.1) == answer


def fast(rng: np.random.Generator, shape: str, runs: int, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for the seconds per response of several evaluations whose median is
    the limit.
    """
    timings = TIMED[shape](rng, runs)
    return (
        gate_statistics.check_below(
            gate_statistics.estimate_median_seconds(timings.seconds.tolist()), timings.median
        )
        == answer
    )


def measured_again(rng: np.random.Generator, rows: int, tries: int) -> bool:
    """Whether a version at the limit passes at any of several evaluations, each with new responses to the
    same rows.
    """
    easy = rng.beta(4, 1.5, rows)
    check = {"check": "not_worse_than", "metric": "m", "margin": MARGIN}
    for number in range(1, tries + 1):
        first, second = (easy + rng.normal(-gap, 0.12, rows) for gap in (MARGIN, 0.0))
        evidence: Any = {"rows": as_gate_row(first), "other_rows": as_gate_row(second), "other": "m@1"}
        if (
            gate_report.build_gate_report(
                "m@2", "a", "m@1", [(check, "", {**evidence, "tries": number})]
            ).answer
            == "passed"
        ):
            return True
    return False


def forgets(rng: np.random.Generator, shape: str, texts: int, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for an increase of the loss by exactly the limit."""
    drawn = PAIRED[shape](rng, texts, -LIMIT)
    rise = ratio_interval(drawn.tuned - drawn.base, drawn.tokens).to_estimate()
    return gate_statistics.check_below(gate_statistics.extrapolate_to_all_texts(rise), LIMIT) == answer


def scores_no_worse(rng: np.random.Generator, shape: str, rows: int, answer: CheckAnswer) -> bool:
    """Whether the check gives this answer for scores between 0 and 1 that are worse by exactly the margin."""
    drawn = SCORED[shape](rng, rows, -SMALL_MARGIN)
    gap = gate_statistics.estimate_advantage(as_gate_row(drawn.tuned), as_gate_row(drawn.base))
    return gate_statistics.check_above(gap, -SMALL_MARGIN) == answer


def three_checks(rng: np.random.Generator, rows: int) -> bool:
    """Whether a version passes all of three checks, at the limit of one and far from that of the two
    others.
    """
    answers = [
        gate_statistics.check_above(
            gate_statistics.estimate_advantage(*map(as_gate_row, right_or_wrong(rng, rows, gap))), -limit
        )
        for gap, limit in ((0.05, 0.05), (0.0, 0.3), (0.0, 0.3))
    ]
    return gate_statistics.combine_answers(answers) == "passed"


RATES = [
    *(
        Rate(
            "gates", f"not worse, {kind}, {rows} rows, truly worse by the margin: {answer}",
            0.025, 0.0, 0.05, partial(not_worse, kind=kind, rows=rows, gap=gap, answer=answer), draws,
        )
        for kind in ("right or wrong", "graded")
        for rows, draws in ((10, 2_000), (50, 2_000), (200, 1_000), (500, 1_000))
        for gap, answer in ((MARGIN, "passed"), (MARGIN, "failed"))
    ),
    *(
        Rate(
            "gates", f"better, {rows} rows, truly the same: passed", 0.025, 0.0, 0.05,
            partial(better, rows=rows, answer="passed"), 2_000,
        )
        for rows in (10, 50, 200, 500)
    ),
    *(
        Rate(
            "gates", f"preferred, {items} prompts, {raters} raters, truly at the limit: {answer}", 0.025, 0.0,
            0.05, partial(prefers, items=items, raters=raters, truth=0.4, answer=answer), 1_000,
        )
        for items, raters in ((10, 3), (50, 2), (50, 3), (100, 5))
        for answer in ("passed", "failed")
    ),
    *(
        Rate(
            "gates", f"calibrated, {rows} rows, truly at the limit: {answer}", 0.025, 0.0, 0.05,
            partial(calibrated, rows=rows, truth=0.1, answer=answer), 1_000,
        )
        for rows in (150, 200, 500)
        for answer in ("passed", "failed")
    ),
    *(
        Rate(
            "gates", f"fast enough, {shape}, {runs} evaluations, truly at the limit: {answer}", 0.025, 0.0,
            0.05, partial(fast, shape=shape, runs=runs, answer=answer), 2_000,
        )
        for shape in TIMED
        for runs in (3, 6, 10, 30, 100)
        for answer in ("passed", "failed")
    ),
    *(
        Rate(
            "gates", f"forgetting at the limit {answer}: {shape}, n {texts}", 0.025, 0.0, 0.05,
            partial(forgets, shape=shape, texts=texts, answer=answer), 1_000,
        )
        for shape in PAIRED if shape.endswith(", even lengths")
        for texts in SIZES
        for answer in ("passed", "failed")
    ),
    *(
        Rate(
            "gates", f"scores, worse by the margin, {answer}: {shape}, n {rows}", 0.025, 0.0, 0.05,
            partial(scores_no_worse, shape=shape, rows=rows, answer=answer), 500,
        )
        for shape in SCORED
        for rows in SIZES
        for answer in ("passed", "failed")
    ),
    *(
        Rate(
            "gates", f"measured ten times, {rows} rows, truly at the limit: passed", 0.05, 0.0, 0.05,
            partial(measured_again, rows=rows, tries=10), 500,
        )
        for rows in (50, 200)
    ),
    Rate(
        "gates", "three checks, 200 rows, truly at the limit of one: passed", 0.025, 0.0, 0.05,
        partial(three_checks, rows=200), 1_000,
    ),
]  # fmt: skip
