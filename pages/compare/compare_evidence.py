"""Which of the compared runs are surely better: gains with their intervals, and paired differences.

Gains of two runs overlap far more often than their difference includes 0, because both saw the same rows.
So runs are told apart by the paired bootstrap on the rows that both held out, never by their intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from engine.diagnostics.comparison.comparison import RunDifference, SharedRows, difference, pairs
from pages.compare import compare_seeds
from pages.run_parts import run_reads
from pages.shared import charts, palette, wording
from pages.shared.session import plain
from store.contract.errors import QueryError
from store.documents.tables.run import Run
from store.documents.verdicts.forgetting import UnitEstimate
from store.queries.runs.runs import repeated


@dataclass(frozen=True)
class PairedRuns:
    """Two runs to be told apart on their shared held-out rows, in the unit of their loss."""

    run_ids: tuple[str, str]
    names: tuple[str, str]
    split: str  # whose rows judged both
    unit: str
    comparisons: int  # that the interval is widened for


def judged_of(runs: Sequence[Run]) -> list[Run]:
    """The runs that have a verdict with a gain."""
    return [run for run in runs if run["verdict"] and run["verdict"]["gain"]]


def draw_evidence(runs: Sequence[Run]) -> None:
    """The gains on one axis, what of them is the question's on another, and a sentence for each comparison
    with the best run."""
    judged = judged_of(runs)
    if not judged:
        st.caption(f"{' '.join(without_gain(runs))} Their curves can be compared all the same.")
        return
    with st.container(border=True):
        heads = any(run["config"].get("task") == "classification" for run in judged)
        other = " (of classifiers over the most frequent class)" if heads else ""
        st.markdown(f"**Gain over the base model{other} on held-out rows** (right is better)")
        _draw_estimates(judged, {run["run_id"]: compare_seeds.gain_of(run) for run in judged}, "gains")
        _draw_questions(judged)
        comparisons = differences(judged)
        for comparison in comparisons:
            icon = ":material/check_circle:" if comparison.separated else ":material/help:"
            icon = ":material/block:" if comparison.interval is None else icon
            st.markdown(f"{icon} {plain(comparison.sentence)}")
        if len(comparisons) > 1:
            st.caption(
                f"Each against the best of {len(comparisons) + 1}. Any could have come out best, so"
                f" that intervals are widened for all {pairs(len(comparisons) + 1)} pairs"
                " (Bonferroni): the chance of any false difference stays at 5%."
            )
        compare_seeds.draw_seeds(by_settings(judged), labels(judged))
        for sentence in without_gain(runs):
            st.caption(sentence)


def without_gain(runs: Sequence[Run]) -> list[str]:
    """Sentences on the runs that are not compared: without a verdict, or with one on a broken model."""
    names = labels(runs)
    unjudged = [run for run in runs if not run["verdict"]]
    broken = [run for run in runs if run["verdict"] and not run["verdict"]["gain"]]
    sentences = [
        f"{plain(names[run['run_id']])} has no gain to compare: its loss is not a number." for run in broken
    ]
    if len(unjudged) == len(runs):
        sentences.append(
            "None of these runs has a verdict yet." if len(runs) > 1 else "It has no verdict yet."
        )
    elif unjudged:
        sentences.append(f"{len(runs) - len(unjudged)} of {len(runs)} runs have a verdict.")
    return sentences


def _draw_questions(judged: Sequence[Run]) -> None:
    """What of each gain is the question's: a run on shuffled labels gains as much as one on true ones."""
    parts = {run["run_id"]: run["verdict"]["parts"] for run in judged if run["verdict"]}
    measured: dict[str, UnitEstimate] = {
        run_id: {**part["question"], "unit": part["unit"]} for run_id, part in parts.items() if part
    }
    if not measured:
        return
    st.markdown("**Of it from the question**: what a row's own prompt adds (right is better)")
    _draw_estimates([run for run in judged if run["run_id"] in measured], measured, "questions")
    if missing := [plain(name) for run_id, name in labels(judged).items() if run_id not in measured]:
        st.caption(f"Not measured for {', '.join(missing)}.")


def _draw_estimates(runs: Sequence[Run], estimates: Mapping[str, UnitEstimate], which: str) -> None:
    """An interval a run on one axis, the largest first."""
    names, counts = labels(runs), {estimate["n"] for estimate in estimates.values()}
    rows = []
    for run in sorted(runs, key=lambda run: -estimates[run["run_id"]]["value"]):
        estimate = estimates[run["run_id"]]
        name = names[run["run_id"]] + (f", n {estimate['n']:,}" if len(counts) > 1 else "")
        ink = palette.run_color(run["number"])
        rows.append(charts.IntervalRow(name, estimate["value"], estimate["low"], estimate["high"], ink))
    shared = f", n {counts.pop():,}" if len(counts) == 1 else ""
    units = {estimate["unit"] for estimate in estimates.values()}
    unit = units.pop().capitalize() if len(units) == 1 else "Each in the unit of its loss"
    figure = charts.interval_chart(rows, f"{unit}, 95% interval{shared}")
    best = f"{rows[0].name}: {wording.signed(rows[0].value, 3)}"
    st.plotly_chart(
        figure,
        key=f"compare-{which}",
        config={"displayModeBar": False},
        alt=f"{which.capitalize()}; the largest is {best}",
    )


def labels(runs: Sequence[Run]) -> dict[str, str]:
    """run_id -> its name, with its number where another run here has the same name."""
    names = [run["name"] for run in runs]
    return {
        run["run_id"]: f"{run['name']} #{run['number']}" if names.count(run["name"]) > 1 else run["name"]
        for run in runs
    }


def differences(judged: Sequence[Run]) -> list[RunDifference]:
    """Each against the one with the lowest held-out loss, over the rows that both held out: settings where
    some were run with several seeds, else runs."""
    groups = by_settings(judged)
    if len(groups) < 2:
        return []
    if len(groups) < len(judged):
        return compare_seeds.differences(groups, labels(judged))
    names = labels(judged)
    best, *others = groups
    return [_difference(best[0], other[0], names, pairs(len(groups))) for other in others]


def by_settings(judged: Sequence[Run]) -> list[list[Run]]:
    """The runs by their settings, the lowest mean held-out loss first."""
    return sorted(repeated(judged), key=lambda group: sum(map(_tuned_loss, group)) / len(group))


def _tuned_loss(run: Run) -> float:
    loss = run["verdict"] and run["verdict"]["tuned"]["loss"]
    return float("inf") if loss is None else float(loss)


def _difference(best: Run, other: Run, names: dict[str, str], comparisons: int) -> RunDifference:
    """Why they can't be compared, or by how much they differ."""
    pair = (names[best["run_id"]], names[other["run_id"]])
    if reason := compare_seeds.apart(best, other):
        return RunDifference(*pair, None, reason)
    gain = compare_seeds.gain_of(best)
    run_ids = (best["run_id"], other["run_id"])
    return _paired(PairedRuns(run_ids, pair, gain["split"], gain["unit"], comparisons))


@st.cache_data(ttl=600, max_entries=128, show_spinner="Comparing row by row …")
def _paired(runs: PairedRuns) -> RunDifference:
    try:
        rows = run_reads.shared_rows(*runs.run_ids, runs.split)
    except QueryError:
        return RunDifference(*runs.names, None, "the losses of single rows of one of them are not there")
    if not all(rows["same_tokens"].to_pylist()):
        return RunDifference(*runs.names, None, "they count the tokens of the same rows differently")
    columns = [np.asarray(rows[column].to_numpy()) for column in ("first_loss", "second_loss", "tokens")]
    return difference(*runs.names, SharedRows(*columns), comparisons=runs.comparisons, unit=runs.unit)
