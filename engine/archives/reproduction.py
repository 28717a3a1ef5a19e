"""Comparison of a run with the original that it repeats: settings, rows, losses by step, and figures.

That two figures are indistinguishable means little: they count as reproduced if their difference is
significantly within a margin (an equivalence test), paired by row if the same rows judged both. Pure
functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval
from store.archives.schemas import (
    LOSS_TOLERANCE,
    BundleDifference,
    ComparisonLine,
    OriginalComparison,
    ReproducedFigure,
    Reproduction,
    ReproductionOutcome,
)
from store.archives.text import format_figure_title
from store.core.figure_schemas import Estimate
from store.core.formatting import (
    MINUS,
    compute_decimals,
    format_estimate,
    format_interval,
    format_number,
    format_point_value,
    plural,
)
from store.core.model_schemas import TrainingEnd
from store.evaluation.verdict_schemas import RunFigure
from store.jobs.schemas import LossCurve, RunWithCurves

# Whether the figures of a run were reproduced.
#
# Both runs' figures come from a sample of rows. If the same rows judged both, the difference is computed row
# by row: the effect of the choice of rows cancels, and its interval is that of the change alone. Otherwise
# the two are treated as independent, and the interval of the difference is that of two samples.
#
# That two figures are indistinguishable means little: with few rows everything is. So this is a test of
# equivalence, with a margin of what would matter. A figure is reproduced (*within*) if the whole 95% interval
# of the difference is within the margin, even allowing for a few rows that this sample lacks; it is *outside*
# if the whole interval, widened for the number of figures (Bonferroni), is beyond it; otherwise it is
# inconclusive. The statement is about these two models: how far runs differ by their seed can't be known from
# one repetition.

MARGINS = {  # by unit: how far a figure may change without mattering
    "nats a token": 0.02,
    "share": 0.02,
    "area under the curve": 0.02,
    "0 to 2": 0.02,
}
UNSEEN_CHANGE = 1.0  # nats, or from right to wrong: assumed maximum change of a row of an unobserved kind
UNSEEN_DEVIATIONS = 100.0  # limit in standard deviations of the rows' changes

Pairs = dict[str, Interval]  # key of a figure -> second minus first over the same rows


def compare_figures(
    bundle: str,
    first: Sequence[RunFigure],
    second: Sequence[RunFigure],
    pairs: Pairs,
    differences: list[BundleDifference],
) -> Reproduction:
    """Compare each figure that one of the two runs has."""
    ours = {figure.key: figure for figure in second}
    keys = {figure.key: figure for figure in [*second, *first]}
    before = {figure.key: figure for figure in first}
    figures = [
        _compare_figure(named, before.get(key), ours.get(key), pairs.get(key), len(keys))
        for key, named in keys.items()
    ]
    counts = {came: sum(figure.came == came for figure in figures) for came in OUTCOME_WORDS}
    return Reproduction(
        bundle=bundle,
        sentence=_describe_summary(counts, len(figures)),
        same=counts["same"],
        within=counts["within"],
        outside=counts["outside"],
        cant_tell=counts["cant_tell"],
        figures=figures,
        differences=differences,
    )


OUTCOME_WORDS: tuple[ReproductionOutcome, ...] = ("same", "within", "outside", "cant_tell")


def _describe_summary(counts: dict[ReproductionOutcome, int], total: int) -> str:
    if not total:
        return "No metrics to compare with the bundle."
    if counts["same"] == total:
        return f"All {plural(total, 'metric')} reproduced exactly."
    words = {
        "same": "identical",
        "within": "within the margin",
        "outside": "outside the margin",
        "cant_tell": "inconclusive",
    }
    parts = [f"{counts[came]} {words[came]}" for came in OUTCOME_WORDS if counts[came]]
    return f"Of {plural(total, 'metric')}: {', '.join(parts)}."


def _compare_figure(
    named: RunFigure, first: RunFigure | None, second: RunFigure | None, pair: Interval | None, figures: int
) -> ReproducedFigure:
    change = _compute_change(first, second, pair)
    margin = MARGINS.get(named.unit)
    came = _determine_outcome(first, second, change, margin, figures)
    return ReproducedFigure(
        key=named.key,
        title=named.title,
        unit=named.unit,
        first=_format_estimate(first),
        second=_format_estimate(second),
        change=change,
        paired=pair is not None,
        came=came,
        sentence=_describe_figure(named, first, second, change, came),
    )


def _format_estimate(figure: RunFigure | None) -> Estimate | None:
    return None if figure is None else _to_estimate(figure)


def _to_estimate(figure: RunFigure) -> Estimate:
    return Estimate(value=figure.value, low=figure.low, high=figure.high, n=figure.n)


def _compute_change(
    first: RunFigure | None, second: RunFigure | None, pair: Interval | None
) -> Estimate | None:
    """Return the second minus the first. For two independent, possibly asymmetric intervals, each limit
    combines the two distances on its side in squares (Newcombe 1998).
    """
    if first is None or second is None:
        return None
    if pair is not None:
        return pair.to_estimate()
    value = second.value - first.value
    n = min(first.n, second.n)
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value=value, low=None, high=None, n=n)
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value=value, low=value - below, high=value + above, n=n)


def _determine_outcome(
    first: RunFigure | None,
    second: RunFigure | None,
    change: Estimate | None,
    margin: float | None,
    figures: int,
) -> ReproductionOutcome:
    if first is None or second is None:
        return "cant_tell"
    if first.value == second.value:
        return "same"
    if change is None or margin is None or change.low is None or change.high is None:
        return "cant_tell"
    unseen = _estimate_unseen_change(change.high - change.low, change.n)
    if -margin < change.low - unseen and change.high + unseen < margin:
        return "within"
    wide = intervals.widen_for_comparisons(change, figures)
    if wide.low is None or wide.high is None:
        return "cant_tell"
    return "outside" if wide.low > margin or wide.high < -margin else "cant_tell"


def _estimate_unseen_change(width: float, n: int) -> float:
    """Return what rows of a kind absent from n rows may add to the difference: their share, with a
    probability of at most 2.5%, times the largest change of such a row.
    """
    deviation = width / 4 * math.sqrt(n)
    return (1 - math.exp(math.log(0.025) / n)) * min(UNSEEN_CHANGE, UNSEEN_DEVIATIONS * deviation)


def _describe_figure(
    named: RunFigure,
    first: RunFigure | None,
    second: RunFigure | None,
    change: Estimate | None,
    came: ReproductionOutcome,
) -> str:
    title, unit = named.title[:1].upper() + named.title[1:], named.unit
    if first is None or second is None:
        there = "available for the second run only" if first is None else "available for the first run only"
        return f"{title}: {there}."
    if came == "same":
        return f"{title}: {_format_figure(first)} {unit}, identical."
    ending = _describe_outcome(came, change, MARGINS.get(named.unit))
    moved = ""
    if change and change.low is not None and change.high is not None:
        places = compute_decimals(change.low, change.high)
        value = format_number(change.value, places)
        plus = "" if value.startswith(MINUS) else "+"
        moved = f", a change of {plus}{value} ({format_interval(change.low, change.high)})"
    return f"{title}: {_format_figure(first)} → {_format_figure(second)} {unit}{moved}; {ending}."


def _describe_outcome(came: ReproductionOutcome, change: Estimate | None, margin: float | None) -> str:
    if margin is None:
        return "no margin is defined"
    limit = format_point_value(margin)
    if came == "within":
        return f"within the margin of {limit}"
    if came == "outside":
        return f"outside the margin of {limit}"
    if change is None or change.low is None:
        return "no confidence interval"
    return f"inconclusive for the margin of {limit} with {plural(change.n, 'row')}"


def _format_figure(figure: RunFigure) -> str:
    return format_estimate(_to_estimate(figure))


# Comparison with the original: settings, rows, losses by step, and the final figures.
#
# Losses of the same step count as equal if they differ by at most LOSS_TOLERANCE nats: this is the effect of
# another summation order on another processor, and far less than that of another seed or learning rate. Final
# figures are compared by the equivalence test (`compare_figures`): they count as the same within their
# margin.

RUN_SPECIFIC_FIELDS = {  # names of a repetition and of its local inputs
    "name", "notes", "parent", "dataset", "model", "replay_dataset", "probe_datasets",
}  # fmt: skip
CURVES: tuple[tuple[Literal["train/loss", "eval/loss"], str], ...] = (
    ("train/loss", "Training loss"),
    ("eval/loss", "Validation loss"),
)
IS_REPRODUCED = {"same": True, "within": True, "outside": False, "cant_tell": None}
MAX_VALUE = 60  # characters of a setting


def compare_with_original(
    first: RunWithCurves,
    second: RunWithCurves,
    figures: Sequence[ReproducedFigure],
    *,
    split_same: bool | None,
) -> OriginalComparison:
    """Compare the run with its original. split_same: whether each row is in the same part; None if a split no
    longer exists.
    """
    if split_same is None:
        split = _build_line("Split", "–", "–", None, "The split of one of the runs no longer exists.")
    else:
        now = "same rows" if split_same else "different rows"
        split = _build_line("Split", "same rows", now, split_same)
    lines = [
        *_compare_settings(first.config, second.config),
        *_compare_facts(first, second),
        split,
        *(_compare_curves(title, first.curves[name], second.curves[name]) for name, title in CURVES),
        *map(_build_figure_line, figures),
    ]
    return OriginalComparison(
        run_id=first.run_id,
        name=first.name,
        sentence=_describe_comparison(first.name, lines),
        lines=lines,
    )


def _build_line(what: str, first: str, second: str, same: bool | None, detail: str = "") -> ComparisonLine:
    return ComparisonLine(what=what, first=first, second=second, same=same, detail=detail)


def _compare_settings(first: dict[str, object], second: dict[str, object]) -> Iterator[ComparisonLine]:
    """Yield one line for all equal settings, and one for each that differs."""
    names = [name for name in dict.fromkeys([*first, *second]) if name not in RUN_SPECIFIC_FIELDS]
    differing = [name for name in names if first.get(name) != second.get(name)]
    if same := len(names) - len(differing):
        yield _build_line("Settings", plural(same, "setting"), plural(same, "setting"), True)
    for name in differing:
        yield _build_line(
            f"Setting {name}", _format_setting(first.get(name)), _format_setting(second.get(name)), False
        )


def _compare_facts(first: RunWithCurves, second: RunWithCurves) -> Iterator[ComparisonLine]:
    ours, theirs = first.facts, second.facts
    for title, key in (("Rows (fingerprint)", "data_fingerprint"), ("Precision", "dtype")):
        if key in ours and key in theirs:
            same = ours[key] == theirs[key]
            yield _build_line(title, _format_setting(ours[key])[:12], _format_setting(theirs[key])[:12], same)
    for title, key in (("Rows per split", "rows"), ("Base model", "base")):
        if key in ours and key in theirs:
            same = ours[key] == theirs[key]
            yield _build_line(title, _format_named_value(ours[key]), _format_named_value(theirs[key]), same)
    before, now = _read_run_length(ours), _read_run_length(theirs)
    if before and now:
        reasons = f"{before.reason} and {now.reason}".replace("_", " ")
        ended = "" if before.reason == now.reason else f"The runs ended for different reasons: {reasons}."
        yield _build_line("Steps", before.in_words(), now.in_words(), before == now, ended)


class _RunLength(NamedTuple):
    """Length of a run, and why it ended. kept: the step whose weights it has."""

    kept: int
    last: int
    reason: TrainingEnd

    def in_words(self) -> str:
        kept = "" if self.kept == self.last else f", weights of step {self.kept:,}"
        return f"{plural(self.last, 'step')}{kept}"


def _read_run_length(facts: dict[str, Any]) -> _RunLength | None:
    """Read the run's length; older runs have no `course`, but the step at which they stopped."""
    if course := facts.get("course"):
        return _RunLength(course["step"], course["last_step"], course["reason"])
    if stopped := facts.get("stopped"):
        last, kept = stopped["step"], stopped["restored_step"]
        return _RunLength(last if kept is None else kept, last, stopped["reason"])
    return None


def _format_named_value(value: dict[str, Any]) -> str:
    """Format rows as "train 60, test 10", a base model as its name and commit."""
    if "name" in value:
        return f"{value['name']} {(value.get('revision') or '')[:12]}".strip()
    return ", ".join(f"{name} {count:,}" for name, count in value.items())


def _format_setting(value: Any) -> str:
    text = "not set" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _compare_curves(title: str, first: LossCurve, second: LossCurve) -> ComparisonLine:
    """Compare by step. detail: the first step at which they diverge, and the largest difference."""
    ends = (_describe_end(first), _describe_end(second))
    if not first.steps or not second.steps:
        return _build_line(title, *ends, None, "Not available for one of the runs.")
    if first.steps != second.steps:
        return _build_line(title, *ends, False, "Measured at different steps.")
    triples = zip(first.steps, first.values, second.values, strict=True)
    apart = [(step, _compute_distance(a, b)) for step, a, b in triples]
    far_step, furthest = max(apart, key=lambda pair: pair[1])
    if furthest == 0:
        return _build_line(title, *ends, True, "Identical at every step.")
    beyond = next((step for step, distance in apart if distance > LOSS_TOLERANCE), None)
    most = "not finite in one of the runs" if furthest == float("inf") else f"{furthest:.2g} nats apart"
    if beyond is None:
        detail = f"At most {most} (step {far_step:,}), within {LOSS_TOLERANCE:g}."
        return _build_line(title, *ends, True, detail)
    detail = (
        f"More than {LOSS_TOLERANCE:g} nats apart from step {beyond:,}; largest at step {far_step:,}: {most}."
    )
    return _build_line(title, *ends, False, detail)


def _compute_distance(first: float | None, second: float | None) -> float:
    if first is None or second is None:
        return 0.0 if first is second else float("inf")
    return abs(first - second)


def _describe_end(curve: LossCurve) -> str:
    if not curve.steps:
        return "–"
    last = curve.values[-1]
    return f"{len(curve.steps):,}, last {'not finite' if last is None else f'{last:.4f}'}"


def _build_figure_line(figure: ReproducedFigure) -> ComparisonLine:
    first, second = (format_estimate(each) if each else "–" for each in (figure.first, figure.second))
    same = IS_REPRODUCED[figure.came]
    detail = "Identical." if figure.came == "same" else ""
    return _build_line(format_figure_title(figure), first, second, same, detail)


def _describe_comparison(name: str, lines: Sequence[ComparisonLine]) -> str:
    """Summarize the comparison in one sentence."""
    differing = [line.what for line in lines if line.same is False]
    untold = sum(line.same is None for line in lines)
    rest = f" {untold:,} inconclusive." if untold else ""
    if not differing:
        count = f"{len(lines) - untold:,} of {len(lines):,} items"
        return f"Matches the original run {name} in {count}.{rest}"
    named = "; ".join(differing[:3]) + ("; …" if len(differing) > 3 else "")
    count = f"{len(differing):,} of {len(lines):,} items"
    return f"Differs from the original run {name} in {count}: {named}.{rest}"
