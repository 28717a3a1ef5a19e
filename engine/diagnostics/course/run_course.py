"""The course of a run, as what judges it reads it, and what of single rows stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from numpy.typing import ArrayLike

from engine.diagnostics.course.validation import Validation
from store.documents.verdicts.memorisation import Extraction, Membership
from store.documents.verdicts.verdict import Stopped

TrainCurve = Sequence[tuple[int, float]]  # (step, training loss)


class MetricValues(TypedDict):
    """The task's metric at one step, higher is better: `values` and `weights` have one entry for each of
    `row_ids`."""

    step: int
    row_ids: ArrayLike
    values: ArrayLike
    weights: ArrayLike


class MetricCourse(NamedTuple):
    """What the task's metric is called in words, and its values by step; none where it was not measured."""

    name: str = ""
    values: Sequence[MetricValues] = ()


NOT_MEASURED = MetricCourse()


@dataclass(frozen=True, kw_only=True)
class LossCourse:
    """validations: in order of steps, on the same rows, step 0 (the base model) first. train_probe: a fixed
    probe of training rows at the same steps. baseline: what a new head is held against on the same rows in
    place of step 0."""

    validations: Sequence[Validation] = ()
    baseline: Validation | None = None
    train_curve: TrainCurve = ()
    train_probe: Sequence[Validation] | None = None
    metric: MetricCourse = NOT_MEASURED


@dataclass(frozen=True, kw_only=True)
class RunCourse(LossCourse):
    """With how training ended."""

    stopped: Stopped


@dataclass(frozen=True)
class RowMemory:
    """What a run remembers of single rows: whether training rows can be told from held-out ones, and whether
    they come out word for word; None where that was not asked."""

    membership: Membership | None = None
    extraction: Extraction | None = None


NOT_ASKED = RowMemory()
