"""Run comparison: the figures of each run, whether runs are comparable, and which differ.

Every run is compared with the best one, paired over rows that both held out, at a joint confidence for all
pairs (Bonferroni). The error of a difference between settings combines that of the rows and that of the
seeds. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics.intervals import Interval, ratio_interval
from store.core import formatting
from store.core.figure_schemas import Estimate, Gain
from store.evaluation.forgetting_schemas import Forgetting
from store.evaluation.schemas import Classification
from store.evaluation.verdict_schemas import RunFigure, Verdict
from store.runs.schemas import Run

NATS, SHARE = "nats a token", "share"
BASE, TUNED, GAIN, RIGHT = "loss.base", "loss.tuned", "gain", "accuracy_gain"

PROBES = {
    "prose": "general prose",
    "choices": "general questions",
    "own_samples": "its own general texts",
    "task_samples": "its own answers to held-out prompts",
}
SCORES = {
    "loss": "the loss",
    "calibrated": "the loss less the base model's",
    "min_k": "the least likely tokens",
    "margin": "the margin of pairs",
}

Floats = NDArray[np.float64]


class HeldOutRowLosses(NamedTuple):
    """Results of a run's base and tuned model on its held-out rows, in the order of their IDs: per-row sums
    for each figure that pairs of runs share.
    """

    row_ids: NDArray[np.int64]
    tokens: Floats
    base_loss: Floats
    tuned_loss: Floats
    base_correct: Floats
    tuned_correct: Floats

    def sums(self) -> dict[str, Floats]:
        """Return each row's numerator by figure key; the denominator is its tokens."""
        return {
            BASE: self.base_loss,
            TUNED: self.tuned_loss,
            GAIN: self.base_loss - self.tuned_loss,
            RIGHT: self.tuned_correct - self.base_correct,
        }


class _NamedFigure(NamedTuple):
    key: str
    title: str
    unit: str
    estimate: Estimate | None


def list_figures(verdict: Verdict, rows: HeldOutRowLosses | None = None) -> list[RunFigure]:
    """Return the available figures. rows: gives the losses their intervals."""
    figures: list[RunFigure] = []
    for key, title, unit, estimate in _iterate_figures(verdict, rows):
        if estimate is not None and np.isfinite(estimate.value):
            value, low, high, n = estimate.value, estimate.low, estimate.high, estimate.n
            figures.append(RunFigure(key=key, title=title, unit=unit, value=value, low=low, high=high, n=n))
    return figures


def _iterate_figures(verdict: Verdict, rows: HeldOutRowLosses | None) -> Iterator[_NamedFigure]:
    gain = verdict.gain
    unit = gain.unit if gain else NATS
    yield _NamedFigure(BASE, "loss of the base model", unit, _read_loss(verdict, "base", rows))
    yield _NamedFigure(TUNED, "loss of the tuned model", unit, _read_loss(verdict, "tuned", rows))
    yield _NamedFigure(GAIN, "gain", unit, gain)
    if parts := verdict.parts:
        yield _NamedFigure("gain.question", "gain from the question", parts.unit, parts.question)
        yield _NamedFigure("gain.shape", "gain after any prompt", parts.unit, parts.shape)
    right = verdict.accuracy_gain
    yield _NamedFigure(RIGHT, "change of the share that is right", right.unit if right else SHARE, right)
    if preference := verdict.preference:
        yield _NamedFigure("preference.accuracy", "pairs that gained", SHARE, preference.reward_accuracy)
        yield _NamedFigure("preference.margin", "mean margin of pairs", "rewards", preference.reward_margin)
    if classification := verdict.classification:
        yield from _iterate_class_figures(classification)
    if forgetting := verdict.forgetting:
        yield from _iterate_forgetting_figures(forgetting)
    if membership := verdict.membership:
        for name, score in membership.scores.items():
            title = f"training rows separated from held-out ones by {SCORES[name]}"
            yield _NamedFigure(f"membership.{name}", title, "area under the curve", score.auc)
    if extraction := verdict.extraction:
        yield _NamedFigure("extraction.beyond", "training rows that come out", SHARE, extraction.beyond)


def _read_loss(verdict: Verdict, which: str, rows: HeldOutRowLosses | None) -> Estimate | None:
    figures = verdict.base if which == "base" else verdict.tuned
    loss = figures.loss
    if loss is None:
        return None
    between = compute_figure_interval(rows, BASE if which == "base" else TUNED) if rows else None
    if between is None or not is_same_value(between.value, loss):
        return Estimate(value=loss, low=None, high=None, n=figures.n)
    return Estimate(value=loss, low=between.low, high=between.high, n=between.n)


def _iterate_class_figures(classification: Classification) -> Iterator[_NamedFigure]:
    tuned = classification.models.tuned
    yield _NamedFigure("classes.accuracy", "accuracy", SHARE, tuned.accuracy)
    yield _NamedFigure("classes.f1_macro", "macro F1", SHARE, tuned.f1_macro)
    over = classification.over_prompted
    yield _NamedFigure("classes.over_prompted", "right beyond the untuned model", SHARE, over)
    if calibration := tuned.calibration:
        yield _NamedFigure("classes.brier", "Brier score", "0 to 2", calibration.brier)


def _iterate_forgetting_figures(forgetting: Forgetting) -> Iterator[_NamedFigure]:
    for text in forgetting.texts:
        yield _NamedFigure(
            f"text.{text.probe}",
            f"loss on {_format_probe(text.probe)}, change",
            text.unit,
            text.change,
        )
    for choice in forgetting.choices:
        title = f"accuracy on {_format_probe(choice.probe)}, change"
        yield _NamedFigure(f"choices.{choice.probe}", title, SHARE, choice.change)
    for far in forgetting.divergence:
        yield _NamedFigure(
            f"kl.{far.probe}",
            f"distance from the base model on {_format_probe(far.probe)}",
            far.unit,
            far.kl,
        )
    if requests := forgetting.requests:
        harmful, harmless = requests.harmful.change, requests.harmless.change
        yield _NamedFigure("requests.harmful", "harmful requests refused, change", SHARE, harmful)
        yield _NamedFigure("requests.harmless", "harmless requests refused, change", SHARE, harmless)


def _format_probe(name: str) -> str:
    """Describe a built-in probe in words; return the name of a data set or task."""
    return PROBES.get(name, name.partition("/")[2] or name)


def compute_figure_interval(rows: HeldOutRowLosses, key: str, sums: Floats | None = None) -> Interval | None:
    """Compute the figure `key`, or that of other `sums`, over the rows; None if no row has a token or a loss
    is not finite.
    """
    top = rows.sums()[key] if sums is None else sums
    if not (rows.tokens > 0).any() or not np.isfinite(top[rows.tokens > 0]).all():
        return None
    return ratio_interval(top, rows.tokens)


def is_same_value(value: float, other: float) -> bool:
    """Return whether two values computed in different ways are equal within rounding."""
    return bool(np.isclose(value, other, rtol=1e-6, atol=1e-9))


# Every run is compared with the best one, paired over the rows that both held out. The best run is chosen by
# the same rows, so that among k equal runs it is simply the luckiest: the k - 1 intervals shown are selected
# from those of all k (k - 1) / 2 pairs. Each is therefore at 1 - 0.05 / (all pairs) (Bonferroni), which keeps
# the probability that any of them errs at 5%. Tukey's range would be 2 to 3% narrower, but requires
# differences of equal variance, which those of runs don't have.

MIN_DIFFERENCE = 1e-5  # nats; smaller differences are negligible


@dataclass(frozen=True)
class RunDifference:
    """How much better `better` is than `other`, in `unit`; if `interval` is None, `reason` says why."""

    better: str
    other: str
    interval: Interval | None
    reason: str = ""
    unit: str = "nats a token"

    @property
    def separated(self) -> bool:
        """Whether the difference can be distinguished from noise."""
        return self.interval is not None and (self.interval.above or self.interval.below)

    @property
    def sentence(self) -> str:
        """Describe the comparison in plain words."""
        if self.interval is None:
            return f"{self.better} and {self.other} can't be compared: {self.reason}."
        gap = self.interval
        rows = formatting.plural(gap.n, "held-out row")
        if gap.low is None or gap.high is None:
            why = gap.why or "they give no interval"
            return f"{self.better} and {self.other} can't be distinguished on {rows}: {why}."
        if gap.low == gap.high == 0:
            return f"{self.better} and {self.other} have the same loss on each of {rows}."
        if max(abs(gap.low), abs(gap.high)) < MIN_DIFFERENCE:
            least = formatting.format_setting(MIN_DIFFERENCE)
            return f"{self.better} and {self.other} differ by less than {least} {self.unit} on {rows}."
        places = formatting.compute_decimals(gap.low, gap.high)
        bounds = formatting.format_interval(gap.low, gap.high, places)
        if not self.separated:
            least = formatting.format_number(gap.detectable or 0.0, max(2, places))
            seen = f"; smallest detectable difference: {least}" if gap.detectable else ""
            return f"{self.better} and {self.other} can't be distinguished on {rows} ({bounds}){seen}."
        first, second = (self.better, self.other) if gap.above else (self.other, self.better)
        low, high = sorted((abs(gap.low), abs(gap.high)))
        amount = formatting.format_number(abs(gap.value), places)
        return (
            f"{first} is better than {second} by {amount} {self.unit} on {rows} "
            f"({formatting.format_interval(low, high, places)})."
        )


def count_run_pairs(models: int) -> int:
    """Return the number of pairwise comparisons among this many models, any of which may be the best."""
    return models * (models - 1) // 2


class SharedRows(NamedTuple):
    """Summed losses of two runs on the rows both held out, and each row's units (tokens)."""

    better: ArrayLike
    other: ArrayLike
    tokens: ArrayLike


def compare_runs(
    better: str, other: str, rows: SharedRows, *, comparisons: int = 1, unit: str = "nats a token"
) -> RunDifference:
    """Compare two named runs: `other` minus `better`, in loss per unit."""
    gap = np.asarray(rows.other, np.float64) - np.asarray(rows.better, np.float64)
    if not len(gap):
        return RunDifference(better, other, None, "they have no held-out row in common")
    if not np.isfinite(gap).all():
        return RunDifference(better, other, None, "a loss is not a number")
    interval = ratio_interval(gap, rows.tokens, confidence=1 - 0.05 / max(1, comparisons))
    return RunDifference(better, other, interval, unit=unit)


LOSS_FIELDS = ("task", "loss_type", "beta", "label_smoothing")  # fields that affect the size of a loss


def require_gain(run: Run) -> Gain:
    """Return the gain of a run that is known to have one."""
    gain = run.verdict.gain if run.verdict else None
    assert gain
    return gain


def find_incomparability(run: Run, other: Run) -> str:
    """Return why two runs can't be compared row by row, or an empty string."""
    if run.data_fingerprint != other.data_fingerprint:
        return "they were trained on different data"
    differing = [field for field in LOSS_FIELDS if run.config.get(field) != other.config.get(field)]
    if "task" in differing or (differing and run.config.get("task") == "dpo"):
        return f"their losses mean different things ({', '.join(differing)} differ)"
    if require_gain(run).split != require_gain(other).split:
        return "one was evaluated on test rows, the other on validation rows"
    return ""


# Settings are compared by the runs made with each, excluding the effect of the seed.
#
# The rows show how certain it is that one *model* is better than another. A setting is more than the one
# model that one seed produced, and of two models that differ only in their seed, one is nearly always
# significantly better on the same rows. So the error of a difference between settings has two parts: that of
# the rows, from the paired differences of the seed-averaged losses, and that of the seeds, whose variance is
# pooled over all repeated settings. With few seeds a bootstrap over them is overconfident, so Student's t is
# used, with the combined degrees of freedom of both parts (Welch 1947, Satterthwaite 1946). Without any
# repetition the second part is unknown, and there is no result.


@dataclass(frozen=True)
class SeedSpread:
    """Variation between runs of one setting due to the seed alone: the standard deviation of the loss (in its
    unit), and the degrees of freedom of that estimate.
    """

    deviation: float
    degrees: int


def estimate_seed_spread(settings: Sequence[ArrayLike], tokens: ArrayLike) -> SeedSpread | None:
    """Pool the spread over settings, each with its runs' summed losses [runs, rows]; None if no setting was
    repeated.
    """
    squares, degrees = 0.0, 0
    token_count = float(np.sum(np.asarray(tokens, np.float64)))
    for losses in settings:
        means = np.atleast_2d(np.asarray(losses, np.float64)).sum(axis=1) / token_count  # a run's, per token
        squares += float(((means - means.mean()) ** 2).sum())
        degrees += len(means) - 1
    return SeedSpread(float(np.sqrt(squares / degrees)), degrees) if degrees else None


def compare_settings(
    better: ArrayLike, other: ArrayLike, tokens: ArrayLike, by_seed: SeedSpread, *, confidence: float = 0.95
) -> Interval:
    """Return `other` minus `better` in loss per token, from the summed losses [runs, rows] of each setting's
    runs.

    Raises ValueError for arrays with different rows.
    """
    first, second = (np.atleast_2d(np.asarray(losses, np.float64)) for losses in (better, other))
    rows = ratio_interval(second.mean(axis=0) - first.mean(axis=0), tokens)
    if rows.se is None:
        return rows
    of_seeds = by_seed.deviation**2 * (1 / len(first) + 1 / len(second))
    of_rows = rows.se**2
    error = float(np.sqrt(of_rows + of_seeds))
    if error == 0:
        return rows
    degrees = error**4 / (of_rows**2 / (rows.n - 1) + of_seeds**2 / by_seed.degrees)
    half = float(special.stdtrit(degrees, (1 + confidence) / 2))
    detectable = (half + float(special.stdtrit(degrees, 0.8))) * error
    return Interval(
        rows.value, rows.value - half * error, rows.value + half * error, rows.n, error, detectable
    )
