"""Every sentence of refusals, findings, recommendations, advice, predictions and judgings, from inputs at the
edges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.evaluation.comparison import evaluation_text
from engine.evaluation.metrics.judge import compute_length_effect
from engine.evaluation.statistics import cost_prediction
from engine.evaluation.statistics.intervals import Interval, wilson_interval
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores
from engine.evaluation.training_curve import advice
from engine.evaluation.training_curve.run_curve import RunCurves, Validation
from engine.evaluation.verdicts import forgetting, launch_advice
from engine.evaluation.verdicts.data_findings import find_findings
from engine.evaluation.verdicts.paired_measurements import pair_probes
from store.core.training_schemas import AdviceOption, MethodHistory
from store.data.signals import GROUP_OF, GROUPS, SIGNALS, Signal
from store.evaluation.schemas import JudgePositionBias, JudgingResult, PairCounts
from store.evaluation.verdict_schemas import Overfitting, TrainingStop
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tests.unit.probe_rows import requests, table
from tests.unit.store_samples import row_of

COUNTS = (1, 2, 5, 30, 1_000)


def of_refusals() -> Iterator[str]:
    """None, half and all of the requests refused, before and after."""
    for n in (1, 2, 28):
        shares = sorted({0, n // 2, n})
        for before, after in itertools.product(itertools.product(shares, repeat=2), repeat=2):
            paired = pair_probes(table(requests(before, n=n)), table(requests(after, n=n)))
            yield from forgetting.assess_refusals(paired["requests"]).sentences


def of_findings() -> Iterator[str]:
    """Every signal with a band, in one row, some and all, of a sample and of all rows."""
    for signal, n, sampled in itertools.product(SIGNALS.values(), COUNTS, (False, True)):
        if signal.healthy is None:
            continue
        for count in sorted({1, n // 2, n}):
            figures = {signal.column: figures_of(signal, count, n)}
            measured = SimpleNamespace(figures=figures, options={}, outdated=False)
            rows = 10 * n if sampled else n
            for finding in find_findings(rows, {GROUP_OF[signal.column]: measured}, GROUPS):
                yield from (finding.title, finding.measure, finding.why, finding.severity_reason)
                yield from (fix.label for fix in finding.fixes)


def figures_of(signal: Signal, count: int, n: int) -> dict[str, Any]:
    """Of a signal that was found so many times in n rows, or whose median is a share or a number as large."""
    if signal.type == "flag":
        return {"n": n, "flagged": count}
    if signal.type == "group":
        return {"n": n, "groups": max(1, count // 2), "rows": n, "extra": count}
    median = count / n if signal.unit == "share" else float(count)
    return {"n": n, "min": 0, "mean": 1, "median": median, "p95": 2, "max": 3, "positive": count}


def of_recommendations() -> Iterator[str]:
    """Methods that fit or don't, with and without runs of the past."""
    pasts = (None, past(0.0, 0.0), past(0.5, 0.1), past(-0.5, 0.1), past(-0.9, 0.1), past(0.5, None))
    for fits, mine, others in itertools.product(itertools.product((4.0, 99.0), repeat=3), pasts, pasts):
        options = [
            option(method, high, mine if method == "lora" else others)
            for method, high in zip(("lora", "qlora", "full"), fits, strict=True)
        ]
        for rows, tokens in ((1, 1.0), (500, 1e5), (5_000, 0.0), (5_000, 4e4), (10**6, 1e9)):
            for offered in (options, options[1:], options[2:], []):
                recommendation = launch_advice.recommend_method(
                    offered, train_rows=rows, trained_tokens=tokens
                )
                yield from (recommendation["sentence"], *recommendation["reasons"])


def past(gain: float, half: float | None, runs: int = 1) -> MethodHistory:
    """What runs with a method measured."""
    low, high = (None, None) if half is None else (gain - half, gain + half)
    return MethodHistory(
        gain=gain, low=low, high=high, unit="nats a token", runs=runs, n=100, memory_gib=None, seconds=None,
        best_run="r",
    )  # fmt: skip


def option(method: str, high: float, measured: MethodHistory | None) -> AdviceOption:
    """A method that needs so many GiB of 16."""
    return {
        "method": method, "title": METHODS[method].title, "problem": "", "past": measured,
        "peak_gib": 0.9 * high, "high_gib": high, "available_gib": 16.0, "fits": high <= 16,
        "low_seconds": 1.0, "seconds": 2.0, "high_seconds": 3.0,
    }  # fmt: skip


def of_advice() -> Iterator[str]:
    """Every verdict with every course, of few and of many rows, with settings at their ends."""
    courses = {
        "none": [], "one": [2.0], "falls": [2.0, 1.5, 1.0], "rises": [1.0, 1.5], "nothing": [0.0, 0.0],
        "not numbers": [1.0, np.nan], "from a new head": [2.0, 1.0],
    }  # fmt: skip
    gains = [None, Interval(0.1, None, None, 1, why="there is only one row")]
    gains += [Interval(v, v - 0.2, v + 0.2, n, 0.1, 0.3) for v in (0.0, 1e-9, 0.1) for n in (5, 500)]
    settings = [
        TrainConfig(dataset="d", num_train_epochs=epochs, learning_rate=rate).resolved(600).model_dump()
        | {"max_steps": 1}
        for epochs, rate in ((0.5, 1e-6), (1.0, 0.5), (20.0, 1.0))
    ]
    for state, shape, gain, (name, means), reason in itertools.product(
        ("learned", "no_gain", "undecided", "worse"), ("none", "overfits", "unclear"), gains,
        courses.items(), ("epochs", "max_steps", "early_stopping"),
    ):  # fmt: skip
        first = 10 if name == "from a new head" else 0
        validations = [
            Validation(step=first + 10 * i, row_ids=[0], loss_sums=[mean], tokens=[1])
            for i, mean in enumerate(means)
        ]
        for best, config in itertools.product((0, 10), settings):
            stopped = TrainingStop(reason=reason, step=20, restored_step=best or None)
            overfitting = row_of(Overfitting, state=shape, best_step=best)
            split = "validation" if name == "falls" else "test"
            outcome = advice.VerdictOutcome(state, gain, split, overfitting)
            pieces = advice.advise(outcome, RunCurves(validations=validations, stopped=stopped), config)
            yield from (piece.text for piece in pieces)


def of_predictions() -> Iterator[str]:
    """Memory and time, after no run, one and many, exact, far off and not numbers."""
    for runs, factor, kind in itertools.product((0, 1, 2, 30), (1.0, 1e-3, 1e3, np.nan, 0.0), ("a", "b")):
        pairs = [cost_prediction.MeasuredPrediction(10.0, 10 * factor, kind) for _ in range(runs)]
        for prior in (cost_prediction.MEMORY, cost_prediction.TIME):
            yield cost_prediction.correct_prediction(pairs, "a", prior).sentence("memory")
        for course in (1.0, 0.4):
            timed = [
                cost_prediction.TimedRun(10, 10 * factor * (1 + i % 3), kind, "", course, 0.9)
                for i in range(runs)
            ]
            for steps_timed in ("none", "own", "alike"):
                coming = cost_prediction.UpcomingRun("a", "", steps_timed)
                yield cost_prediction.predict_time_range(timed, coming).sentence("time")


def of_judgings() -> Iterator[str]:
    """Pairs that one side wins, that are tied, that the order decided, that were not judged; answers that are
    equally long, longer, mixed and empty."""
    texts = {"same": ("a", "a"), "longer": ("aaaa", "a"), "empty": ("", "")}
    for n, kind, (first, second), missed in itertools.product(
        (1, 2, 40), ("first", "second", "ties", "split", "mixed", "none"), texts.values(), (0, 1)
    ):
        orders = np.array([order_of(kind, place) for place in range(n)])
        orders[:missed] = np.nan
        long = [first if place % 4 else second for place in range(n)]
        other = [second if place % 4 else first for place in range(n)]
        judged = judged_of(orders, long, other)
        for sides in (
            evaluation_text.ComparisonSides(),
            evaluation_text.ComparisonSides("A", "B", turned=True),
        ):
            yield evaluation_text.format_judging_headline(judged, sides)
            yield from evaluation_text.describe_judging(judged, sides)


def order_of(kind: str, place: int) -> tuple[float, float]:
    """How the first side did shown first and shown second."""
    mixed = ((1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (1.0, 0.0))
    each = {"first": 0, "second": 1, "ties": 2, "split": 3, "mixed": place % 4}
    return mixed[each[kind]] if kind in each else (np.nan, np.nan)


def judged_of(orders: np.ndarray, first: list[str], second: list[str]) -> JudgingResult:
    """What a judge job answers."""
    forth, back = orders.T
    wins = np.where(forth == back, forth, np.where(np.isnan(forth + back), np.nan, 0.5))
    unjudged = {int(place): "no verdict" for place in np.flatnonzero(np.isnan(wins))}
    differ = ~np.isnan(wins) & (forth != back)
    counted, split = int((~np.isnan(wins)).sum()), int(differ.sum())
    position = JudgePositionBias(
        agree=wilson_interval(counted - split, counted).to_estimate(),
        first_shown=(
            wilson_interval(int((forth > back)[differ].sum()), split).to_estimate() if split else None
        ),
    ) if counted else None  # fmt: skip
    scored = RowScores("preference", np.arange(len(wins)), wins, bounds=(0.0, 1.0), reasons=unjudged)
    details = {"position": position, "length": compute_length_effect(wins, first, second).to_document()}
    counts = PairCounts(
        first=int((wins == 1).sum()), second=int((wins == 0).sum()), split=split,
        ties=int((wins == 0.5).sum()) - split, unjudged=len(unjudged),
    )  # fmt: skip
    reasons = {"no verdict": len(unjudged)} if unjudged else {}
    figure = dataclasses.replace(aggregate_scores(scored), details=details)
    return row_of(JudgingResult, figure=figure, pairs=counts, reasons=reasons, notices=[])


SOURCES = (of_refusals, of_findings, of_recommendations, of_advice, of_predictions, of_judgings)
