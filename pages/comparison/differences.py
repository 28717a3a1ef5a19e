"""Significant differences between the compared runs: gains with intervals, paired differences, settings
averaged over seeds, and classifiers by the rows they get right.

Runs are compared by a paired bootstrap on the rows that both held out, never by whether their intervals
overlap: because both saw the same rows, intervals of gains overlap far more often than the interval of the
difference includes 0.

Of two runs with the same settings one is nearly always significantly better on the same rows, which is
chance. They are therefore never called different; settings are compared by their repetitions with several
seeds (`engine.evaluation.comparison.run_comparison`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import (
    RunDifference,
    SharedRows,
    compare_runs,
    count_run_pairs,
    find_incomparability,
    require_gain,
)
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.statistics.proportions import estimate_paired_change
from pages.shared import charts, display, palette, run_queries
from pages.shared.session import escape_markdown, has_right, send_command
from store.core import formatting
from store.core.errors import QueryError
from store.core.figure_schemas import UnitEstimate
from store.core.job_kinds import ALIVE
from store.evaluation.schemas import Classification
from store.runs.runs import group_repetitions, make_settings_key
from store.runs.schemas import Run

Runs = list[Run]
Losses = list[NDArray[np.float64]]  # one array per setting, [runs, rows]


def compare_settings(groups: Sequence[Runs], names: dict[str, str]) -> list[RunDifference]:
    """Compare each setting with the first one, which has the lowest loss, considering rows and seeds."""
    best, *others = groups
    comparable = [group for group in others if not find_incomparability(best[0], group[0])]
    losses, tokens, missing = _read_losses([best, *comparable])
    by_seed = None if missing else run_comparison.estimate_seed_spread(losses, tokens)
    comparisons = []
    for group in others:
        pair = (_format_title(best, names), _format_title(group, names))
        reason = find_incomparability(best[0], group[0]) or missing
        if not reason and by_seed is None:
            reason = "neither setting was run with a second seed"
        if reason or by_seed is None:
            comparisons.append(RunDifference(*pair, None, reason))
            continue
        rows = losses[1 + comparable.index(group)]
        interval = run_comparison.compare_settings(
            losses[0], rows, tokens, by_seed, confidence=1 - 0.05 / count_run_pairs(len(groups))
        )
        comparisons.append(RunDifference(*pair, interval, unit=require_gain(best[0]).unit))
    return comparisons


def _format_title(group: Runs, names: dict[str, str]) -> str:
    name = names[group[0].run_id]
    return name if len(group) == 1 else f"{name} ({len(group)} seeds)"


def draw_seeds(groups: Sequence[Runs], names: dict[str, str]) -> None:
    """Draw the effect of the seed if it is known, else a button to measure it."""
    several = [group for group in groups if len(group) > 1]
    for group in several:
        st.markdown(f":material/casino: {escape_markdown(_describe_seed_noise(group, names))}")
    if several:
        st.caption("Intervals count what the seeds do, as pooled over the settings that were repeated.")
    elif len(groups) > 1:
        st.caption(
            "One run of each: this compares these two models. Whether their settings differ by more than"
            " chance needs another seed of each."
        )
        _draw_reseed_button(groups)


def _describe_seed_noise(group: Runs, names: dict[str, str]) -> str:
    names_said = ", ".join(names[run.run_id] for run in group[:-1]) + f" and {names[group[-1].run_id]}"
    losses, tokens, missing = _read_losses([group])
    by_seed = None if missing else run_comparison.estimate_seed_spread(losses, tokens)
    if by_seed is None:
        return f"{names_said} differ only in their seed, but {missing or 'there is no loss'}."
    means = losses[0].sum(axis=1) / tokens.sum()
    unit = require_gain(group[0]).unit
    width = formatting.format_number(float(np.ptp(means)), 3)
    between = f"{width} {unit} on {formatting.plural(len(tokens), 'held-out row')}"
    return f"{names_said} differ only in their seed, by {between}: that is chance, not a better setting."


def _draw_reseed_button(groups: Sequence[Runs]) -> None:
    """Draw a button that repeats each run with the next seed."""
    runs = [group[0] for group in groups]
    if any(run.status in ALIVE for run in runs):
        return
    seconds = [run.facts.get("run_seconds") for run in runs]
    took = f", about {display.format_duration(sum(filter(None, seconds)))}" if all(seconds) else ""
    if has_right("work") and st.button(
        f"Repeat each with another seed{took}", icon=":material/casino:", key="compare-repeat"
    ):
        launched = [send_command("launch", build_reseeded_config(run)) for run in runs]
        if all(launched):
            link = ",".join(
                [run.run_id for run in runs] + [answer["run_id"] for answer in launched if answer]
            )
            st.switch_page("pages/comparison/compare.py", query_params={"runs": link})


def build_reseeded_config(run: Run) -> dict[str, Any]:
    """Return the config of a run with the next seed."""
    seed = int(run.config.get("seed") or 0) + 1
    return run.config | {"seed": seed, "name": f"{run.name[:100]}, seed {seed}"}


def _read_losses(groups: Sequence[Runs]) -> tuple[Losses, NDArray[np.float64], str]:
    """Return the summed losses of the common held-out rows by setting, and the rows' tokens.

    The third value is the reason why there are none, or "".
    """
    first = groups[0][0]
    split = require_gain(first).split
    none = np.zeros(0)
    try:
        tables = [
            run_queries.read_shared_rows(first.run_id, run.run_id, split) for group in groups for run in group
        ]
    except QueryError:
        return [], none, "the losses of single rows of one of them are not there"
    if not all(all(table["same_tokens"].to_pylist()) for table in tables):
        return [], none, "they count the tokens of the same rows differently"
    ids = [table["row_id"].to_numpy() for table in tables]
    shared = functools.reduce(np.intersect1d, ids)
    if not len(shared):
        return [], none, "they held out no row in common"
    rows = np.array(
        [
            table["second_loss"].to_numpy()[np.isin(own, shared)]
            for table, own in zip(tables, ids, strict=True)
        ]
    )
    if not np.isfinite(rows).all():
        return [], none, "a loss is not a number"
    tokens = tables[0]["tokens"].to_numpy()[np.isin(ids[0], shared)].astype(np.float64)
    return np.split(rows, np.cumsum([len(group) for group in groups])[:-1]), tokens, ""


@dataclass(frozen=True)
class PairedRuns:
    """Two runs to compare on their common held-out rows, in the unit of their loss."""

    run_ids: tuple[str, str]
    names: tuple[str, str]
    split: str  # the split on which both were evaluated
    unit: str
    comparisons: int  # number of comparisons the interval is corrected for


def list_runs_with_gain(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have a verdict with a gain."""
    return [run for run in runs if run.verdict and run.verdict.gain]


def draw_gain_comparison(runs: Sequence[Run]) -> None:
    """Draw gains, gains from the question, and a sentence for each comparison with the best run."""
    judged = list_runs_with_gain(runs)
    if not judged:
        st.caption(f"{' '.join(describe_runs_without_gain(runs))} Their curves can be compared all the same.")
        return
    with st.container(border=True):
        heads = any(run.config.get("task") == "classification" for run in judged)
        other = " (of classifiers over the most frequent class)" if heads else ""
        st.markdown(f"**Gain over the base model{other} on held-out rows** (right is better)")
        _draw_estimates(judged, {run.run_id: require_gain(run) for run in judged}, "gains")
        _draw_questions(judged)
        comparisons = compare_with_best(judged)
        for comparison in comparisons:
            icon = ":material/check_circle:" if comparison.separated else ":material/help:"
            icon = ":material/block:" if comparison.interval is None else icon
            st.markdown(f"{icon} {escape_markdown(comparison.sentence)}")
        if len(comparisons) > 1:
            st.caption(
                f"Each against the best of {len(comparisons) + 1}. Any could have come out best, so"
                f" that intervals are widened for all {count_run_pairs(len(comparisons) + 1)} pairs"
                " (Bonferroni): the chance of any false difference stays at 5%."
            )
        draw_seeds(group_by_settings(judged), build_run_labels(judged))
        for sentence in describe_runs_without_gain(runs):
            st.caption(sentence)


def describe_runs_without_gain(runs: Sequence[Run]) -> list[str]:
    """Describe runs that are not compared: without a verdict, or with the verdict of a broken model."""
    names = build_run_labels(runs)
    unjudged = [run for run in runs if not run.verdict]
    broken = [run for run in runs if run.verdict and not run.verdict.gain]
    sentences = [
        f"{escape_markdown(names[run.run_id])} has no gain to compare: its loss is not a number."
        for run in broken
    ]
    if len(unjudged) == len(runs):
        sentences.append(
            "None of these runs has a verdict yet." if len(runs) > 1 else "It has no verdict yet."
        )
    elif unjudged:
        sentences.append(f"{len(runs) - len(unjudged)} of {len(runs)} runs have a verdict.")
    return sentences


def _draw_questions(judged: Sequence[Run]) -> None:
    """Draw gains from the question, because a run on shuffled labels gains as much as one on true ones."""
    parts = {run.run_id: run.verdict.parts for run in judged if run.verdict}
    measured: dict[str, UnitEstimate] = {
        run_id: UnitEstimate(**vars(part.question), unit=part.unit) for run_id, part in parts.items() if part
    }
    if not measured:
        return
    st.markdown("**Gain from the question**: what a row's own prompt adds (right is better)")
    _draw_estimates([run for run in judged if run.run_id in measured], measured, "questions")
    if missing := [
        escape_markdown(name) for run_id, name in build_run_labels(judged).items() if run_id not in measured
    ]:
        st.caption(f"Not measured for {', '.join(missing)}.")


def _draw_estimates(runs: Sequence[Run], estimates: Mapping[str, UnitEstimate], which: str) -> None:
    """Plot one interval per run on a common axis, largest value first."""
    names, counts = build_run_labels(runs), {estimate.n for estimate in estimates.values()}
    rows = []
    for run in sorted(runs, key=lambda run: -estimates[run.run_id].value):
        estimate = estimates[run.run_id]
        name = names[run.run_id] + (f", n {estimate.n:,}" if len(counts) > 1 else "")
        ink = palette.get_run_color(run.number)
        rows.append(charts.IntervalRow(name, estimate.value, estimate.low, estimate.high, ink))
    shared = f", n {counts.pop():,}" if len(counts) == 1 else ""
    units = {estimate.unit for estimate in estimates.values()}
    unit = units.pop().capitalize() if len(units) == 1 else "Each in the unit of its loss"
    figure = charts.plot_intervals(rows, f"{unit}, 95% interval{shared}")
    best = f"{rows[0].name}: {display.format_signed(rows[0].value, 3)}"
    st.plotly_chart(
        figure,
        key=f"compare-{which}",
        config={"displayModeBar": False},
        alt=f"{which.capitalize()}; the largest is {best}",
    )


def build_run_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Return run_id -> name, followed by the run's number if another run here has the same name."""
    names = [run.name for run in runs]
    return {
        run.run_id: f"{run.name} #{run.number}" if names.count(run.name) > 1 else run.name for run in runs
    }


def compare_with_best(judged: Sequence[Run]) -> list[RunDifference]:
    """Compare each run with the one with the lowest held-out loss, on their common held-out rows.

    If some settings were run with several seeds, settings are compared instead of runs.
    """
    groups = group_by_settings(judged)
    if len(groups) < 2:
        return []
    if len(groups) < len(judged):
        return compare_settings(groups, build_run_labels(judged))
    names = build_run_labels(judged)
    best, *others = groups
    return [_compare_pair(best[0], other[0], names, count_run_pairs(len(groups))) for other in others]


def group_by_settings(judged: Sequence[Run]) -> list[list[Run]]:
    """Group the runs by settings, lowest mean held-out loss first."""
    return sorted(group_repetitions(judged), key=lambda group: sum(map(_get_tuned_loss, group)) / len(group))


def _get_tuned_loss(run: Run) -> float:
    loss = run.verdict.tuned.loss if run.verdict else None
    return float("inf") if loss is None else float(loss)


def _compare_pair(best: Run, other: Run, names: dict[str, str], comparisons: int) -> RunDifference:
    """Compute how much two runs differ, or why they cannot be compared."""
    pair = (names[best.run_id], names[other.run_id])
    if reason := find_incomparability(best, other):
        return RunDifference(*pair, None, reason)
    gain = require_gain(best)
    run_ids = (best.run_id, other.run_id)
    return _compute_paired_difference(PairedRuns(run_ids, pair, gain.split, gain.unit, comparisons))


@st.cache_data(ttl=600, max_entries=128, show_spinner="Comparing row by row …")
def _compute_paired_difference(runs: PairedRuns) -> RunDifference:
    try:
        rows = run_queries.read_shared_rows(*runs.run_ids, runs.split)
    except QueryError:
        return RunDifference(*runs.names, None, "the losses of single rows of one of them are not there")
    if not all(rows["same_tokens"].to_pylist()):
        return RunDifference(*runs.names, None, "they count the tokens of the same rows differently")
    columns = [np.asarray(rows[column].to_numpy()) for column in ("first_loss", "second_loss", "tokens")]
    return compare_runs(*runs.names, SharedRows(*columns), comparisons=runs.comparisons, unit=runs.unit)


RUNS = ("first", "second")


def draw_accuracy_comparison(runs: Sequence[Run], names: dict[str, str]) -> None:
    """Draw a sentence comparing each classifier with the most accurate one; nothing for fewer than two.

    They are compared in pairs, row by row. Whether a row is correct means the same for a head and for a model
    that answers in words, whose losses are of different kinds.
    """
    judged = [run for run in runs if run.verdict and run.verdict.classification]
    if len(judged) < 2:
        return
    best = max(judged, key=_get_accuracy)
    others = sorted((run for run in judged if run is not best), key=_get_accuracy, reverse=True)
    with st.container(border=True):
        st.markdown("**Accuracy comparison**")
        for other in others:
            interval, sentence = _compare_accuracy(best, other, names, count_run_pairs(len(judged)))
            separated = interval is not None and (interval.above or interval.below)
            icon = ":material/check_circle:" if separated else ":material/help:"
            if interval is not None and make_settings_key(best) == make_settings_key(other):
                icon, sentence = ":material/casino:", _describe_seed_caveat(best, other, names, interval)
            icon = ":material/block:" if interval is None else icon
            st.markdown(f"{icon} {escape_markdown(sentence)}")
        if len(others) > 1:
            st.caption(
                "Any of them could have come out best: intervals are widened for all"
                f" {count_run_pairs(len(judged))} pairs (Bonferroni)."
            )


def _get_accuracy(run: Run) -> float:
    return float(_get_classification(run).models.tuned.accuracy.value)


def _get_classification(run: Run) -> Classification:
    """Return the classification results of a run. Raises ValueError if it has none."""
    classification = run.verdict.classification if run.verdict else None
    if not classification:
        raise ValueError(f"{run.run_id} did not classify rows")
    return classification


def _compare_accuracy(
    best: Run, other: Run, names: dict[str, str], comparisons: int
) -> tuple[Interval | None, str]:
    first, second = names[best.run_id], names[other.run_id]
    split = _get_classification(best).split
    if best.data_fingerprint != other.data_fingerprint:
        return None, f"{first} and {second} can't be compared: they were trained on different data."
    if split != _get_classification(other).split:
        return (
            None,
            f"{first} and {second} can't be compared: one was judged on test rows, one on validation.",
        )
    interval = compute_accuracy_difference(best.run_id, other.run_id, split, 1 - 0.05 / comparisons)
    if interval is None:
        return None, f"{first} and {second} can't be compared: they share no row that both classified."
    return interval, describe_accuracy_gap(first, second, interval)


def _describe_seed_caveat(best: Run, other: Run, names: dict[str, str], gap: Interval) -> str:
    """Describe that the difference of two runs with the same settings is chance."""
    points = formatting.format_number(abs(100 * gap.value), 1)
    first, second = names[best.run_id], names[other.run_id]
    return (
        f"{first} and {second} differ only in their seed, by {points} points of accuracy on"
        f" {formatting.plural(gap.n, 'held-out row')}: that is chance, not a better setting."
    )


def describe_accuracy_gap(first: str, second: str, gap: Interval) -> str:
    """Describe the comparison; `gap`: accuracy of the first minus that of the second on the same rows."""
    rows = formatting.plural(gap.n, "held-out row")
    if gap.low is None or gap.high is None:
        return f"{first} and {second} can't be distinguished on one row."
    places = formatting.compute_decimals(100 * gap.low, 100 * gap.high, default=1)
    bounds = formatting.format_interval(100 * gap.low, 100 * gap.high, places)
    if not gap.above and not gap.below:
        return f"{first} and {second} can't be distinguished on {rows} ({bounds} points of accuracy)."
    amount = formatting.format_number(abs(100 * gap.value), places)
    if gap.below:
        first, second = second, first
        bounds = formatting.format_interval(-100 * gap.high, -100 * gap.low, places)
    return f"{first} is right more often than {second} by {amount} points on {rows} ({bounds})."


@st.cache_data(ttl=600, max_entries=128, show_spinner="Comparing row by row …")
def compute_accuracy_difference(first: str, second: str, split: str, confidence: float) -> Interval | None:
    """Compute the difference of accuracy on common rows; None without such rows."""
    try:
        rows = run_queries.read_shared_classes(first, second, split)
    except QueryError:
        return None
    if not rows.num_rows:
        return None
    first_right, second_right = (np.asarray(rows[f"{run}_right"].to_pylist(), float) for run in RUNS)
    lost, won = int((first_right < second_right).sum()), int((first_right > second_right).sum())
    return estimate_paired_change(lost, won, rows.num_rows, confidence=confidence)
