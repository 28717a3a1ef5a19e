"""Effect of duplicates: held-out rows repeated in training, and training rows that occur more than once.

The gain with and without the repeated held-out rows shows how much of it is due to them. Among the
measured training rows, those that occur more than once are compared with the others: how far their loss
fell, how well they are separated from held-out rows, and how often they are reproduced verbatim. Pure
functions from arrays to JSON documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.evaluation.statistics import intervals, proportions
from engine.evaluation.statistics.intervals import Interval, ratio_interval
from engine.evaluation.statistics.roc import auc
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import (
    DuplicateExtraction,
    DuplicateGains,
    DuplicateMembership,
    DuplicateTraining,
    ExtractedCount,
    LossDrop,
    RepeatKind,
)

MIN_ROWS = 2  # minimum rows of a kind for a comparison
NEGLIGIBLE = 1e-5  # nats per token; smaller values are not displayed

Array = NDArray[np.float64]
KINDS: dict[RepeatKind, str] = {"exact": "word for word", "near": "nearly", "same_prompt": "by their prompt"}


class RowLossPair(NamedTuple):
    """Rows under both models: summed losses, and tokens."""

    base: ArrayLike
    tuned: ArrayLike
    tokens: ArrayLike

    @property
    def saved(self) -> Array:
        """Decrease of the summed loss."""
        return np.asarray(self.base, np.float64) - np.asarray(self.tuned, np.float64)

    @property
    def weights(self) -> Array:
        """Tokens as floats."""
        return np.asarray(self.tokens, np.float64)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Mask of rows with a loss under both models."""
        return np.isfinite(self.saved) & (self.weights > 0)


class GainsByRepeat(NamedTuple):
    """Gain on all held-out rows, on those not repeated, and on the repeated ones; None if there are too few
    rows.
    """

    whole: Interval | None
    clean: Interval | None
    repeated: Interval | None


def assess_leaks(
    rows: RowLossPair, kinds: Mapping[RepeatKind, NDArray[np.bool_]], near: bool
) -> DuplicateGains:
    """Assess held-out rows, given which of them training repeats, by kind. near: whether near duplicates were
    searched.
    """
    saved, weights, good = rows.saved, rows.weights, rows.good
    hit = np.any([*kinds.values(), np.zeros(len(saved), bool)], axis=0)
    gains = GainsByRepeat(
        *(estimate_loss_drop(saved[mask], weights[mask]) for mask in (good, good & ~hit, good & hit))
    )
    change = subtract_intervals(gains.repeated, gains.clean)
    repeated = DuplicateGains(
        rows=int(hit.sum()),
        n=len(saved),
        kinds={kind: int(mask.sum()) for kind, mask in kinds.items()},
        checked_near=near,
        whole=_to_document(gains.whole),
        clean=_to_document(gains.clean),
        repeated=_to_document(gains.repeated),
        difference=_to_document(change),
        sentence="",
    )
    repeated.sentence = _describe_leaks(repeated, gains, change)
    return repeated


def _to_document(interval: Interval | None) -> Estimate | None:
    return interval.to_estimate() if interval else None


def _describe_leaks(leaked: DuplicateGains, gains: GainsByRepeat, change: Interval | None) -> str:
    rows = formatting.plural(leaked.n, "held-out row")
    if not leaked.n:
        return "No held-out rows to compare with training rows."
    if not leaked.rows:
        also = "" if leaked.checked_near else "; near duplicates were not searched"
        return f"None of {rows} is also in the training rows{also}."
    how = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in leaked.kinds.items() if count)
    repeat = "repeats" if leaked.rows == 1 else "repeat"
    lead = f"{leaked.rows:,} of {rows} {repeat} a training row ({how})."
    clean, whole = gains.clean, gains.whole
    if clean is None or whole is None:
        return f"{lead} Too few others remain to measure the effect."
    lead += (
        f" Without them the gain is {_format_interval(clean)} nats a token, with them"
        f" {_format_interval(whole)}."
    )
    if change is None:
        return lead
    if _is_negligible(change):
        return f"{lead} On the repeated ones it is the same."
    if change.above:
        return f"{lead} On the repeated ones it is {_format_interval(change)} more: they inflate the gain."
    if change.below:
        return f"{lead} On the repeated ones it is {_format_interval(_negate_interval(change))} less."
    return (
        f"{lead} That they gained more than the others can't be distinguished from noise"
        f" ({_format_bounds(change)})."
    )


@dataclass(frozen=True)
class MeasuredTraining:
    """Measured training rows: how often each occurs in training, and its losses.

    others: loss per token of held-out rows under the tuned model. written: for the rows tested for
    extraction, whether they were reproduced. all_rows and repeated_rows: number of training rows, and of
    those that occur more than once.
    """

    row_ids: ArrayLike
    times: ArrayLike
    losses: RowLossPair
    others: ArrayLike
    written: Mapping[int, bool]
    all_rows: int
    repeated_rows: int


def assess_training_repeats(rows: MeasuredTraining) -> DuplicateTraining:
    """Compare the measured rows that occur more than once with the others."""
    often, losses = np.asarray(rows.times) > 1, rows.losses
    saved, weights, good = losses.saved, losses.weights, losses.good
    repeated, once = good & often, good & ~often
    document = DuplicateTraining(
        rows=rows.all_rows, repeated_rows=rows.repeated_rows, repeated=int(repeated.sum()),
        once=int(once.sum()), drop=None, auc=None, written=None, sentence="",
    )  # fmt: skip
    if min(repeated.sum(), once.sum()) < MIN_ROWS:
        document.sentence = _describe_few(document)
        return document
    drops = [estimate_loss_drop(saved[mask], weights[mask]) for mask in (repeated, once)]
    change = subtract_intervals(*drops)
    drop = LossDrop(
        repeated=_to_document(drops[0]), once=_to_document(drops[1]),
            difference=_to_document(change),
    )  # fmt: skip
    document.auc = _compute_areas(losses, rows.others, repeated, once)
    document.drop = drop
    own = dict(zip(np.asarray(rows.row_ids).tolist(), often.tolist(), strict=True))
    document.written = _compare_extraction(rows.written, own)
    document.sentence = _describe_training(document, drop, change)
    return document


def _compute_areas(
    losses: RowLossPair, others: ArrayLike, repeated: NDArray[np.bool_], once: NDArray[np.bool_]
) -> DuplicateMembership | None:
    """Compute how well rows of either kind are separated from held-out ones; None with too few
    held-out rows.
    """
    held = -np.asarray(others, np.float64)
    held = held[np.isfinite(held)]
    if len(held) < MIN_ROWS:
        return None
    last, weights = np.asarray(losses.tuned, np.float64), losses.weights
    areas = [auc(-last[mask] / weights[mask], held).to_estimate() for mask in (repeated, once)]
    return DuplicateMembership(repeated=areas[0], once=areas[1])


def _compare_extraction(written: Mapping[int, bool], often: Mapping[int, bool]) -> DuplicateExtraction | None:
    repeated, once = (
        [hit for row, hit in written.items() if often.get(row) is kind] for kind in (True, False)
    )
    if min(len(repeated), len(once)) < MIN_ROWS:
        return None
    counted = (sum(repeated), len(repeated)), (sum(once), len(once))
    return DuplicateExtraction(
        repeated=ExtractedCount(rows=counted[0][0], n=counted[0][1]),
        once=ExtractedCount(rows=counted[1][0], n=counted[1][1]),
        difference=proportions.estimate_share_difference(*counted).to_estimate(),
    )


def _describe_few(document: DuplicateTraining) -> str:
    rows = formatting.plural(document.rows, "training row")
    if not document.rows:
        return "No training rows to check."
    if not document.repeated_rows:
        return f"Each of {rows} occurs once."
    return (
        f"{_describe_repeats(document)}; of the measured rows {document.repeated:,}"
        f" {'does' if document.repeated == 1 else 'do'}, too few to measure the effect."
    )


def _describe_repeats(document: DuplicateTraining) -> str:
    occur = "occurs" if document.repeated_rows == 1 else "occur"
    rows = formatting.plural(document.rows, "training row")
    return f"{document.repeated_rows:,} of {rows} {occur} more than once"


def _describe_training(document: DuplicateTraining, drop: LossDrop, change: Interval | None) -> str:
    lead = f"{_describe_repeats(document)}."
    measured = f"({document.repeated:,} against {document.once:,} measured rows)"
    if change is None:
        kinds = ((drop.repeated, "those that occur more than once"), (drop.once, "the others"))
        reasons = (f"for {words}, {fall.why}" for fall, words in kinds if fall and fall.why is not None)
        why = next(reasons, "there is no interval")
        return f"{lead} They can't be compared with the others {measured}: {why}."
    if _is_negligible(change):
        return f"{lead} Their loss fell as much as that of the others {measured}."
    way, fell = ("less", _negate_interval(change)) if change.below else ("more", change)
    if change.above or change.below:
        by = f"{_format_interval(fell)} nats a token {way} than that of the others"
        return f"{lead} Their loss fell by {by} {measured}."
    return (
        f"{lead} That their loss fell more than that of the others can't be distinguished from noise"
        f" ({_format_bounds(change)} nats a token, {measured[1:]}."
    )


def estimate_loss_drop(saved: ArrayLike, tokens: ArrayLike) -> Interval | None:
    """Estimate the decrease of the loss per token; None with fewer than MIN_ROWS rows."""
    return ratio_interval(saved, tokens) if np.sum(np.asarray(tokens) > 0) >= MIN_ROWS else None


def subtract_intervals(first: Interval | None, second: Interval | None) -> Interval | None:
    """Return the first minus the second, from different rows; None if one of them has no interval."""
    if first is None or second is None or first.low is None or second.low is None:
        return None
    return intervals.subtract_estimates(first, second)


def _negate_interval(change: Interval) -> Interval:
    assert change.low is not None
    assert change.high is not None
    return Interval(-change.value, -change.high, -change.low, change.n)


def _is_negligible(change: Interval) -> bool:
    """Return whether both limits are too close to 0 to be displayed."""
    assert change.low is not None
    assert change.high is not None
    return max(abs(change.low), abs(change.high)) < NEGLIGIBLE


def _format_interval(interval: Interval) -> str:
    if interval.low is None:
        return f"{formatting.format_number(interval.value, 2)} [no interval: {interval.why}]"
    if _is_negligible(interval):
        return "0"
    places = formatting.compute_decimals(interval.low, interval.high)
    ends = [formatting.format_number(end, places) for end in (interval.low, interval.high) if end is not None]
    if ends[0] == ends[1]:
        return f"about {formatting.format_number(interval.value, 2)}"
    return f"{formatting.format_number(interval.value, places)} ({' to '.join(ends)})"


def _format_bounds(interval: Interval) -> str:
    return formatting.format_interval(interval.low, interval.high)
