"""Per-class results of a classifier: metrics, confusions, calibration, and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import PLOT, build_empty_figure, shorten_name
from pages.shared.palette import BASE, VALIDATION
from pages.shared.run_results import draw_models
from pages.shared.session import cached, escape_markdown, get_client, show_errors
from pages.shared.text_display import shorten
from store.core import formatting
from store.core.errors import NotFoundError, QueryError
from store.core.figure_schemas import Estimate
from store.data import datasets
from store.data.schemas import CanonicalRow
from store.evaluation import scored_rows
from store.evaluation.schemas import (
    CalibrationBin,
    CalibrationError,
    CalibrationFigures,
    ClassBreakdown,
    ClassConfusion,
    ClassFigures,
    ClassRates,
)
from store.evaluation.scored_rows import PredictionFilter
from store.evaluation.verdict_schemas import ClassPrediction
from store.runs.schemas import Run

MAX_MATRIX_CLASSES = 30  # maximum number of classes in a readable matrix
SCALE = [[0.0, "rgba(15,157,143,0.04)"], [1.0, "rgba(15,157,143,1)"]]
MAX_LABEL_CHARACTERS = 18  # characters of a class name on an axis


def plot_confusion_matrix(cells: Sequence[tuple[str, str, int]], labels: Sequence[str]) -> go.Figure:
    """Plot the rows of each true class by predicted class; the shade is the share of the true class."""
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for label, predicted, count in cells:
        counts[place[label], place[predicted]] += count
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    names = [shorten_name(label, MAX_LABEL_CHARACTERS) for label in labels]
    figure = build_empty_figure("", "True label", 120 + max(200, 34 * len(labels)), x_title="Predicted label")
    hover = [
        [f"{a} predicted as {b}: {counts[i, j]:,} of {counts[i].sum():,} rows" for j, b in enumerate(names)]
        for i, a in enumerate(names)
    ]
    ticks = list(range(len(labels)))
    figure.add_trace(
        go.Heatmap(
            z=shares, x=ticks, y=ticks, zmin=0, zmax=1, colorscale=SCALE, showscale=False, xgap=2, ygap=2,
            text=hover, hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(_plot_counts(counts, shares))
    edge = [-0.5, len(labels) - 0.5]
    figure.update_xaxes(
        tickvals=ticks, ticktext=names, range=edge, showgrid=False, tickangle=-40, side="bottom"
    )
    figure.update_yaxes(tickvals=ticks, ticktext=names, range=edge[::-1], showgrid=False)
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return figure


def _plot_counts(counts: np.ndarray, shares: np.ndarray) -> go.Scatter:
    """Plot the count of each non-empty cell, in a light colour on dark cells."""
    rows, columns = np.nonzero(counts)
    return go.Scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[f"{counts[i, j]:,}" for i, j in zip(rows, columns, strict=True)],
        textfont={
            "size": 13 if len(counts) <= 12 else 10,
            "color": ["white" if shares[i, j] > 0.5 else BASE for i, j in zip(rows, columns, strict=True)],
        },
        hoverinfo="skip",
        showlegend=False,
    )


def plot_reliability(bins: Sequence[CalibrationBin]) -> go.Figure:
    """Plot the share of correct rows by predicted probability, with Wilson intervals.

    The dashed line is a perfectly calibrated model.
    """
    figure = build_empty_figure(
        "", "Rows right (share)", 340, x_title="Mean probability of the predicted label"
    )
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dash", "color": BASE, "width": 1.5},
            name="Perfectly calibrated", hoverinfo="skip",
        )
    )  # fmt: skip
    up = [0 if b.high is None else b.high - b.accuracy for b in bins]
    down = [0 if b.low is None else b.accuracy - b.low for b in bins]
    figure.add_trace(
        go.Scatter(
            x=[b.confidence for b in bins],
            y=[b.accuracy for b in bins],
            error_y={"type": "data", "array": up, "arrayminus": down, "symmetric": False, "width": 0,
                     "thickness": 2.5, "color": VALIDATION},
            mode="markers",
            marker={"size": 9, "color": VALIDATION},
            name="Tuned model",
            customdata=[[b.n, b.low, b.high] for b in bins],
            hovertemplate="%{y:.0%} right (%{customdata[1]:.0%} to %{customdata[2]:.0%}) at %{x:.0%} sure,"
            " n %{customdata[0]}<extra></extra>",
        )
    )  # fmt: skip
    least = min([0.95, *(b.confidence for b in bins)])
    figure.update_xaxes(range=[max(0, least - 0.05), 1.02], tickformat=".0%")
    figure.update_yaxes(range=[0, 1.04], tickformat=".0%")
    figure.update_layout(hovermode="closest", margin={"l": 64, "t": 30})
    return figure


PAGE = 10
EXAMPLES = 3
SHOWN = 600  # maximum characters of a text
ONLY = {"Wrong": "wrong", "Right": "right", "All": ""}


def draw_class_samples(run_id: str) -> None:
    """Draw the tab of rows with label and prediction: mistakes first, the most confident on top."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        classification = run.verdict.classification if run.verdict else None
        if not classification:
            st.caption("The rows are written when training ends, with the verdict.")
            return
        only, label, predicted = _draw_filters(classification.models.tuned)
        wanted = PredictionFilter(only, label, predicted)
        total, _ = read_page(run_id, wanted, 0, 0)
        pages = max(1, -(-total // PAGE))
        number = st.pagination(pages, key=f"class-page-{only}-{label}-{predicted}") if pages > 1 else 1
        order = {"wrong": ", the surest mistakes first", "right": ", the least sure first"}.get(only, "")
        st.caption(f"{formatting.plural(total, 'held-out row')}{order}.")
        _, rows = read_page(run_id, wanted, PAGE, (number - 1) * PAGE)
        texts = _read_texts(run, tuple(row.row_id for row in rows))
        for row in rows:
            _draw_row(row, texts.get(row.row_id))


def _draw_filters(tuned: ClassFigures) -> tuple[str, str, str]:
    """Draw the row filters: wrong, right or all; true label; predicted label."""
    labels = sorted(row.label for row in tuned.classes)
    left, middle, right = st.columns([2, 2, 2], vertical_alignment="bottom")
    with left:
        wrong = tuned.accuracy.value < 1
        only = st.segmented_control(
            "Rows", list(ONLY), default="Wrong" if wrong else "All", key="class-only", required=True
        )
    with middle:
        label = st.selectbox("True label", labels, index=None, placeholder="any", key="class-label")
    with right:
        predicted = st.selectbox("Predicted", labels, index=None, placeholder="any", key="class-predicted")
    return ONLY[only or "All"], label or "", predicted or ""


def draw_examples(run: Run, label: str, predicted: str, title: str) -> None:
    """Draw the most confident mistakes of a pair of labels; nothing if there are none."""
    total, rows = read_page(run.run_id, PredictionFilter("wrong", label, predicted), EXAMPLES, 0)
    if not total:
        return
    more = f", the {len(rows)} surest" if total > len(rows) else ""
    st.caption(f"{title}: {formatting.plural(total, 'row')}{more}")
    texts = _read_texts(run, tuple(row.row_id for row in rows))
    for row in rows:
        _draw_row(row, texts.get(row.row_id))


@cached(600, max_entries=128)
def read_page(
    run_id: str, wanted: PredictionFilter, limit: int, offset: int
) -> tuple[int, list[ClassPrediction]]:
    """Return rows of a run that has ended; none if its file is missing."""
    try:
        return scored_rows.prediction_page(get_client(), run_id, wanted, limit=limit, offset=offset)
    except QueryError:
        return 0, []


def _read_texts(run: Run, row_ids: tuple[int, ...]) -> dict[int, str]:
    """Return the texts of the rows if the data set still has the rows that the run was trained on."""
    try:
        dataset = cached_queries.read_dataset(run.dataset_id)
    except NotFoundError:
        return {}
    if dataset.fingerprint != run.data_fingerprint or not row_ids:
        return {}
    return {row["row_id"]: _format_text(row) for row in _read_rows(run.dataset_id, row_ids)}


@cached(600, max_entries=128)
def _read_rows(dataset_id: str, row_ids: tuple[int, ...]) -> list[CanonicalRow]:
    return datasets.get_rows(get_client(), cached_queries.read_dataset(dataset_id), row_ids)


def _format_text(row: CanonicalRow) -> str:
    turns = [m["content"] for m in row["messages"] or [] if m["role"] != "assistant"]
    return "\n\n".join(turns) or str(row["text"] or "")


def _draw_row(row: ClassPrediction, text: str | None) -> None:
    with st.container(border=True, gap="xsmall"):
        st.text(shorten(text, SHOWN) if text else "(its data set is gone)")
        right = row.label == row.predicted
        color, icon = ("green", ":material/check:") if right else ("red", ":material/close:")
        badges = [f":{color}-badge[{icon} {escape_markdown(row.predicted)} {row.probability:.0%}]"]
        if not right:
            own = row.label_probability
            share = "never trained" if own is None else f"{own:.0%}"
            badges.append(f"label **{escape_markdown(row.label)}** ({share})")
        rest = [
            f"{escape_markdown(t.label)} {t.probability:.0%}" for t in row.top[1:3] if t.probability >= 0.01
        ]
        notes = [f"then {', '.join(rest)}"] if rest and right else []
        if row.prompted:
            notes.append(f"untuned: {escape_markdown(row.prompted)} {row.prompted_probability:.0%}")
        notes.append(f"{row.split} row {row.row_id:,}")
        st.markdown(f"{' '.join(badges)} :gray[{' · '.join(notes)}]")


LISTED = 10  # rows shown before the table scrolls


@dataclass(frozen=True)
class CalibrationData:
    """Calibration of a classifier; for an evaluation, parts may be missing."""

    error: CalibrationError
    bins: Sequence[CalibrationBin]
    brier: Estimate | None
    temperature: Estimate | None
    overconfident: bool

    @classmethod
    def of(cls, figures: CalibrationFigures) -> CalibrationData:
        """Build it from the figures of a run."""
        return cls(
            figures.ece,
            figures.bins,
            figures.brier,
            figures.temperature,
            figures.overconfident,
        )


def draw_classes(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        classification = run.verdict.classification if run.verdict else None
        if not classification:
            st.caption("Figures per class are computed when training ends, with the verdict.")
            return
        tuned = classification.models.tuned
        draw_models(classification)
        draw_table(tuned)
        left, right = st.columns([3, 2], gap="large")
        with left:
            draw_confusion(tuned, classification.confused)
        with right:
            if tuned.calibration is not None:
                draw_calibration(CalibrationData.of(tuned.calibration))
        if classification.confused:
            _draw_confused(run, classification.confused)


def draw_table(tuned: ClassBreakdown) -> None:
    """Draw one line per class, lowest F1 first."""
    st.markdown("**Classes**, worst first")
    rows = sorted(tuned.classes, key=lambda row: (row.f1.value, -row.n))
    st.dataframe(
        [_build_class_row(row) for row in rows],
        hide_index=True,
        placeholder="–",
        height="content" if len(rows) <= LISTED else 35 * (LISTED + 1) + 3,
        column_config={
            "Class": st.column_config.TextColumn(pinned=True, width="medium"),
            "F1": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f", width="small"),
            # numbers, so that sorting by column puts 2.1% before 10%
            "Recall ↑": st.column_config.NumberColumn(format="%.1f%%"),
            "Precision ↑": st.column_config.NumberColumn(format="%.1f%%"),
        },
        alt="Precision, recall and F1 of each class",
    )
    listed, count = len(tuned.classes), tuned.class_count
    cut = f" The {listed:,} largest of {count:,} classes." if listed < count else ""
    st.caption(
        "Of the rows of a class (n), recall is the share that is found; of the rows predicted as it,"
        f" precision is the share that is right. Wilson's 95% intervals.{cut}"
    )


def _build_class_row(row: ClassRates) -> dict[str, str | float | None]:
    return {
        "Class": row.label,
        "F1": row.f1.value,
        "F1, 95%": formatting.format_interval(row.f1.low, row.f1.high, 2),
        **_build_share_cells("Recall", row.recall),
        "n": row.n,
        **_build_share_cells("Precision", row.precision),
        "Predicted": row.predicted,
    }


def _build_share_cells(name: str, interval: Estimate | None) -> dict[str, float | str | None]:
    """Build two cells: a share in per cent and its interval; empty if there are no rows."""
    if not interval:
        return {f"{name} ↑": None, f"{name}, 95%": "–"}
    bounds = formatting.format_interval(*display.scale_bounds(interval, 100))
    return {f"{name} ↑": 100 * interval.value, f"{name}, 95%": f"{bounds}%"}


def draw_confusion(tuned: ClassBreakdown, confused: Sequence[ClassConfusion], key: str = "confusion") -> None:
    """Draw the confusion matrix, or the most confused pairs if there are too many classes."""
    st.markdown("**Confusion matrix**")
    labels = sorted({label for *both, _ in tuned.confusion for label in both})
    if len(labels) > MAX_MATRIX_CLASSES or tuned.pair_count > len(tuned.confusion):
        st.caption(f"{tuned.class_count:,} classes are too many for a matrix: the most confused pairs.")
        _draw_pairs(confused)
        return
    figure = plot_confusion_matrix(tuned.confusion, labels)
    alt = f"Confusion matrix of {len(labels)} classes on {tuned.n:,} rows"
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)
    st.caption(f"Rows, n {tuned.n:,}; the stronger the color, the larger the share of the true class.")


def _draw_pairs(pairs: Sequence[ClassConfusion]) -> None:
    rows = [
        {
            "True class": pair.labels[0],
            "predicted as": pair.labels[1],
            "Rows": pair.forth,
            "the other way": pair.back,
        }
        for pair in pairs
    ]
    if rows:
        st.dataframe(rows, hide_index=True, alt="Pairs of classes that are confused most")
    else:
        st.caption("No misclassified rows.")


def draw_calibration(calibration: CalibrationData, key: str = "reliability") -> None:
    """Draw the reliability plot and a description of the calibration."""
    st.markdown("**Calibration**")
    figure = plot_reliability(calibration.bins)
    st.plotly_chart(figure, key=key, config=PLOT, alt="Accuracy by confidence")
    st.caption(describe_calibration(calibration))


def describe_calibration(calibration: CalibrationData) -> str:
    """Describe calibration error against chance, Brier score and temperature as sentences."""
    error, brier, heat = calibration.error, calibration.brier, calibration.temperature
    sentences = (
        f"Calibration error {error.value:.1%} over {len(calibration.bins)} bins of equal size, n"
        f" {error.n:,}; a perfectly calibrated model would show up to {error.null:.1%} by chance."
    )
    if brier is not None:
        sentences += f" Brier score {display.format_estimate(brier, sign=False)}."
    if heat is None:
        return f"{sentences} A temperature can't be fitted: too few rows are wrong."
    word = "overconfident" if calibration.overconfident else "no significant overconfidence"
    if not calibration.overconfident and heat.high is not None and heat.high < 1:
        word = "underconfident"
    return f"{sentences} Fitted temperature {display.format_estimate(heat, sign=False)}: {word}."


def _draw_confused(run: Run, pairs: Sequence[ClassConfusion]) -> None:
    """Draw example rows of a pair selected from the most confused ones."""
    st.markdown("**Most confused, with rows**")
    names = {f"{a} / {b}": (a, b) for a, b in (pair.labels for pair in pairs)}
    counts = {name: pair.rows for name, pair in zip(names, pairs, strict=True)}
    chosen = st.selectbox(
        "Pair of classes",
        list(names),
        key="class-pair",
        format_func=lambda name: f"{name}: {formatting.plural(counts[name], 'row')}",
        label_visibility="collapsed",
    )
    if chosen:
        first, second = names[chosen]
        for label, predicted in ((first, second), (second, first)):
            draw_examples(run, label, predicted, escape_markdown(f"{label} predicted as {predicted}"))
