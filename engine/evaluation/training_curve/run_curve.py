"""The curve of a run, as everything that judges it reads it: losses, the task's own metric, and their noise.

Rows that two validations share can't tell how unlike the next model will be: the noise from step to step is
what the curve itself does not explain. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from engine.evaluation.statistics.intervals import MIN_ROWS, Interval, ratio_interval, wilson_interval
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import Extraction, Membership
from store.evaluation.verdict_schemas import MetricPoint, TrainingStop
from store.jobs.schemas import ValidationSums


@dataclass(kw_only=True)
class Validation:
    """`loss_sums` (nats) and `tokens` have one entry for each of `row_ids`."""

    step: int
    row_ids: ArrayLike
    loss_sums: ArrayLike
    tokens: ArrayLike


TrainCurve = Sequence[tuple[int, float]]  # (step, training loss)


@dataclass(kw_only=True)
class MetricValues:
    """The task's metric at one step, higher is better: `values` and `weights` have one entry for each of
    `row_ids`."""

    step: int
    row_ids: ArrayLike
    values: ArrayLike
    weights: ArrayLike


class MetricCurve(NamedTuple):
    """What the task's metric is called in words, and its values by step; none where it was not measured."""

    name: str = ""
    values: Sequence[MetricValues] = ()


NO_METRIC = MetricCurve()


@dataclass(frozen=True, kw_only=True)
class LossCurves:
    """validations: in order of steps, on the same rows, step 0 (the base model) first. train_probe: a fixed
    probe of training rows at the same steps. baseline: what a new head is held against on the same rows in
    place of step 0."""

    validations: Sequence[Validation] = ()
    baseline: Validation | None = None
    train_curve: TrainCurve = ()
    train_probe: Sequence[Validation] | None = None
    metric: MetricCurve = NO_METRIC


@dataclass(frozen=True, kw_only=True)
class RunCurves(LossCurves):
    """With how training ended."""

    stopped: TrainingStop


@dataclass(frozen=True)
class RowMemorisation:
    """What a run remembers of single rows: whether training rows can be told from held-out ones, and whether
    they come out word for word; None where that was not asked."""

    membership: Membership | None = None
    extraction: Extraction | None = None


NO_MEMORY = RowMemorisation()


class VerdictConfig(TypedDict, total=False):
    """Fields of a train config and its split that verdicts, advice and forgetting rest on; a run from before
    a field was there lacks it."""

    task: str
    loss_type: str
    label_smoothing: float
    learning_rate: float | None
    default_learning_rate: float  # of the method, for this task and a model of this size
    lr_scheduler_type: str
    warmup_steps: float
    max_grad_norm: float
    num_train_epochs: float | None
    max_steps: int | None
    evaluations: int
    early_stopping: bool
    early_stopping_threshold: float
    early_stopping_patience: int
    load_best_model_at_end: bool
    negligible_gain: float
    validation_size: float
    test_size: float
    split_by: str | None
    max_eval_rows: int
    replay_share: float
    kl_beta: float
    probe_tasks: list[str]


# The task's own metric at each validation, higher is better: what counts beside the loss.
#
# Three of the four kinds come from the same pass as the loss and cost nothing:
# accuracy  rows whose class is right (a classification head)
# label     rows whose every trained token is the model's first choice: answering greedily, it gives exactly
# the label, closing token included
# tokens    trained tokens that are the first choice, in supervised tuning
# pairs     pairs in which the chosen answer gained on the rejected one, against the base model
# Beside them stands the score of answers that were generated for a few validation rows. Pure.

MetricKind = Literal["accuracy", "label", "tokens", "pairs"]
CurveKind = Literal[MetricKind, "answers"]
METRIC_WORDS: dict[MetricKind, str] = {
    "accuracy": "accuracy",
    "label": "exact label accuracy",
    "tokens": "token accuracy",
    "pairs": "the share of pairs with the chosen answer preferred",
}


def build_metric_values(
    kind: MetricKind, step: int, row_ids: ArrayLike, correct: ArrayLike, tokens: ArrayLike
) -> MetricValues:
    """The metric of one validation, from what each of its rows got right of so many tokens."""
    right, counted = np.asarray(correct, np.float64), np.asarray(tokens, np.float64)
    if kind == "tokens":
        values, weights = right / np.maximum(counted, 1), counted
    else:
        values, weights = (right == counted if kind == "label" else right).astype(np.float64), None
    every = np.ones(len(right)) if weights is None else weights
    return MetricValues(step=step, row_ids=row_ids, values=values, weights=every)


def compute_metric_curve(kind: CurveKind, steps: Iterable[ValidationSums]) -> list[MetricPoint]:
    """The metric at each step, with 95% intervals over rows, from sums over its rows
    (`store.evaluation.scored_rows`)."""
    points: list[MetricPoint] = []
    for sums in steps:
        n, share = int(sums.n), kind in ("accuracy", "label", "pairs")
        if not n or not sums.w:
            continue
        if share:
            bounds = wilson_interval(int(sums.x), n).to_estimate()
        else:
            bounds = _estimate_ratio(sums)
            if bounds.low is not None and bounds.low == bounds.high:
                bounds.low, bounds.high = _compute_unanimous_limits(bounds.value, n, kind)
        points.append(MetricPoint(step=int(sums.step), **vars(bounds)))
    return points


def _compute_unanimous_limits(value: float, n: int, kind: str) -> tuple[float, float] | tuple[None, None]:
    """Limits where all rows agree, which makes nothing certain: of a share, up to z²/(n + z²) of all rows may
    be otherwise; none of answers, as their metric may have no bounds."""
    if kind == "answers":
        return None, None
    z = float(special.ndtri(0.975))
    unseen = z * z / (n + z * z)
    return (1 - unseen) * value, (1 - unseen) * value + unseen


def _estimate_ratio(sums: ValidationSums) -> Estimate:
    """By linearisation (Cochran 1977, section 6.3) and Student's t at the effective number of rows, as sums
    allow; no limits of effectively under MIN_ROWS."""
    n, x, w = int(sums.n), float(sums.x), float(sums.w)
    xx, xw, ww = float(sums.xx), float(sums.xw), float(sums.ww)
    value = x / w
    if w * w / ww < MIN_ROWS:
        return Estimate(value=value, low=None, high=None, n=n)
    spread = max(0.0, xx - 2 * value * xw + value * value * ww)
    error = math.sqrt(n / (n - 1) * spread) / w
    half = float(special.stdtrit(w * w / ww - 1, 0.975)) * error
    return Estimate(value=value, low=value - half, high=value + half, n=n)


# By how much validation loss moves from step to step for no reason that lasts, and whether a rise is beyond
# it.
#
# Rows that two validations share can't tell this: they say how unlike the two models are, not whether the
# next model will be like the later one. The course itself shows it. A course that overfits falls to its
# best step and rises after it; what such a course does not explain (the residuals of isotonic regression
# either way) is noise of steps. A short or smooth course shows little of it, so that it is taken together
# with a noise of USUAL of the loss, which counts as much as WEIGHT residuals would. Pure.

TYPICAL_NOISE = 0.005  # of the loss
PRIOR_DEGREES = 4.0  # degrees of freedom
ROUGH_USUAL, ROUGH_WEIGHT, ROUGH_MOST = 0.016, 2.0, 3.0  # of a rise: of the loss; see `of_rough`
# Of a second difference, where the noise has a variance of 1: nearer to that of noise that lasts
# (autoregressive, 0.7: 1.4) than of noise that doesn't (6).
CHANGE_VARIANCE = 1.8
DESCENT = 0.7  # the best step is the luckiest, by which residuals are too small: 1 - 0.7/sqrt(steps) of them

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepNoise:
    """`sigma` (in the unit of the loss) of one validation, known from so many degrees of freedom."""

    sigma: float
    degrees: float

    def beyond_one(self, steps: int) -> float:
        """How far the last of so many validations lies above the lowest by noise alone in 2.5 of 100 courses
        at most (Bonferroni over the steps that could have been the lowest)."""
        return self._reach(float(special.stdtrit(self.degrees, 1 - 0.025 / max(1, steps - 1))))

    def _reach(self, quantile: float) -> float:
        return quantile * math.sqrt(2) * self.sigma


def mean_loss(validation: Validation) -> float:
    """The loss a token; not a number where one row's is not."""
    return float(np.sum(validation.loss_sums) / np.sum(validation.tokens))


def mean_losses(validations: Sequence[Validation]) -> Floats:
    """Of each of them."""
    return np.array([mean_loss(validation) for validation in validations])


def estimate_curve_noise(losses: Floats) -> StepNoise:
    """From the mean losses [validations], which are finite."""
    best = int(losses.argmin())
    falling, above = (
        _compute_isotonic_residuals(losses[: best + 1][::-1]),
        _compute_isotonic_residuals(losses[best:]),
    )
    squares = (falling[0] + above[0]) / (1 - DESCENT / math.sqrt(len(losses)))
    free = falling[1] + above[1]
    usual = (TYPICAL_NOISE * abs(float(losses[best]))) ** 2
    return StepNoise(
        math.sqrt((PRIOR_DEGREES * usual + squares) / (PRIOR_DEGREES + free)), PRIOR_DEGREES + free
    )


def estimate_rise_noise(losses: Floats) -> StepNoise:
    """The noise that a rise after the best step is held against: no less than that rise is rough.

    Levels that may rise explain most of a few noisy values, and noise that lasts over steps looks like a
    trend: with a noise of 2%, flat courses of 5 and 10 validations were called overfitting in 24 and 9 of
    100, and in 22 and 23 where it is 0.7 of the noise before. What lies before the best step is a turn, and
    says nothing of noise.
    """
    fitted, best = estimate_curve_noise(losses), int(losses.argmin())
    rough = estimate_roughness_noise(losses[best:], ROUGH_USUAL * abs(float(losses[best])))
    return StepNoise(max(fitted.sigma, rough.sigma), rough.degrees)


def estimate_roughness_noise(values: Floats, usual: float) -> StepNoise:
    """From how much the slope changes (second differences), whatever the trend; taken together with a noise
    of `usual`, in the unit of the values, which counts as much as ROUGH_WEIGHT of them, and no more than
    ROUGH_MOST times it: a loss that runs away is rough, too."""
    changes = np.diff(values, 2)
    weight = ROUGH_WEIGHT + len(changes)
    squares = ROUGH_WEIGHT * usual * usual + float(np.square(changes).sum()) / CHANGE_VARIANCE
    return StepNoise(min(math.sqrt(squares / weight), ROUGH_MOST * usual), weight + 2)


def widen_by_noise(rows: Interval, reach: float) -> Interval:
    """An interval over rows with `reach`, the noise of steps, added to its limits in squares (as Zou and
    Donner 2008 put limits of two estimates together)."""
    if rows.low is None or rows.high is None or not reach:
        return rows
    low, high = math.hypot(rows.value - rows.low, reach), math.hypot(rows.high - rows.value, reach)
    return Interval(rows.value, rows.value - low, rows.value + high, rows.n)


def _compute_isotonic_residuals(rising: Floats) -> tuple[float, int]:
    """Sum of squares about the rising course that fits best, and values less levels of that course (its
    expected sum, in units of the variance: Meyer and Woodroofe 2000)."""
    fit = optimize.isotonic_regression(rising)
    return float(np.square(rising - fit.x).sum()), len(rising) - (len(fit.blocks) - 1)


def compute_loss_rise(
    before: Validation, after: Validation, confidence: float, reach: float = 0.0
) -> Interval:
    """Rise of the loss a token from one validation to another, on the same rows in the same order.

    reach: of the noise of steps (`with_reach`). Raises ValueError where the rows differ.
    """
    if not np.array_equal(np.asarray(before.row_ids), np.asarray(after.row_ids)):
        raise ValueError(f"Validations at steps {before.step} and {after.step} are of different rows.")
    change = np.asarray(after.loss_sums, np.float64) - np.asarray(before.loss_sums, np.float64)
    rows = ratio_interval(change, before.tokens, confidence=confidence)
    return widen_by_noise(rows, reach)
