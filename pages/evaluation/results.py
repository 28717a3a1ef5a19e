"""Results of one evaluation, each figure with its interval and n: overall, by slice, and row by row, worst
first.

Differences between slices are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import streamlit as st

from engine.evaluation.comparison import row_scores
from pages.evaluation import evaluation_queries
from pages.shared import display
from pages.shared.session import escape_markdown, get_client
from pages.shared.text_display import show_text
from store.core import formatting
from store.core.documents import parse_document
from store.core.errors import QueryError
from store.core.figure_schemas import Figure
from store.core.metric_table import METRICS
from store.data.cleaning_text import describe_selected_rows
from store.evaluation import evaluations
from store.evaluation.schemas import ConstraintShare, EvaluatedRow, Evaluation, GeneralFigure, RowScore

SHOWN_REASONS = 3  # maximum number of reasons on a card
TASK = "task/"  # figures of lm-evaluation-harness, over items instead of rows


class BoundedFigure(Protocol):
    """The parts of a figure needed to format it: value, interval, and bounds, which identify a share."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def bounds(self) -> Sequence[float | None]: ...


@dataclass(frozen=True)
class _BoundedEstimate:
    value: float
    low: float | None
    high: float | None
    bounds: tuple[float | None, ...]


def format_metric_title(metric: str, config: Mapping[str, Any]) -> str:
    """Format the title of a metric, with its own name if it was given one."""
    if metric.startswith(TASK):
        task, _, what = metric.removeprefix(TASK).partition("/")
        return f"{task}: {what}" if what else task
    for choice in config["metrics"]:
        described = METRICS.get(choice["metric"])  # None for a metric that no longer exists
        what = described.title if described else str(choice["metric"]).capitalize()
        own = choice.get("name") or choice.get("file") or choice.get("hub_id")
        name = own or choice["metric"]
        if metric.removeprefix("eval/").lower() == str(name).lower() or len(config["metrics"]) == 1:
            return f"{what}: {own}" if own else what
    return metric.removeprefix("eval/")


def get_display_scale(figure: BoundedFigure) -> float:
    """Return 100 for a share, which is shown in per cent, else 1."""
    return 100.0 if list(figure.bounds) == [0.0, 1.0] else 1.0


def format_value(figure: BoundedFigure) -> str:
    """Format the value; a share in per cent."""
    if figure.value is None:
        return "–"
    times = get_display_scale(figure)
    places = 1 if times == 100 else 2 if abs(figure.value) < 100 else 1
    return f"{formatting.format_number(times * figure.value, places)}{'%' if times == 100 else ''}"


def format_bounds(figure: BoundedFigure, confidence: float) -> str:
    """Format the interval as "95%: 41 to 58"."""
    if figure.value is None:
        return "no value"
    if figure.low is None or figure.high is None:
        return "no interval"
    times = get_display_scale(figure)
    low, high = times * figure.low, times * figure.high
    return (
        f"{confidence:.0%}: {formatting.format_interval(low, high, formatting.compute_decimals(low, high))}"
    )


def format_estimate(figure: BoundedFigure) -> str:
    """Format a figure with its interval as "74.4% (59 to 86)"."""
    if figure.value is None or figure.low is None or figure.high is None:
        return format_value(figure)
    low, high = get_display_scale(figure) * figure.low, get_display_scale(figure) * figure.high
    return (
        f"{format_value(figure)}"
        f" ({formatting.format_interval(low, high, formatting.compute_decimals(low, high))})"
    )


def draw_figures(evaluation: Evaluation) -> None:
    """Draw a card for each metric and general probe, then details, counts and notices."""
    config, details = evaluation.config, evaluation.details
    cards = evaluation.figures
    with st.grid(max(1, min(4, len(cards) + len(details.probes))), min_column_width=210):
        for figure in cards:
            _render_card(figure, format_metric_title(figure.metric, config), config["confidence"])
        for probe in details.probes:
            _draw_probe(probe, config["confidence"])
    for figure in cards:
        _draw_details(figure, format_metric_title(figure.metric, config))
    st.caption(describe_evaluation(evaluation))


def _render_card(figure: Figure, name: str, confidence: float) -> None:
    arrow = display.get_arrow(figure.better)
    with st.container(border=True, height="stretch"):
        st.metric(f"{escape_markdown(name)} {arrow}", format_value(figure), format_bounds(figure, confidence),
                  delta_color="off", delta_arrow="off")  # fmt: skip
        grouped = f" in {formatting.plural(figure.groups, 'group')}" if figure.groups else ""
        st.caption(f"n {figure.n:,}{grouped}; {escape_markdown(figure.unit or 'its own unit')}")
        if figure.failed:
            st.markdown(f":small[:red[:material/error: {escape_markdown(figure.failed)}]]")
        elif figure.unscored.count:
            st.markdown(
                f":small[:orange[:material/warning: {escape_markdown(describe_unscored_rows(figure))}]]"
            )


def describe_unscored_rows(figure: Figure) -> str:
    """Format as "3 rows not scored: the row has no reference (2), no answer was generated (1)"."""
    count, reasons = figure.unscored.count, figure.unscored.reasons
    named = ", ".join(f"{why} ({rows:,})" for why, rows in list(reasons.items())[:SHOWN_REASONS])
    more = f", and {len(reasons) - SHOWN_REASONS} other reasons" if len(reasons) > SHOWN_REASONS else ""
    return f"{formatting.plural(count, 'row')} not scored: {named}{more}"


def _draw_probe(probe: GeneralFigure, confidence: float) -> None:
    shares, estimate = probe.accuracy is not None, probe.accuracy or probe.loss
    bounds = (0.0, 1.0 if shares else None)
    figure = _BoundedEstimate(estimate.value, estimate.low, estimate.high, bounds)
    name = "General questions right ↑" if shares else "Loss on plain prose ↓"
    with st.container(border=True, height="stretch"):
        st.metric(name, format_value(figure), format_bounds(figure, confidence),
                  delta_color="off", delta_arrow="off")  # fmt: skip
        unit = formatting.plural(probe.n, "question" if shares else "passage")
        st.caption(unit if shares else f"{unit}, nats a token")


def _draw_details(figure: Figure, name: str) -> None:
    """Draw additional details of a metric if they are short."""
    details = figure.details
    notes = []
    if (details.get("no_label") or {}).get("count"):
        most = ", ".join(f"“{text}”" for text, _ in details["no_label"]["most"][:3])
        notes.append(
            f"{formatting.plural(details['no_label']['count'], 'answer')} that name no label, such as {most}"
        )
    if (details.get("outside") or {}).get("count"):
        notes.append(f"{formatting.plural(details['outside']['count'], 'row')} whose label is not in the set")
    if details.get("chance") is not None and figure.value is not None:
        notes.append(f"a perfectly calibrated model would show up to {details['chance']:.1%} by chance")
    if details.get("guessing") is not None and figure.value is not None:
        notes.append(f"guessing would get {formatting.format_number(100 * details['guessing'], 1)}%")
    if notes and figure.metric != "eval/f1_macro":
        st.caption(f"{escape_markdown(name)}: {escape_markdown('; '.join(notes))}.")
    if details.get("constraints"):
        lines = [
            {
                "Constraint": kept.constraint,
                "Rows that meet it": format_estimate(
                    _BoundedEstimate(kept.value, kept.low, kept.high, (0.0, 1.0))
                ),
                "n": kept.n,
            }
            for kept in parse_document(list[ConstraintShare], details["constraints"])
        ]
        st.dataframe(lines, hide_index=True, alt=f"{name}: rows that meet each constraint")


def describe_evaluation(evaluation: Evaluation) -> str:
    """Describe rows, missing parts, duration and device as sentences."""
    counts, details = evaluation.details.counts, evaluation.details
    rows = describe_selected_rows(evaluation.part, evaluation.config.get("where"))
    sentences = [f"{evaluation.dataset_name}, {rows}, n {evaluation.n:,}."]
    lacking = {
        "with an empty answer (scored as such)": counts.empty,
        "could not be asked": counts.no_prompt,
        "without a reference": counts.no_reference,
        "without a loss": counts.no_loss,
    }
    sentences += [f"{formatting.plural(count, 'row')} {words}." for words, count in lacking.items() if count]
    sentences += details.notices
    took = display.format_duration(sum(details.seconds.values()))
    sentences.append(f"Took {took} on {details.device_name or details.device}, {details.dtype}.")
    return escape_markdown(" ".join(sentences))


LISTED = 10  # lines shown before the table scrolls


def list_sliceable_metrics(evaluation: Evaluation) -> dict[str, Figure]:
    """List metrics with a score per row."""
    return {
        figure.metric: figure
        for figure in evaluation.figures
        if figure.estimator != "whole" and not figure.failed and not figure.metric.startswith(TASK)
    }


def draw_slices(evaluation: Evaluation, other: Evaluation | None = None) -> None:
    """Draw the choice of a metric, and one line per slice, most significant first."""
    sliced, own = list_sliceable_metrics(evaluation), evaluation.evaluation_id
    if other is not None:
        sliced = {
            name: named_slice for name, named_slice in sliced.items() if name in list_sliceable_metrics(other)
        }
    if not sliced:
        st.caption("No metric has scores of rows.")
        return
    place = f"{own}-{other.evaluation_id if other else ''}"
    metric = st.selectbox(
        "Slices by",
        list(sliced),
        format_func=lambda name: format_metric_title(name, evaluation.config),
        key=f"evaluation-slices-{place}",
        label_visibility="collapsed",
    )
    try:
        listed = read_slices(own, metric, other.evaluation_id if other else "")
    except QueryError:
        st.caption("The file with its rows no longer exists.")
        return
    if not listed:
        st.caption("These rows make no slices: they have one label or none, and are all of one length.")
        return
    times = get_display_scale(sliced[metric])
    large = [named_slice for named_slice in listed if named_slice["n"] >= row_scores.MIN_SLICE_ROWS]
    if not large:
        st.caption(f"Every slice of these rows has fewer than {row_scores.MIN_SLICE_ROWS} rows.")
        return
    lines = [
        _build_slice_row(named_slice, sliced[metric], times, paired=other is not None)
        for named_slice in large
    ]
    st.dataframe(
        lines,
        hide_index=True,
        height="content" if len(lines) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={"Slice": st.column_config.TextColumn(pinned=True, width="medium")},
        alt="Slices of the rows, with intervals",
    )
    st.caption(_describe_slices(listed, other))


@st.cache_data(ttl=600, max_entries=128, show_spinner=False)
def read_slices(evaluation_id: str, metric: str, other: str = "") -> Sequence[Mapping[str, Any]]:
    """Compute slices by label, prompt length, and length of the own answer."""
    table = evaluations.sliced(get_client(), evaluation_id, metric, other)
    if not table.num_rows:
        return []

    def numbers(name: str) -> np.ndarray:
        return np.array([np.nan if x is None else x for x in table[name].to_pylist()], float)

    groups = {
        **row_scores.build_value_slices("Label", table["label"].to_pylist()),
        **row_scores.build_size_slices("Prompt", numbers("prompt"), "characters"),
        **row_scores.build_size_slices("Own answer", numbers("answer"), "characters"),
    }
    if other:
        return row_scores.compute_slice_differences(numbers("score"), numbers("other"), groups)
    return row_scores.compute_slice_scores(numbers("score"), groups)


def _build_slice_row(
    named_slice: Mapping[str, Any], figure: Figure, times: float, *, paired: bool
) -> dict[str, str | int]:
    where, q = {"Slice": f"{named_slice['by']}: {named_slice['value']}"}, named_slice["q"]
    test = {
        "Result": _describe_difference(named_slice, figure.better, paired),
        "n": named_slice["n"],
        "q": "–" if q is None else "< 0.001" if q < 0.001 else f"{q:.3f}",
    }
    if paired:
        return where | {"Difference": display.format_estimate(named_slice["gap"], scale=times)} | test
    mean = display.format_estimate(named_slice["mean"], scale=times, sign=False)
    rest = (
        "–"
        if named_slice["rest"] is None
        else formatting.format_number(times * named_slice["rest"], 1 if times == 100 else 2)
    )
    return where | {f"Mean{', %' if times == 100 else ''}": mean, "Other rows": rest} | test


def _describe_difference(named_slice: Mapping[str, Any], better: str, paired: bool) -> str:
    if named_slice["q"] is None:
        return f"inconclusive: {named_slice['why']}"
    if not named_slice["different"]:
        return "inconclusive"
    gap = named_slice["gap"].value if paired else named_slice["gap"]
    return "better" if (gap > 0) == (better == "higher") else "worse"


def _describe_slices(listed: Sequence[Mapping[str, Any]], other: Evaluation | None) -> str:
    tested = sum(named_slice["q"] is not None for named_slice in listed)
    small = sum(named_slice["n"] < row_scores.MIN_SLICE_ROWS for named_slice in listed)
    left_out = f" {formatting.plural(small, 'smaller one')} left out." if small else ""
    against = f"this one minus {other.name}, in pairs" if other else "each against all other rows"
    return escape_markdown(
        f"{formatting.plural(tested, 'slice')}, {against}; q is the p-value after Benjamini and Hochberg"
        f" for {formatting.plural(tested, 'test')}: of the slices called different at most 1 in 20 is"
        " expected to be a false discovery."
        f" 95% intervals, each on its own; a slice has at least {row_scores.MIN_SLICE_ROWS} rows, and"
        " means of fewer than"
        f" {row_scores.MIN_ROWS} are not tested.{left_out}"
    )


PAGE = 10
SHOWN = 600  # maximum characters of a text


def draw_rows(evaluation: Evaluation) -> None:
    """Draw rows ordered by one metric; rows that it could not score come first."""
    config, own = evaluation.config, evaluation.evaluation_id
    scored = {
        figure.metric: figure
        for figure in evaluation.figures
        if figure.estimator != "whole"
        and not figure.failed
        and not figure.metric.startswith(TASK)  # a harness task has items of its own
    }
    if not scored:
        st.caption("No metric has scores of rows.")
        return
    metric = st.selectbox(
        "Order by",
        list(scored),
        format_func=lambda name: f"{format_metric_title(name, config)}, the worst first",
        key=f"evaluation-order-{own}",
        label_visibility="collapsed",
    )
    chosen = scored[metric]
    pages = max(1, -(-evaluation.n // PAGE))
    number = st.pagination(pages, key=f"evaluation-page-{own}-{metric}") if pages > 1 else 1
    try:
        total, rows = evaluation_queries.read_rows(own, metric, chosen.better, PAGE, (number - 1) * PAGE)
    except QueryError:
        st.caption("The file with its rows no longer exists.")
        return
    st.caption(f"{formatting.plural(total, 'row')}; rows that could not be scored come first.")
    for row in rows:
        _draw_row(row, scored, config)


def _draw_row(row: EvaluatedRow, scored: dict[str, Figure], config: Mapping[str, Any]) -> None:
    with st.container(border=True, gap="xsmall"):
        st.caption(f":material/person: Prompt · row {row.row_id:,}")
        show_row_text(row.prompt)
        left, right = st.columns(2, gap="medium")
        with left:
            st.markdown("**Reference**")
            show_row_text(row.reference)
        with right:
            sure = f" ({row.probability:.0%})" if row.probability is not None else ""
            st.markdown(f"**Answer**{sure}")
            show_row_text(row.prediction, nothing="(an empty answer)")
        scores = [
            f"{escape_markdown(format_metric_title(name, config))}"
            f" {format_score(row.scores.get(name), figure)}"
            for name, figure in scored.items()
        ]
        st.markdown(f":gray[{' · '.join(scores)}]")


def show_row_text(text: str | None, nothing: str = "(nothing)") -> None:
    """Draw a text of a row, or a dash if there is none."""
    show_text("–" if text is None else text, SHOWN, nothing)


def format_score(score: RowScore | None, figure: Figure) -> str:
    """Format the score of a row, or the reason why there is none."""
    if score is None:
        return "–"
    if score.score is None:
        return f"– ({escape_markdown(score.reason)})" if score.reason else "–"
    whole = get_display_scale(figure) == 100 and score.score in (0.0, 1.0)
    return formatting.format_number(score.score, 0 if whole else 2)
