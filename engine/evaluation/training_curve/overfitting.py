"""Whether validation loss rose after its best step while training continued, and since when.

The best of k validations is partly the luckiest: on a flat, noisy curve the minimum is always below the
end. So the rise from the best to the last validation is measured in pairs on the same rows, at a
confidence widened for the k - 1 steps that could have been picked (Bonferroni). It must also exceed the
noise of validation loss from step to step (`run_curve.py`), which all rows share, and it must matter: a
rise of under 1% is not called overfitting, however significant. A rise in which training loss rises too is
called instability, not overfitting; if training diverged (`stages.py`), nothing else is concluded from the
curve. A loss that falls towards its baseline and never gets below it has learned nothing yet, and is not
called "still learning". GL and PQ are Prechelt's (1998, "Early Stopping: But When?").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.training_curve import run_curve, stages
from engine.evaluation.training_curve.run_curve import (
    NO_MEMORY,
    LossCurves,
    RowMemorisation,
    TrainCurve,
    Validation,
)
from engine.evaluation.training_curve.stages import (
    LossShape,
    determine_stage,
    find_metric_divergence,
    list_gap_points,
)
from store.core import formatting
from store.evaluation.verdict_schemas import Overfitting, OverfittingState

MATERIAL_GL = 1.0  # percent of the best loss; a smaller rise is immaterial
NOT_A_NUMBER = "Training diverged: validation loss stopped being a number."

Array = NDArray[np.float64]


def assess_overfitting(
    course: LossCurves, memory: RowMemorisation = NO_MEMORY, *, unit: str = "nats a token"
) -> Overfitting:
    """Build the `overfitting` part of a verdict; `unit` is that of the loss."""
    shape = _determine_shape(course.validations, course.train_curve, unit)
    finite = [v for v in course.validations if _is_finite(v)]
    points = list_gap_points(course.train_probe, finite)
    diverged = shape.state == "diverged"
    above = "" if diverged else _describe_above_baseline(finite, course.baseline, unit)
    if above and shape.state == "none":
        shape = replace(shape, sentence=above)
    stage, sentence = determine_stage(shape, finite, points, memory)
    if above and stage in ("learning", "converged", "unclear"):
        stage, sentence = "unclear", above
    steps = shape.best_step, shape.last_step
    return Overfitting(
        state=shape.state,
        since_step=shape.since_step,
        best_step=shape.best_step,
        last_step=shape.last_step,
        rise=shape.rise.to_estimate() if shape.rise else None,
        gl=shape.gl,
        pq=shape.pq,
        sentence=shape.sentence,
        stage=stage,
        stage_sentence=sentence,
        gap=points,
        gap_sentence="" if diverged else stages.describe_gap(points, unit),
        parting=find_metric_divergence(steps, course.metric, shape.rise)
        if course.metric.values and not diverged
        else None,
    )


def find_onset(
    validations: Sequence[Validation], train_curve: TrainCurve, looks: int
) -> tuple[int, int, Interval] | None:
    """Return the step since which the run significantly overfits, its best step, and the rise since then;
    None unless it is significant now and at the previous validation.

    For a run that is checked `looks` times during training; the confidence is widened for these too.
    """
    finite = [v for v in validations if _is_finite(v)]
    if len(finite) < max(3, len(validations)):
        return None
    now, before = _find_significant_rise(finite, looks), _find_significant_rise(finite[:-1], looks)
    if now is None or before is None:
        return None
    best, rise = now
    steps = [int(v.step) for v in finite]
    if _has_training_loss_risen(train_curve, steps, best):
        return None
    return _find_start(finite, best, *_compute_tolerances(finite, looks)), steps[best], rise


def _find_significant_rise(validations: list[Validation], looks: int) -> tuple[int, Interval] | None:
    """Return the index of the best validation and the rise since, if it is significant and material."""
    losses = run_curve.mean_losses(validations)
    best, last = int(losses.argmin()), len(validations) - 1
    if best == last:
        return None
    rise = run_curve.compute_loss_rise(
        validations[best], validations[last], *_compute_tolerances(validations, looks)
    )
    material = MATERIAL_GL / 100 * abs(float(losses[best]))
    return (best, rise) if rise.above and rise.value >= material else None


def _compute_tolerances(validations: list[Validation], looks: int) -> tuple[float, float]:
    """Return the confidence over rows and the reach of the step noise, for a run checked this many times."""
    steps = max(looks, len(validations))
    noise = run_curve.estimate_rise_noise(run_curve.mean_losses(validations))
    return 1 - 0.05 / ((len(validations) - 1) * steps), noise.beyond_one(steps)


def _determine_shape(validations: Sequence[Validation], train_curve: TrainCurve, unit: str) -> LossShape:
    finite = [v for v in validations if _is_finite(v)]
    shape = _measure_shape(finite, train_curve)
    if len(finite) < len(validations):
        first = min(int(v.step) for v in validations if not _is_finite(v))
        return replace(shape, state="diverged", sentence=NOT_A_NUMBER, since_step=first)
    if diverged := stages.find_divergence(train_curve):
        return replace(shape, state="diverged", sentence=diverged.sentence, since_step=diverged.since_step)
    if not finite:
        return replace(shape, sentence="Whether it overfits is unclear: validation loss was not measured.")
    if len(finite) < 2:
        return replace(shape, sentence="Too few validations to tell whether it overfits.")
    losses = run_curve.mean_losses(finite)
    best, last = int(losses.argmin()), len(finite) - 1
    if best == last:
        sentence = "No overfitting: validation loss was at its lowest at the last step."
        return replace(shape, state="none", sentence=sentence)
    confidence, reach = 1 - 0.05 / last, run_curve.estimate_rise_noise(losses).beyond_one(len(finite))
    rows = run_curve.compute_loss_rise(finite[best], finite[last], confidence)
    rise = run_curve.compute_loss_rise(finite[best], finite[last], confidence, reach)
    state, sentence = _decide_state(finite, best, rows, rise, train_curve, unit)
    since = _find_start(finite, best, confidence, reach) if state == "overfits" else None
    if state == "none":
        rise = rows
    return replace(shape, state=state, sentence=sentence, rise=rise, since_step=since)


def _describe_above_baseline(validations: list[Validation], baseline: Validation | None, unit: str) -> str:
    """Describe that no validation is below the baseline; empty if one is, or without a baseline."""
    if baseline is None or not validations or not _is_finite(baseline):
        return ""
    best = validations[int(run_curve.mean_losses(validations).argmin())]
    gap = run_curve.compute_loss_rise(baseline, best, 0.95)
    if gap.value < 0:
        return ""
    return (
        f"Validation loss did not get below its level without training (step {int(baseline.step):,}): at"
        f" step {int(best.step):,}, its lowest since, it is {_format_rise(gap)} {unit} above it (on"
        f" {formatting.plural(gap.n, 'row')})."
    )


def _measure_shape(validations: list[Validation], train_curve: TrainCurve) -> LossShape:
    """Return best and last step, and Prechelt's figures, with an undecided state."""
    if not validations:
        return LossShape("unclear", "")
    losses = run_curve.mean_losses(validations)
    rise_percent = float(compute_generalisation_loss(losses)[-1])
    quotient = math.nan
    if len(validations) > 1:
        steps = [int(v.step) for v in validations]
        quotient = float(compute_progress_quotient(losses, steps, train_curve)[-1])
    return LossShape(
        "unclear",
        "",
        best_step=int(validations[int(losses.argmin())].step),
        last_step=int(validations[-1].step),
        gl=rise_percent if math.isfinite(rise_percent) else None,
        pq=quotient if math.isfinite(quotient) else None,
    )


def compute_generalisation_loss(losses: ArrayLike) -> Array:
    """Compute GL of each validation: 100 (loss / lowest so far - 1), in percent; shape [validations]."""
    values = np.asarray(losses, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a hinge loss can reach 0
        return 100 * (values / np.minimum.accumulate(values) - 1)


def compute_training_progress(strip: ArrayLike) -> float:
    """Compute P_k of the training losses since the previous validation: 1000 (mean / min - 1), per mille."""
    values = np.asarray(strip, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(1000 * (values.mean() / values.min() - 1))


def compute_progress_quotient(losses: ArrayLike, steps: Sequence[int], train_curve: TrainCurve) -> Array:
    """Compute PQ = GL / P_k of each validation; NaN without training loss or progress before it."""
    gl = compute_generalisation_loss(losses)
    quotients = np.full(len(gl), math.nan)
    for index in range(1, len(gl)):
        strip = _slice_train_curve(train_curve, steps[index - 1], steps[index])
        progress = compute_training_progress(strip) if len(strip) else 0.0
        if progress > 0:
            quotients[index] = gl[index] / progress
    return quotients


def _decide_state(
    validations: list[Validation],
    best: int,
    rows: Interval,
    rise: Interval,
    train_curve: TrainCurve,
    unit: str,
) -> tuple[OverfittingState, str]:
    """Return state and sentence. rows: the rise between the two models as shown by the rows; rise: including
    the step noise, which later steps may undo.
    """
    steps = [int(v.step) for v in validations]
    where = f"between step {steps[best]:,} and step {steps[-1]:,}"
    material = MATERIAL_GL / 100 * abs(run_curve.mean_loss(validations[best]))
    on = formatting.plural(rise.n, "row")
    amount = f"{_format_rise(rise)} {unit} {where} (on {on})"
    if rise.low is None:
        return "unclear", f"Whether it overfits is unclear: there is no interval, as {rise.why}."
    if rise.above and rise.value >= material:
        if _has_training_loss_risen(train_curve, steps, best):
            return (
                "unclear",
                f"Validation loss rose by {amount}, and training loss rose with it: training is unstable.",
            )
        return (
            "overfits",
            f"It overfits: validation loss rose by {amount} while training loss did not.",
        )
    if rows.high is not None and rows.high <= material:
        return "none", f"No overfitting: validation loss rose by less than 1% {where}."
    if rows.above and rows.value < material:
        less = f"{_format_rise(rows)} {unit} {where} (on {on})"
        return "none", f"No relevant overfitting: validation loss rose by {less}, under 1%."
    noise = "the variation between steps" if rows.above else "noise"
    return "unclear", f"A rise of validation loss of {amount} can't be distinguished from {noise}."


def _find_start(validations: list[Validation], best: int, confidence: float, reach: float) -> int:
    """Return the first step from which every later validation is significantly above the best one."""
    since = int(validations[-1].step)
    for later in reversed(validations[best + 1 :]):
        if not run_curve.compute_loss_rise(validations[best], later, confidence, reach).above:
            break
        since = int(later.step)
    return since


def _has_training_loss_risen(train_curve: TrainCurve, steps: list[int], best: int) -> bool:
    """Return whether training loss after the best step is significantly higher than in the interval before it
    (Welch, one-sided).
    """
    from scipy import stats  # lazy: takes half a second, which the pages don't need

    before = _slice_train_curve(train_curve, steps[best - 1] if best else -1, steps[best])
    after = _slice_train_curve(train_curve, steps[max(best, len(steps) - 2)], steps[-1])
    if not np.isfinite(after).all():
        return True
    if len(before) < 2 and len(after) and len(train_curve):  # it was best before much training
        level = before[0] if len(before) else train_curve[0][1]
        return bool(np.median(after) > stages.MATERIAL_RISE * level)
    if len(before) < 2 or len(after) < 2:
        return False
    return bool(stats.ttest_ind(after, before, equal_var=False, alternative="greater").pvalue < 0.05)


def _slice_train_curve(train_curve: TrainCurve, after: int, until: int) -> Array:
    return np.array([loss for step, loss in train_curve if after < step <= until], dtype=np.float64)


def _is_finite(validation: Validation) -> bool:
    return bool(np.isfinite(np.asarray(validation.loss_sums, np.float64)).all())


def _format_rise(rise: Interval) -> str:
    places = formatting.compute_decimals(rise.low, rise.high)
    bounds = formatting.format_interval(rise.low, rise.high, places)
    return f"{formatting.format_number(rise.value, places)} ({bounds})"
