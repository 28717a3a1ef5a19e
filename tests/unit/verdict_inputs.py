"""Verdicts from plain arrays, as tests make them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.evaluation.training_curve import overfitting
from engine.evaluation.training_curve.run_curve import (
    LossCurves,
    MetricCurve,
    RowMemorisation,
    RunCurves,
    Validation,
)
from engine.evaluation.verdicts import classifier_verdict, preference_verdict, verdict
from engine.evaluation.verdicts.classifier_verdict import ClassHeldOut
from engine.evaluation.verdicts.paired_measurements import HeldOut, HeldOutPairs, ModelPairs, ModelRows
from store.evaluation.verdict_schemas import Overfitting, Verdict


def assess(
    validations: Sequence[Validation],
    train_curve: Sequence[tuple[int, float]],
    *,
    train_probe: Sequence[Validation] | None = None,
    metric: tuple[str, Any] = ("", ()),
    membership: Any = None,
    extraction: Any = None,
) -> Overfitting:
    """`overfitting.assess` of these validations."""
    course = LossCurves(
        validations=validations,
        train_curve=train_curve,
        train_probe=train_probe,
        metric=MetricCurve(*metric),
    )
    return overfitting.assess_overfitting(course, RowMemorisation(membership, extraction))


def _course(given: dict[str, Any]) -> tuple[RunCurves, RowMemorisation]:
    """The course in it, and what is remembered; both are taken out."""
    course = RunCurves(
        validations=given.pop("eval_rows"),
        train_curve=given.pop("train_curve"),
        stopped=given.pop("stopped"),
        train_probe=given.pop("train_probe", None),
        metric=MetricCurve(*given.pop("metric", ("", ()))),
    )
    return course, RowMemorisation(given.pop("membership", None), given.pop("extraction", None))


def _held_out(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": given["split"],
        "row_ids": given["row_ids"],
        "tokens": given["tokens"],
        "base": ModelRows(given["base_loss_sum"], given["base_correct"]),
        "tuned": ModelRows(given["tuned_loss_sum"], given["tuned_correct"]),
        "population": given.get("population"),
    }


def judge(**given: Any) -> Verdict:
    """The verdict on rows."""
    course, memory = _course(given)
    others = given.get("other_prompts", "")
    return verdict.judge_held_out(
        HeldOut(**_held_out(given), other_prompts=others), course, given["config"], memory
    )


def judge_classes(**given: Any) -> Verdict:
    """The verdict on a head; `known`: rows whose label training knows."""
    course, memory = _course(given)
    losses = {f"{model}_loss_sum": given[f"{model}_loss"] for model in ("base", "tuned")}
    rows = given | losses | {"tokens": given["known"], "row_ids": range(len(given["known"]))}
    held_out = ClassHeldOut(**_held_out(rows), classification=given["classification"])
    return classifier_verdict.judge_classifier(held_out, course, given["config"], memory)


def judge_pairs(**given: Any) -> Verdict:
    """The verdict on pairs of answers."""
    course, memory = _course(given)
    models = ModelPairs(**given["base"]), ModelPairs(**given["tuned"])
    held_out = HeldOutPairs(given["split"], *models, given.get("other_prompts", ""))
    return preference_verdict.judge_preference(held_out, course, given["config"], memory)


def judge_mixed(*, alpha: float, of: str, **given: Any) -> Verdict:
    """The verdict on a model that was mixed."""
    return verdict.judge_interpolated(HeldOut(**_held_out(given)), given["config"], alpha=alpha, of=of)
