"""Forgetting versus gain within one run: over its steps, at an earlier stop, and on the interpolation from
its base.

Every checkpoint or share is compared with the base model on the same items, in pairs; intervals are
widened for the number examined (Bonferroni). Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import BROKEN_ROW, Interval, allow_for_unseen, ratio_interval
from engine.evaluation.statistics.proportions import estimate_paired_change, holm, mcnemar
from engine.evaluation.training_curve.run_curve import Validation, VerdictConfig
from engine.evaluation.verdicts import forgetting, paired_measurements
from engine.evaluation.verdicts.forgetting import NOT_RATED, THRESHOLDS
from engine.evaluation.verdicts.paired_measurements import PairedProbe
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import (
    AdviceItem,
    CategoryCell,
    CategoryMatrix,
    ForgettingCurve,
    ForgettingPoint,
    SettingValue,
)
from store.evaluation.verdict_schemas import MeasuredEstimate, RecommendedShare, SharePoint, TrainingStop

# Forgetting over the steps of a run: when it began, and in which order.
#
# Exceeding a threshold is tested at a confidence widened for the number of checkpoints (Bonferroni), and
# reported only from the step on from which every later checkpoint is significantly above it too: a single bad
# checkpoint is not a start.


def compute_forgetting_curves(base: pa.Table, checkpoints: Mapping[int, pa.Table]) -> list[ForgettingCurve]:
    """Compute the forgetting curve of each probe, above 0 for a loss: nats per token, or the drop in
    accuracy.

    checkpoints: {step: rows}. Samples, whose divergence is not rated, have no threshold.
    """
    steps = sorted(checkpoints)
    measured = {step: paired_measurements.pair_probes(base, checkpoints[step]) for step in steps}
    names = list(dict.fromkeys(name for step in steps for name in measured[step]))
    return [
        _build_curve({s: measured[s][name] for s in steps if name in measured[s]}, name, len(steps))
        for name in names
    ]


def _build_curve(by_step: Mapping[int, PairedProbe], name: str, looks: int) -> ForgettingCurve:
    choice = next((p.is_choice for p in by_step.values() if p.items), name == paired_measurements.CHOICES)
    kind: Literal["text", "choices", "divergence"] = "choices" if choice else "text"
    if name in NOT_RATED:
        kind = "divergence"
    limits = THRESHOLDS.share if choice else THRESHOLDS.nats
    sure = {step: _estimate_loss(probe, 1 - 0.05 / looks) for step, probe in by_step.items()}
    rated = kind != "divergence"
    return ForgettingCurve(
        probe=name,
        kind=kind,
        unit="share of items" if choice else "nats a token",
        points=[_build_curve_point(step, probe) for step, probe in by_step.items()],
        amber_since=_find_start(sure, limits.amber) if rated else None,
        red_since=_find_start(sure, limits.red) if rated else None,
    )


def _build_curve_point(step: int, probe: PairedProbe) -> ForgettingPoint:
    loss = _estimate_loss(probe, 0.95)
    if loss is None:
        return ForgettingPoint(step=step, value=None, low=None, high=None, n=0, broken=probe.broken)
    return ForgettingPoint(step=step, **vars(loss.to_estimate()), broken=probe.broken)


def _estimate_loss(probe: PairedProbe, confidence: float) -> Interval | None:
    if not probe.items:
        return None
    before, after = probe.base, probe.tuned
    if not probe.is_choice:
        return ratio_interval(after["loss_sum"] - before["loss_sum"], before["tokens"], confidence=confidence)
    lost, won = _count_flips(probe, probe.options > 0)
    return estimate_paired_change(won, lost, len(probe.items), confidence=confidence)  # reversed: a loss


def _count_flips(probe: PairedProbe, chosen: NDArray[np.bool_]) -> tuple[int, int]:
    before, after = probe.base["correct"][chosen], probe.tuned["correct"][chosen]
    return int((before > after).sum()), int((after > before).sum())


def _find_start(losses: Mapping[int, Interval | None], limit: float) -> int | None:
    """Return the first step from which every later one is significantly above the limit; a step without any
    score counts as above.
    """
    since = None
    for step, loss in reversed(list(losses.items())):
        if loss is not None and (loss.low is None or loss.low <= limit):
            break
        since = step
    return since


def build_category_matrix(
    base: pa.Table, checkpoints: Mapping[int, pa.Table], probe: str = paired_measurements.CHOICES
) -> CategoryMatrix:
    """Build the matrix of category by checkpoint. totals: the same for all items at each step.

    Raises ValueError for a probe of texts, or one that was not measured.
    """
    cells: list[CategoryCell] = []
    totals: list[CategoryCell] = []
    for step in sorted(checkpoints):
        paired = paired_measurements.pair_probes(base, checkpoints[step]).get(probe)
        if paired is None or not paired.is_choice:
            raise ValueError(f"At step {step} there is no probe {probe} of items with options.")
        if not paired.items:  # the model can't score anything any more
            continue
        totals.append(_build_cell("", step, paired, np.ones(len(paired.items), bool)))
        names = sorted(set(paired.category.tolist()))
        cells += [_build_cell(name, step, paired, paired.of(name)) for name in names]
    for family in (cells, totals):
        for cell, p in zip(family, holm([c.p_holm for c in family]), strict=True):
            cell.p_holm = p
    categories = sorted({cell.category for cell in cells})
    return CategoryMatrix(
        probe=probe,
        steps=sorted(checkpoints),
        categories=categories,
        cells=cells,
        totals=totals,
    )


def _build_cell(category: str, step: int, paired: PairedProbe, chosen: NDArray[np.bool_]) -> CategoryCell:
    lost, won = _count_flips(paired, chosen)
    n = int(chosen.sum())
    change = estimate_paired_change(lost, won, n).to_estimate()
    return CategoryCell(
        category=category,
        step=step,
        n=n,
        change=change,
        lost=lost,
        won=won,
        p_holm=mcnemar(lost, won),
    )


# An earlier step of a run that gained nearly as much and forgot significantly less, at which to stop.
#
# Steps are those at which both validation rows and passages of general prose were measured. Among the steps
# with nine tenths of the kept gain, the one that forgot least is chosen: no step gained more and forgot less,
# so that it is on the Pareto front of the run's own curve. That it forgot less is tested passage by passage,
# at a confidence widened for the number of steps examined (Bonferroni), and must be material.

KEPT_GAIN_AT_STOP = 0.9  # minimum share of the gain at an earlier step
MIN_FORGOTTEN_LESS = 0.02  # nats per token by which it must have forgotten less


class ProseCurve(NamedTuple):
    """Rows of the general prose probe by step, and under the kept model."""

    by_step: Mapping[int, pa.Table]
    kept: pa.Table


@dataclass(frozen=True)
class EarlierStep:
    """A suitable earlier step: its gain over the base model on validation rows, and how much less prose had
    lost.
    """

    step: int
    gain: Interval
    less: Interval


def find_earlier_stop(
    validations: Sequence[Validation], prose: ProseCurve, last: int
) -> tuple[EarlierStep, Interval] | None:
    """Return a suitable step, and the gain of the kept model, which is that of step `last`; None if no step
    is suitable. validations: step 0 is the base model.
    """
    by_step = {v.step: v for v in validations}
    looked = sorted(step for step in prose.by_step if 0 < step < last and step in by_step)
    if not looked or not {0, last} <= set(by_step):
        return None
    whole = _estimate_gain(by_step[0], by_step[last])
    if whole.low is None or whole.low <= 0:
        return None
    steps = []
    for step in looked:
        gain = _estimate_gain(by_step[0], by_step[step])
        less = _estimate_prose_kept(prose.by_step[step], prose.kept, len(looked))
        sure = less is not None and less.low is not None and less.low > 0 and less.value >= MIN_FORGOTTEN_LESS
        if gain.value >= KEPT_GAIN_AT_STOP * whole.value and less is not None and sure:
            steps.append(EarlierStep(step, gain, less))
    return (max(steps, key=lambda step: step.less.value), whole) if steps else None


def _estimate_gain(base: Validation, now: Validation) -> Interval:
    tokens = np.asarray(base.tokens, np.float64)
    return ratio_interval(np.asarray(base.loss_sums) - np.asarray(now.loss_sums), tokens)


def _estimate_prose_kept(then: pa.Table, kept: pa.Table, looks: int) -> Interval | None:
    """Estimate how much less prose had lost at that step than under the kept model."""
    paired = paired_measurements.pair_probes(then, kept).get(paired_measurements.PROSE)
    if paired is None or not paired.items:
        return None
    change = paired.tuned["loss_sum"] - paired.base["loss_sum"]
    return ratio_interval(change, paired.base["tokens"], confidence=1 - 0.05 / looks)


def advise_earlier_stop(
    validations: Sequence[Validation], prose: ProseCurve, stopped: TrainingStop, config: VerdictConfig
) -> AdviceItem | None:
    """Advise a launch that ends at such a step; None if there is none."""
    last = int(stopped.restored_step or stopped.step)
    step_and_gain = find_earlier_stop(validations, prose, last)
    if step_and_gain is None:
        return None
    earlier, whole = step_and_gain
    epochs = float(config.get("num_train_epochs") or 0)
    if stopped.reason == "epochs" and epochs:
        fewer = round(max(0.01, epochs * earlier.step / int(stopped.step)), 2)
        change: dict[str, SettingValue] = {"num_train_epochs": fewer}
        until = f"{formatting.format_epochs(fewer)} instead of {epochs:g}"
    else:
        change, until = {"max_steps": earlier.step}, f"{earlier.step:,} steps"
    share = f"{100 * earlier.gain.value / whole.value:.0f}%"
    text = (
        f"Stop earlier, after {until}: at step {earlier.step:,} of {last:,} it had {share} of the gain"
        f" ({formatting.plural(whole.n, 'validation row')}), and {_describe_prose_kept(earlier.less)}."
    )
    return AdviceItem(text=text, change=change, kind="epochs")


def _describe_prose_kept(less: Interval) -> str:
    places = formatting.compute_decimals(less.low, less.high)
    amount, bounds = (
        formatting.format_number(less.value, places),
        formatting.format_interval(less.low, less.high, places),
    )
    return f"prose had lost {amount} nats a token less ({bounds}, {formatting.plural(less.n, 'passage')})"


KEPT_GAIN_AT_SHARE = 0.9  # share of the gain that a recommended α keeps


class ShareRows(NamedTuple):
    """A model at one share: summed nats of each held-out row, and the probe items."""

    losses: np.ndarray
    items: pa.Table


def build_share_point(alpha: float, tokens: np.ndarray, base: ShareRows, now: ShareRows) -> SharePoint:
    """Compare one α with α = 0. tokens: of each held-out row."""
    lost = forgetting.assess_forgetting(base.items, now.items)
    parts: list[forgetting.ForgettingPart] = [*lost.texts, *lost.choices]
    return SharePoint(
        alpha=alpha,
        loss=_to_estimate(ratio_interval(now.losses, tokens)),
        gain=_to_estimate(allow_for_unseen(ratio_interval(base.losses - now.losses, tokens), BROKEN_ROW)),
        text=lost.texts[0] if lost.texts else None,
        choices=lost.choices[0] if lost.choices else None,
        named=[part for part in parts if paired_measurements.is_users_probe(part.probe)],
        kl=lost.divergence[0].kl if lost.divergence else None,
        state=lost.state,
    )


def _to_estimate(interval: Interval) -> MeasuredEstimate:
    return MeasuredEstimate(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        se=interval.se,
        detectable=interval.detectable,
        why=interval.why,
    )


@dataclass(frozen=True)
class ShareGain:
    """What `recommend_share` reads of a point: its gain, and the change of the loss on prose if measured."""

    alpha: float
    gain: Estimate
    prose: Estimate | None

    @classmethod
    def of(cls, measured: SharePoint) -> ShareGain:
        """Build from a point as written by the interpolate job."""
        text = measured.text
        return cls(measured.alpha, measured.gain, text.change if text else None)


def recommend_share(points: Sequence[ShareGain]) -> RecommendedShare:
    """Recommend the smallest share that keeps 90% of the best gain; None if no gain is significant.

    The best of several α is also lucky, so its interval and those reported are widened (Bonferroni over
    the α that were tried).
    """
    tried = max(1, sum(each.alpha > 0 for each in points))
    best = intervals.widen_for_comparisons(max(points, key=lambda each: each.gain.value).gain, tried)
    if best.low is None or best.low <= 0:
        return RecommendedShare(
            recommended=None, sentence="No interpolation gains significantly on the held-out rows."
        )
    chosen = min(
        (each for each in points if each.gain.value >= KEPT_GAIN_AT_SHARE * best.value),
        key=lambda p: p.alpha,
    )
    tuned = max(points, key=lambda each: each.alpha)
    kept = 100 * chosen.gain.value / best.value
    gain = intervals.widen_for_comparisons(chosen.gain, tried)
    rows = formatting.plural(gain.n, "row")
    words = f"α {chosen.alpha:g} keeps {kept:.0f}% of the best gain: {_format_nats(gain)} on {rows}"
    if chosen.prose and tuned.prose:
        words += (
            "; the loss on prose changes by"
            f" {_format_nats(intervals.widen_for_comparisons(chosen.prose, tried))}"
        )
        if chosen is not tuned:
            words += (
                f", and at α {tuned.alpha:g} by"
                f" {_format_nats(intervals.widen_for_comparisons(tuned.prose, tried))}"
            )
        words += f", on {formatting.plural(chosen.prose.n, 'passage')}"
    if tried > 1:
        words += f". Intervals are corrected for {tried:,} values of α"
    return RecommendedShare(recommended=chosen.alpha, sentence=words + ".")


def _format_nats(estimate: Estimate) -> str:
    low, high = estimate.low, estimate.high
    if low is None:
        return f"{formatting.format_point_value(estimate.value)} nats a token (no interval: {estimate.why})"
    value = formatting.format_number(estimate.value, formatting.compute_decimals(low, high))
    if low == high:
        return f"{value} nats a token on each row"
    return f"{value} ({formatting.format_interval(low, high)}) nats a token"
