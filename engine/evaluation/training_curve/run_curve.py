"""Curve of a run, as read by everything that judges it: losses, the task's own metric, and their noise.

Rows shared by two validations can't show how different the next model will be: the noise from step to step
is what the curve itself does not explain. Pure functions.
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
    """One validation. `loss_sums` (nats) and `tokens` have one entry for each of `row_ids`."""

    step: int
    row_ids: ArrayLike
    loss_sums: ArrayLike
    tokens: ArrayLike


TrainCurve = Sequence[tuple[int, float]]  # (step, training loss)


@dataclass(kw_only=True)
class MetricValues:
    """The task's metric at one step, higher is better. `values` and `weights` have one entry for each of
    `row_ids`.
    """

    step: int
    row_ids: ArrayLike
    values: ArrayLike
    weights: ArrayLike


class MetricCurve(NamedTuple):
    """Name of the task's metric in words, and its values by step; empty if it was not measured."""

    name: str = ""
    values: Sequence[MetricValues] = ()


NO_METRIC = MetricCurve()


@dataclass(frozen=True, kw_only=True)
class LossCurves:
    """Losses of a run. validations: in order of steps, on the same rows, step 0 (the base model) first.
    train_probe: a fixed probe of training rows at the same steps. baseline: what a new head is compared
    with on the same rows instead of step 0.
    """

    validations: Sequence[Validation] = ()
    baseline: Validation | None = None
    train_curve: TrainCurve = ()
    train_probe: Sequence[Validation] | None = None
    metric: MetricCurve = NO_METRIC


@dataclass(frozen=True, kw_only=True)
class RunCurves(LossCurves):
    """Loss curves and how training ended."""

    stopped: TrainingStop


@dataclass(frozen=True)
class RowMemorisation:
    """What a run remembers of single rows: whether training rows can be told from held-out ones, and whether
    they can be extracted verbatim; None if not measured.
    """

    membership: Membership | None = None
    extraction: Extraction | None = None


NO_MEMORY = RowMemorisation()


class VerdictConfig(TypedDict, total=False):
    """Fields of a train config and its split used by verdicts, advice and forgetting; a run from before a
    field existed lacks it.
    """

    task: str
    loss_type: str
    label_smoothing: float
    learning_rate: float | None
    default_learning_rate: float  # of the method, for this task and model size
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


# The task's own metric at each validation, higher is better.
#
# These kinds come from the same pass as the loss and cost nothing:
#
# - accuracy: rows whose class is right (a classification head)
# - label: rows whose every trained token is the model's first choice: greedy decoding gives exactly the
#   label, closing token included
# - tokens: trained tokens that are the first choice, in supervised tuning
# - pairs: pairs in which the chosen answer gained on the rejected one, relative to the base model
#
# There is also the score of answers that were generated for a few validation rows.

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
    """Compute the metric of one validation from each row's correct and total tokens."""
    right, counted = np.asarray(correct, np.float64), np.asarray(tokens, np.float64)
    if kind == "tokens":
        values, weights = right / np.maximum(counted, 1), counted
    else:
        values, weights = (right == counted if kind == "label" else right).astype(np.float64), None
    every = np.ones(len(right)) if weights is None else weights
    return MetricValues(step=step, row_ids=row_ids, values=values, weights=every)


def compute_metric_curve(kind: CurveKind, steps: Iterable[ValidationSums]) -> list[MetricPoint]:
    """Compute the metric at each step, with 95% intervals over rows, from sums over its rows
    (`store.evaluation.scored_rows`).
    """
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
    """Return limits for rows that all agree, which makes nothing certain: for a share, up to z²/(n + z²) of
    all rows may differ; none for answers, as their metric may have no bounds.
    """
    if kind == "answers":
        return None, None
    z = float(special.ndtri(0.975))
    unseen = z * z / (n + z * z)
    return (1 - unseen) * value, (1 - unseen) * value + unseen


def _estimate_ratio(sums: ValidationSums) -> Estimate:
    """Estimate by linearization (Cochran 1977, section 6.3) and Student's t at the effective number of rows,
    as the sums allow; no limits if there are effectively fewer than MIN_ROWS.
    """
    n, x, w = int(sums.n), float(sums.x), float(sums.w)
    xx, xw, ww = float(sums.xx), float(sums.xw), float(sums.ww)
    value = x / w
    if w * w / ww < MIN_ROWS:
        return Estimate(value=value, low=None, high=None, n=n)
    spread = max(0.0, xx - 2 * value * xw + value * value * ww)
    error = math.sqrt(n / (n - 1) * spread) / w
    half = float(special.stdtrit(w * w / ww - 1, 0.975)) * error
    return Estimate(value=value, low=value - half, high=value + half, n=n)


# Transient noise of validation loss from step to step, and whether a rise exceeds it.
#
# Rows shared by two validations can't show this: they show how different the two models are, not whether the
# next model will be like the later one. The curve itself does. A curve that overfits falls to its best step
# and rises after it; what such a curve does not explain (the residuals of isotonic regression on either side)
# is step noise. A short or smooth curve shows little of it, so it is combined with a noise of TYPICAL_NOISE
# of the loss, with the weight of PRIOR_DEGREES residuals.

TYPICAL_NOISE = 0.005  # of the loss
PRIOR_DEGREES = 4.0  # degrees of freedom
ROUGH_USUAL, ROUGH_WEIGHT, ROUGH_MOST = (
    0.016,
    2.0,
    3.0,
)  # of a rise, relative to the loss; see `estimate_roughness_noise`
# Variance of a second difference for noise of variance 1: closer to that of persistent noise (autoregressive,
# 0.7: 1.4) than of independent noise (6).
CHANGE_VARIANCE = 1.8
DESCENT = 0.7  # the best step is the luckiest, so residuals are only 1 - 0.7/sqrt(steps) of the true ones

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StepNoise:
    """Noise of one validation: `sigma` (in the unit of the loss), estimated with `degrees` degrees of
    freedom.
    """

    sigma: float
    degrees: float

    def beyond_one(self, steps: int) -> float:
        """Return how far the last of this many validations is above the lowest by noise alone in at most 2.5
        of 100 curves (Bonferroni over the steps that could have been the lowest).
        """
        return self._reach(float(special.stdtrit(self.degrees, 1 - 0.025 / max(1, steps - 1))))

    def _reach(self, quantile: float) -> float:
        return quantile * math.sqrt(2) * self.sigma


def mean_loss(validation: Validation) -> float:
    """Return the loss per token; NaN if one row's is."""
    return float(np.sum(validation.loss_sums) / np.sum(validation.tokens))


def mean_losses(validations: Sequence[Validation]) -> Floats:
    """Return the loss per token of each validation."""
    return np.array([mean_loss(validation) for validation in validations])


def estimate_curve_noise(losses: Floats) -> StepNoise:
    """Estimate the noise from the mean losses [validations], which are finite."""
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
    """Estimate the noise that a rise after the best step is tested against, at least the roughness of that
    rise.

    An isotonic fit explains most of a few noisy values, and persistent noise looks like a trend: with a
    noise of 2%, flat curves of 5 and 10 validations were called overfitting in 24 and 9 of 100 cases, and
    in 22 and 23 if the noise is autoregressive (0.7 of the noise before). The part before the best step
    contains a turn, and says nothing about noise.
    """
    fitted, best = estimate_curve_noise(losses), int(losses.argmin())
    rough = estimate_roughness_noise(losses[best:], ROUGH_USUAL * abs(float(losses[best])))
    return StepNoise(max(fitted.sigma, rough.sigma), rough.degrees)


def estimate_roughness_noise(values: Floats, usual: float) -> StepNoise:
    """Estimate the noise from changes of the slope (second differences), whatever the trend.

    It is combined with a noise of `usual`, in the unit of the values, with the weight of ROUGH_WEIGHT of
    them, and limited to ROUGH_MOST times it: a loss that runs away is rough, too.
    """
    changes = np.diff(values, 2)
    weight = ROUGH_WEIGHT + len(changes)
    squares = ROUGH_WEIGHT * usual * usual + float(np.square(changes).sum()) / CHANGE_VARIANCE
    return StepNoise(min(math.sqrt(squares / weight), ROUGH_MOST * usual), weight + 2)


def widen_by_noise(rows: Interval, reach: float) -> Interval:
    """Add `reach`, the step noise, to the limits of an interval over rows in squares (as Zou and Donner 2008
    combine the limits of two estimates).
    """
    if rows.low is None or rows.high is None or not reach:
        return rows
    low, high = math.hypot(rows.value - rows.low, reach), math.hypot(rows.high - rows.value, reach)
    return Interval(rows.value, rows.value - low, rows.value + high, rows.n)


def _compute_isotonic_residuals(rising: Floats) -> tuple[float, int]:
    """Return the sum of squares about the best-fitting rising curve, and the number of values minus the
    levels of that curve (its expected sum, in units of the variance: Meyer and Woodroofe 2000).
    """
    fit = optimize.isotonic_regression(rising)
    return float(np.square(rising - fit.x).sum()), len(rising) - (len(fit.blocks) - 1)


def compute_loss_rise(
    before: Validation, after: Validation, confidence: float, reach: float = 0.0
) -> Interval:
    """Compute the rise of the loss per token from one validation to another, on the same rows in the same
    order.

    reach: of the step noise (`widen_by_noise`). Raises ValueError if the rows differ.
    """
    if not np.array_equal(np.asarray(before.row_ids), np.asarray(after.row_ids)):
        raise ValueError(f"Validations at steps {before.step} and {after.step} are of different rows.")
    change = np.asarray(after.loss_sums, np.float64) - np.asarray(before.loss_sums, np.float64)
    rows = ratio_interval(change, before.tokens, confidence=confidence)
    return widen_by_noise(rows, reach)
