"""Select the runs that can share one trade-off plot, account for the others, and compare pairs of them on
the rows and items on which both were measured.

Runs share a plot if both axes mean the same: the same base model (another tokenizer has other tokens, and
another model has other things to forget) and a gain over it in nats per token. Every excluded run is counted
under its reason. Pairs are compared on common items, because intervals of single runs overlap far more often
than the interval of their difference includes 0.
"""

from __future__ import annotations

import functools
import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import streamlit as st
from numpy.typing import NDArray

from engine.evaluation.comparison import pareto, run_comparison
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.statistics.proportions import estimate_paired_change
from engine.evaluation.verdicts import paired_measurements
from engine.evaluation.verdicts.forgetting import THRESHOLDS, determine_state
from pages.shared.session import get_client
from store.core.errors import QueryError
from store.core.figure_schemas import Estimate, Gain
from store.core.formatting import format_setting, plural
from store.evaluation import scored_rows
from store.evaluation import scored_rows as stored_probes
from store.evaluation.forgetting_schemas import ColourLimits
from store.runs.schemas import MeasuredMix, RunCosts
from store.training.methods import METHODS

UNIT = "nats a token"


@dataclass(frozen=True)
class Measure:
    """A measure of forgetting; multiplied by `scale`, more is worse."""

    title: str
    axis: str
    unit: str
    scale: float = 1
    limits: Literal["nats", "share", ""] = (
        ""  # kind of THRESHOLDS; a distance has none, because change is intended
    )
    items: str = ""


MEASURES = {
    "prose": Measure(
        "Plain prose", "Rise of the loss on plain prose (nats a token)", UNIT, 1, "nats", "passage"
    ),
    "answers": Measure(
        "Questions", "Fall of accuracy on questions (points)", "points", -100, "share", "question"
    ),
    "kl": Measure(
        "Distance (KL)", "KL from the base model on its own texts (nats a token)", UNIT, items="sample"
    ),
}


def find_measure(name: str) -> Measure:
    """Return one of MEASURES, or that of a user's probe such as "data/Notes/loss" or "task/piqa/accuracy"."""
    if name in MEASURES:
        return MEASURES[name]
    probe, _, figure = name.rpartition("/")
    title, unit = paired_measurements.format_probe_title(probe), paired_measurements.format_item_name(probe)
    escaped = html.escape(title)
    if figure == "accuracy":
        return Measure(title, f"Fall of accuracy on {escaped} (points)", "points", -100, "share", unit)
    return Measure(title, f"Rise of the loss on {escaped} (nats a token)", UNIT, 1, "nats", unit)


@dataclass(frozen=True)
class Point:
    """A run on the plot.

    cost: more is worse; status: from `pareto.compute_front`; behind: names of runs on the front that gain as
    much and forget as little; state: of the cost by its thresholds.
    """

    row: RunCosts
    gain: Gain
    cost: Estimate
    status: str
    behind: tuple[str, ...]
    state: str

    @property
    def method(self) -> str:
        return format_method(self.row)

    @property
    def rate(self) -> float | None:
        return self.row.learning_rate

    @property
    def label(self) -> str:
        """Number and name."""
        return format_run_label(self.row)


@dataclass(frozen=True)
class InterpolationPoint:
    """A model between a run and its base on the plot. cost: more is worse."""

    run_id: str
    number: int  # of the run, as is its name
    name: str
    alpha: float
    gain: Estimate
    cost: Estimate

    @property
    def label(self) -> str:
        """Number and name of its run."""
        return f"#{self.number} {self.name}"


PlotPoint = Point | InterpolationPoint


def format_run_label(row: RunCosts) -> str:
    """Format number and name of a run."""
    return f"#{row.number} {row.name}"


def format_method(row: RunCosts) -> str:
    """Return the title of the run's method."""
    method = METHODS.get(row.method)
    return method.title if method else str(row.method)


def get_color_limits(measure: str) -> ColourLimits | None:
    """Return the thresholds of amber and red in the unit of the axis; None if the measure has none."""
    what = find_measure(measure)
    if not what.limits:
        return None
    levels = THRESHOLDS.share if what.limits == "share" else THRESHOLDS.nats
    return ColourLimits(amber=abs(what.scale) * levels.amber, red=abs(what.scale) * levels.red)


def get_forgetting_figures(row: RunCosts | MeasuredMix) -> dict[str, Estimate | None]:
    """Return the forgetting by each of MEASURES."""
    return {"prose": row.prose, "answers": row.answers, "kl": row.kl}


def get_cost(row: RunCosts | MeasuredMix, measure: str) -> Estimate | None:
    """Return the run's forgetting, more is worse; None if it was not measured or is not a number."""
    return convert_to_cost(get_forgetting_figures(row).get(measure), measure)


def convert_to_cost(figure: Estimate | None, measure: str) -> Estimate | None:
    """Convert a figure to a cost, more is worse; None if it was not measured or is not a number."""
    scale = find_measure(measure).scale
    if not figure or not isinstance(figure.value, int | float):
        return None
    low, high = (None if end is None else scale * end for end in (figure.low, figure.high))
    if scale < 0:
        low, high = high, low
    return Estimate(value=scale * figure.value, low=low, high=high, n=figure.n)


def describe_exclusion(row: RunCosts, measure: str) -> str:
    """Describe why a run is not on the plot, as the end of "3 runs …"; "" if it is."""
    if row.task == "classification":
        return "with a classification head (a gain in nats a row; nothing to ask it)"
    if row.task == "dpo":
        return "of preference tuning (a gain in nats a pair)"
    if row.init_from:
        return "continuing an earlier run, which it is judged against"
    if not row.gain or not isinstance(row.gain.value, int | float):
        return "whose loss is not a number"
    if row.gain.unit != UNIT:
        return "with a gain in another unit"
    if get_cost(row, measure) is None:
        name = MEASURES[measure].title
        return f"without a figure for “{name}” (from before there were probes, or with probes switched off)"
    return ""


def split_plottable(rows: Sequence[RunCosts], measure: str) -> tuple[list[RunCosts], Counter[str]]:
    """Return the runs that can be drawn, and the number of others by reason."""
    reasons = [describe_exclusion(row, measure) for row in rows]
    drawable = [row for row, why in zip(rows, reasons, strict=True) if not why]
    return drawable, Counter(why for why in reasons if why)


def describe_excluded_runs(drawn: int, total: int, reasons: Counter[str]) -> str:
    """Describe how many runs are drawn, and why others are not."""
    sentence = f"{drawn:,} of {plural(total, 'finished run')}."
    if not reasons:
        return sentence
    parts = [f"{plural(count, 'run')} {why}" for why, count in reasons.most_common()]
    return f"{sentence} Left out: {'; '.join(parts)}."


def build_pareto_run(row: RunCosts, measure: str, group: str = "") -> pareto.RunPoint:
    """Convert the run to the format of `pareto`."""
    cost = get_cost(row, measure)
    return {
        "run": row.run_id,
        "group": group,
        "setting": row.learning_rate or 0.0,
        "gain": _build_point_figure(row.gain) if row.gain else {},
        "forgetting": _build_point_figure(cost) if cost else {},
    }


def _build_point_figure(figure: Estimate | Gain) -> pareto.PointFigure:
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def build_points(
    rows: Sequence[RunCosts], measure: str, pair: pareto.PairedDifference = pareto.get_no_paired_difference
) -> list[Point]:
    """Build the points of measured runs in the given order, with their place relative to the front.

    Each data set has its own front. `pair`: differences of two runs measured on the same items.
    """
    labels = {row.run_id: format_run_label(row) for row in rows}
    placed: list[Point] = []
    places: dict[str, pareto.FrontPlace] = {}
    for dataset_id in dict.fromkeys(row.dataset_id for row in rows):
        mine = [build_pareto_run(row, measure) for row in rows if row.dataset_id == dataset_id]
        places |= {place["run"]: place for place in pareto.compute_front(mine, pair)}
    for row in rows:
        gain, cost = row.gain, get_cost(row, measure)
        if gain and cost:
            place = places[row.run_id]
            behind = tuple(labels[run_id] for run_id in place["dominated_by"])
            placed.append(Point(row, gain, cost, place["status"], behind, _classify_cost(cost, measure)))
    return placed


def _classify_cost(cost: Estimate, measure: str) -> str:
    kind = find_measure(measure).limits
    if not kind:
        return ""
    scale = abs(find_measure(measure).scale)
    low, high = (None if end is None else end / scale for end in (cost.low, cost.high))
    return determine_state(low, high, kind)


def find_cheapest(runs: Sequence[Point]) -> Point | None:
    """Return the run with the highest gain among those with a significant gain and no material forgetting."""
    free = [p for p in runs if p.state == "none" and p.gain.low is not None and p.gain.low > 0]
    return max(free, key=lambda p: (p.gain.value, -p.cost.value)) if free else None


def format_rate(row: RunCosts) -> str:
    """Format the learning rate, or a dash for a run without one."""
    return format_setting(row.learning_rate) if row.learning_rate else "–"


PROBES = {
    "prose": paired_measurements.PROSE,
    "answers": paired_measurements.CHOICES,
    "kl": paired_measurements.OWN_SAMPLES,
}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredItems:
    """The items a run was measured on, in order, each with its tokens and a value (summed nats, or
    correctness).
    """

    items: NDArray[np.generic]
    tokens: Array
    values: Array


class RunPairs:
    """Paired differences of runs on the plot, in gain and in forgetting by `measure`; results are cached."""

    def __init__(self, rows: Sequence[RunCosts], measure: str) -> None:
        self.measure, self.rows = measure, {row.run_id: row for row in rows}
        self.differences: dict[tuple[str, str, pareto.Axis], Interval | None] = {}

    @functools.cached_property
    def losses(self) -> Mapping[tuple[str, ...], MeasuredItems]:
        """(run, split) -> its held-out rows."""
        return _read_losses(tuple(self.rows))

    @functools.cached_property
    def probed(self) -> Mapping[str, MeasuredItems]:
        """run -> its results on the probe."""
        return _read_probe_items(tuple(self.rows), PROBES[self.measure]) if self.measure in PROBES else {}

    def __call__(self, run: str, other: str, axis: pareto.Axis) -> Interval | None:
        """Return gain (more is better) or forgetting (less is better) of `run` minus that of `other`.

        It is in the units of the plot; None if the two cannot be paired.
        """
        if (run, other, axis) not in self.differences:
            compare = self._gain if axis == "gain" else self._forgetting
            self.differences[run, other, axis] = compare(run, other)
        return self.differences[run, other, axis]

    def _gain(self, first: str, second: str) -> Interval | None:
        here, there = self.rows[first], self.rows[second]
        if not here.data_fingerprint or here.data_fingerprint != there.data_fingerprint:
            return None
        gains = (here.gain, there.gain)
        splits = [gain.split if gain and gain.split is not None else "" for gain in gains]
        if splits[0] != splits[1]:
            return None
        shared = _align_items(self.losses.get((first, splits[0])), self.losses.get((second, splits[1])))
        return (
            run_comparison.compare_runs(first, second, run_comparison.SharedRows(*shared)).interval
            if shared
            else None
        )

    def _forgetting(self, run: str, other: str) -> Interval | None:
        shared = _align_items(self.probed.get(run), self.probed.get(other))
        if shared is None:
            return None
        first, second, tokens = shared
        if self.measure != "answers":  # a lower loss means less forgetting
            return run_comparison.compare_runs(
                other, run, run_comparison.SharedRows(second, first, tokens)
            ).interval
        more_lost = estimate_paired_change(
            int((first > second).sum()), int((second > first).sum()), len(first)
        )
        scale = abs(MEASURES[self.measure].scale)
        ends = (more_lost.low, more_lost.high, more_lost.se)
        low, high, se = (None if end is None else scale * end for end in ends)
        return Interval(scale * more_lost.value, low, high, more_lost.n, se, why=more_lost.why)


def _align_items(run: MeasuredItems | None, other: MeasuredItems | None) -> tuple[Array, Array, Array] | None:
    """Return values of both and tokens on common items.

    None if there are none, if they were tokenized differently, or if a value is not finite.
    """
    if run is None or other is None:
        return None
    _, here, there = np.intersect1d(run.items, other.items, assume_unique=True, return_indices=True)
    if not len(here) or not np.array_equal(run.tokens[here], other.tokens[there]):
        return None
    first, second = run.values[here], other.values[there]
    return (first, second, run.tokens[here]) if np.isfinite(first + second).all() else None


@st.cache_resource(ttl=600, max_entries=8, show_spinner=False)
def build_run_pairs(run_ids: tuple[str, ...], measure: str, _rows: Sequence[RunCosts]) -> RunPairs:
    """Return the cached pairs of these runs."""
    return RunPairs(_rows, measure)


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing row by row …")
def _read_losses(run_ids: tuple[str, ...]) -> dict[tuple[str, ...], MeasuredItems]:
    """Return (run, split) -> held-out rows, without runs whose file is missing."""
    try:
        table = scored_rows.losses_of_runs(get_client(), run_ids)
    except QueryError:
        return {}
    return dict(_iterate_items(table, ("run_id", "split"), "row_id", "tuned_loss"))


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing item by item …")
def _read_probe_items(run_ids: tuple[str, ...], probe: str) -> dict[str, MeasuredItems]:
    """Return run -> results on the probe, without runs whose file is missing."""
    try:
        table = stored_probes.probes_of_runs(get_client(), run_ids, probe)
    except QueryError:
        return {}
    value = "correct" if probe == paired_measurements.CHOICES else "loss_sum"
    return {run: measured for (run,), measured in _iterate_items(table, ("run_id",), "item", value)}


def _iterate_items(
    table: pa.Table, keys: Sequence[str], item: str, value: str
) -> Iterator[tuple[tuple[str, ...], MeasuredItems]]:
    """Yield the items of each combination of keys."""
    if not table.num_rows:
        return
    items = np.array(table[item].to_pylist())
    tokens, values = (table[name].to_numpy().astype(np.float64) for name in ("tokens", value))
    groups, group_of = np.unique(
        np.array([table[key].to_pylist() for key in keys], str), axis=1, return_inverse=True
    )
    order = np.argsort(group_of.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(group_of.ravel()[order], prepend=-1))
    for group, rows in zip(groups.T, np.split(order, starts[1:]), strict=True):
        yield tuple(map(str, group)), MeasuredItems(items[rows], tokens[rows], values[rows])
