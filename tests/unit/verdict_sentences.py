"""Every sentence of the verdicts on a run, from evidence that is at its edges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from engine.evaluation.comparison import pareto
from engine.evaluation.statistics.classification import compute_calibration, compute_class_figures
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.statistics.proportions import estimate_answer_change
from engine.evaluation.training_curve import stages
from engine.evaluation.training_curve.run_curve import LossCurves, MetricValues, Validation
from engine.evaluation.verdicts import classifier_verdict, forgetting_tradeoff, live_alarms
from engine.evaluation.verdicts.paired_measurements import SwappedLosses, SwappedPromptLosses
from engine.evaluation.verdicts.question_part import assign_prompts
from pages.shared import display, run_results
from store.core.figure_schemas import Estimate
from store.evaluation.verdict_schemas import Overfitting, TrainingStop, Verdict
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import assess, judge, judge_classes, judge_mixed, judge_pairs

COUNTS = (1, 2, 5, 30, 400)
CONFIG = TrainConfig(dataset="d").resolved(600).model_dump()
PAIRS = TrainConfig(dataset="d", task="dpo").resolved(600).model_dump()
STOPPED = TrainingStop(reason="epochs", step=40, restored_step=20)
CURVE = [(step, 2 - 0.01 * step) for step in range(1, 41)]


def validations(means: list[float], rows: int, noise: float = 0.02) -> list[Validation]:
    random = np.random.default_rng(0)
    tokens = np.full(rows, 10.0)
    return [
        Validation(
            step=10 * place,
            row_ids=np.arange(rows),
            loss_sums=10 * (mean + (noise * random.normal(0, 1, rows) if mean else np.zeros(rows))),
            tokens=tokens,
        )
        for place, mean in enumerate(means)
    ]


COURSES: dict[str, list[float]] = {
    "none": [],
    "one": [2.0],
    "falls": [2.0, 1.5, 1.2, 1.1, 1.05],
    "flat": [2.0] * 5,
    "turns": [2.0, 1.0, 1.2, 1.5, 2.5],
    "to nothing": [1.0, 0.5, 0.2, 0.1, 0.0],
    "at nothing": [1.0, 0.0, 0.0, 0.0, 0.0],
    "huge": [1e9, 1e8, 1e12, 1e13, 1e14],
    "broken": [2.0, 1.0, math.nan, math.nan, math.nan],
}


def gains(rows: int) -> dict[str, np.ndarray]:
    """Of each row, in nats a token."""
    random = np.random.default_rng(rows)
    return {
        "none": np.zeros(rows),
        "all equal": np.full(rows, 0.5),
        "all worse": np.full(rows, -0.5),
        "tiny": 1e-5 + 1e-7 * random.normal(0, 1, rows),
        "vanishing": 1e-12 * random.normal(1, 0.1, rows),
        "noise": random.normal(0, 0.2, rows),
        "sure": random.normal(0.5, 0.1, rows),
        "worse": random.normal(-0.5, 0.1, rows),
        "huge": random.normal(1e9, 1e8, rows),
        "not numbers": np.full(rows, math.nan),
    }


def documents(verdict: Verdict) -> Iterator[str]:
    """The sentences of a verdict and what its screen says of it."""
    yield verdict.headline
    yield from verdict.sentences
    yield from (piece.text for piece in verdict.advice)
    if verdict.overfitting:
        yield from of_shape(verdict.overfitting)
    for estimate in (verdict.gain, verdict.accuracy_gain):
        if estimate:
            yield display.format_estimate(estimate)
    if verdict.gain:
        yield run_results.format_perplexity_ratio(verdict.gain) or ""


def of_shape(shape: Overfitting) -> Iterator[str]:
    yield from (shape.sentence, shape.stage_sentence, shape.gap_sentence)
    if shape.parting:
        yield shape.parting.sentence


def of_runs() -> Iterator[str]:
    for rows in COUNTS:
        tokens = np.full(rows, 10.0)
        uneven = np.r_[10_000.0, np.full(rows - 1, 10.0)]
        for (name, gain), split, weights in (
            (each, split, weights)
            for each in gains(rows).items()
            for split in ("test", "validation")
            for weights in (tokens, uneven)
        ):
            loss = 1e10 if name == "huge" else 0.7
            given: dict[str, Any] = {
                "row_ids": np.arange(rows), "split": split, "base_loss_sum": weights * loss,
                "tuned_loss_sum": weights * (loss - gain), "tokens": weights, "config": CONFIG,
            }  # fmt: skip
            for base, tuned in ((0, 0), (0, 1), (1, 1)):
                right = {"base_correct": base * weights, "tuned_correct": tuned * weights}
                course = validations(COURSES["falls"], rows)
                yield from documents(
                    judge(**given, **right, eval_rows=course, train_curve=CURVE, stopped=STOPPED)
                )
            yield from documents(judge_mixed(**given, **right, alpha=0.5, of="a run"))
            for others in after_other_prompts(weights * loss, weights * (loss - gain), weights):
                parted = judge(
                    **given, **right, eval_rows=course, train_curve=CURVE, stopped=STOPPED,
                    other_prompts=others,
                )  # fmt: skip
                yield from documents(parted)


def after_other_prompts(
    base: np.ndarray, tuned: np.ndarray, weights: np.ndarray
) -> Iterator[SwappedPromptLosses | str]:
    """Answers that gain nothing less, all or much less after the prompts of other rows, of rows with two
    answers or one, and why that was not measured."""
    rows = len(base)
    yield "too few held-out rows have similar prompts"
    for answers in (np.arange(rows) % 2, np.zeros(rows, int)):
        groups = np.arange(rows) == 0 if rows > 5 else np.zeros(rows)
        dealt = assign_prompts(answers, groups, np.zeros(rows), 0)
        noise = np.random.default_rng(0).normal(0, 1, len(dealt))
        for own, spread in ((0.0, 0.0), (0.0, 0.1), (0.3, 0.1), (1.0, 1e-9), (0.5, 30.0)):
            less = weights[dealt.answers] * (own + spread * noise)
            if len(dealt):
                losses = SwappedLosses(base[dealt.answers], tuned[dealt.answers] + less)
                yield SwappedPromptLosses(dealt, losses)


def of_classifiers() -> Iterator[str]:
    labels = ["a", "b"]
    for rows in COUNTS:
        truth = np.arange(rows) % 2
        answers = {"right": truth, "wrong": 1 - truth, "base": np.zeros(rows, int)}
        for split in ("test", "validation"):
            for predicted in answers.values():
                shares = np.full((rows, 2), 1e-9)
                shares[np.arange(rows), predicted] = 1 - 1e-9
                tuned = replace(
                    compute_class_figures(truth, predicted, labels),
                    calibration=compute_calibration(np.log(shares), truth),
                )
                base = compute_class_figures(truth, np.zeros(rows, int), labels)
                classification = classifier_verdict.build_classification(
                    split, labels, [50, 50], classifier_verdict.ClassifierFigures(tuned, base, base),
                    unseen=1, over_prompted=estimate_answer_change(truth == 0, predicted == truth),
                )  # fmt: skip
                yield from documents(
                    judge_classes(
                        split=split, base_loss=np.full(rows, 0.7),
                        tuned_loss=-np.log(shares[np.arange(rows), truth]), known=np.ones(rows),
                        base_correct=truth == 0, tuned_correct=predicted == truth,
                        classification=classification,
                        eval_rows=validations(COURSES["turns"], rows), train_curve=CURVE, stopped=STOPPED,
                        config=CONFIG,
                    )
                )  # fmt: skip
                verdict = row_of(Verdict, sentences=[])
                classifier_verdict.add_label_figures(verdict, classification)
                yield from verdict.sentences


def of_pairs() -> Iterator[str]:
    for rows in COUNTS:
        random = np.random.default_rng(rows)
        before = -random.gamma(9, 5, rows)
        margins = {
            "nothing changed": np.zeros(rows), "all right": np.ones(rows), "all wrong": -np.ones(rows),
            "half": np.where(np.arange(rows) % 2, 1.0, -1.0), "hair": np.full(rows, 1e-9),
            "noise": random.normal(0, 1, rows), "not numbers": np.full(rows, math.nan),
        }  # fmt: skip
        for split in ("test", "validation"):
            for margin in margins.values():
                half = {"chosen_logps": before, "rejected_logps": before - 1}
                base = {"losses": np.full(rows, math.log(2)), "margins": np.zeros(rows)} | half
                tuned = {"losses": np.log1p(np.exp(-margin)), "margins": margin} | half
                tuned["chosen_logps"] = before + margin
                apart = np.full(rows, -1.0), -1.0 - margin
                for others in ("", *after_other_prompts(*apart, np.ones(rows))):
                    yield from documents(
                        judge_pairs(
                            split=split, base=base, tuned=tuned, train_curve=CURVE, stopped=STOPPED,
                            eval_rows=validations(COURSES["falls"], rows), config=PAIRS,
                            other_prompts=others,
                        )
                    )  # fmt: skip


def measured(rows: int, shares: list[float]) -> list[MetricValues]:
    return [
        MetricValues(step=10 * place, row_ids=np.arange(rows), values=np.arange(rows) < share * rows,
         weights=np.ones(rows))
        for place, share in enumerate(shares)
    ]  # fmt: skip


def of_courses() -> Iterator[str]:
    for rows in COUNTS:
        for name, means in COURSES.items():
            for noise in (0.0, 0.02, 0.5):
                course = validations(means, rows, noise)
                probe = validations([mean / 2 for mean in means], rows, noise / 2)
                metric = ("F1", measured(rows, [0, 0, 1, 1, 1][: len(means)]))
                shape = assess(course, CURVE, train_probe=probe, metric=metric)
                yield from of_shape(shape)
                if name != "broken":
                    yield stages.describe_gap(stages.compute_train_gaps(probe, course))
                raised = live_alarms.check_overfitting(
                    LossCurves(validations=course, train_curve=CURVE), unit="nats a token", looks=5
                )
                raised += live_alarms.list_verdict_alarms(row_of(Verdict, overfitting=shape, stopped=STOPPED))
                yield from (alarm.message for alarm in raised)
        for rise in gains(rows).values():
            forgot = live_alarms.check_forgetting(
                10, np.full(rows, 7.0), 7 + 10 * rise, np.full(rows, 10), looks=5
            )
            yield from (alarm.message for alarm in forgot)


def of_mixes() -> Iterator[str]:
    for rows in COUNTS:
        for losses in gains(rows).values():
            if not np.isfinite(losses).all():
                continue
            prose = Estimate(value=0.1, low=None, high=None, n=1, why="there is only one row")
            points = [
                forgetting_tradeoff.ShareGain(
                    alpha, ratio_interval(alpha * 10 * losses, np.full(rows, 10)).to_estimate(), prose
                )
                for alpha in (0.0, 0.25, 0.5)
            ]
            yield forgetting_tradeoff.recommend_share(points).sentence


def of_sweeps() -> Iterator[str]:
    def run(gain: float, lost: float, half: float | None, group: str, setting: float) -> pareto.RunPoint:
        ends = [{"value": v, "low": half and v - half, "high": half and v + half} for v in (gain, lost)]
        return {"run": group, "group": group, "setting": setting, "gain": ends[0], "forgetting": ends[1]}

    for half in (None, 1e-9, 0.01, 1e6):
        for lost in (0.0, 1e-12, 0.5, 1e12):
            first = [run(gain, 0.1, half, "lora", gain) for gain in (0.1, 0.2, 0.3)]
            second = [run(gain, 0.1 + lost, half, "full", gain) for gain in (0.1, 0.2, 0.3)]
            for other in (second, second[:1], [run(9.0, 0.1, half, "full", 1)], []):
                yield pareto.compare_sweeps(first, other)["sentence"]


SOURCES = (of_runs, of_classifiers, of_pairs, of_courses, of_mixes, of_sweeps)
