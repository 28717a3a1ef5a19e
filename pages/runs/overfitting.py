"""The Overfitting tab of a run: stage, train and validation loss with their gap, and membership inference.

Both losses are measured in evaluation mode (no dropout), so the band between them is the generalisation gap
alone. The charts are pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import streamlit as st

from engine.evaluation.training_curve.overfitting import MATERIAL_GL, compute_generalisation_loss
from pages.evaluation import classes
from pages.runs import memorisation
from pages.runs.checkpoint_curves import draw_metric
from pages.shared import display, run_queries
from pages.shared.charts import (
    PLOT,
    ChartLine,
    IntervalRow,
    add_best,
    add_line,
    add_onset,
    build_bounded_point,
    build_empty_figure,
    error_bars,
    get_steps,
    get_values,
    plot_intervals,
)
from pages.shared.palette import BAD, BASE, GRID, TRAIN, VALIDATION
from pages.shared.run_chips import STATE_INK
from pages.shared.session import escape_markdown, show_errors
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.evaluation.forgetting_schemas import (
    Membership,
    MembershipPoint,
    MembershipScore,
    MembershipScoreName,
)
from store.evaluation.verdict_schemas import GapPoint, Overfitting
from store.runs.schemas import Run

AMBER = "#d97a1a"
STOP_GL = 5.0  # per cent, at which Prechelt's rule would stop
LEVELS = {"red": BAD, "amber": AMBER, "green": VALIDATION, "unclear": BASE}
SCORES: dict[MembershipScoreName, str] = {
    "loss": "Loss",
    "calibrated": "Loss beyond the base's",
    "min_k": "Min-K%",
    "margin": "Margin of the answers",
}


def build_train_probe_curve(curve: pa.Table, points: Sequence[GapPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and losses of the probe of training rows: as logged, or the verdict's where present."""
    losses = dict(zip(get_steps(curve).tolist(), get_values(curve, "value").tolist(), strict=True))
    losses |= {int(point.step): float(point.train.value) for point in points}
    steps = sorted(losses)
    return np.asarray(steps, np.int64), np.asarray([losses[step] for step in steps], np.float64)


def plot_gap(
    seen: pa.Table,
    validation: pa.Table,
    shape: Overfitting | None,
    axis: str,
    *,
    path: Sequence[MembershipPoint] = (),
) -> go.Figure:
    """Plot both losses with the gap as a ribbon, the gap with intervals, membership, and GL by step.

    shape: the `overfitting` part of a verdict, or None before there is one; path: the path of its
    `membership`.
    """
    points: Sequence[GapPoint] = shape.gap if shape else ()
    height = 710 if path else 560
    figure = build_empty_figure("Loss on rows it trains on and on rows it never saw", axis, height)
    _add_strip_axes(figure, bool(points), bool(path))
    x, inside = build_train_probe_curve(seen, points)
    steps, outside = get_steps(validation), get_values(validation, "value")
    _add_ribbon(figure, x, inside, steps, outside)
    add_line(figure, x, inside, ChartLine("Training rows", TRAIN, 2.4, markers=len(x) <= 60))
    add_line(figure, steps, outside, ChartLine("Validation rows", VALIDATION, 2.6, markers=len(steps) <= 60))
    trained = [(step, loss) for step, loss in zip(steps.tolist(), outside.tolist(), strict=True) if step > 0]
    best = min((pair for pair in trained if np.isfinite(pair[1])), key=lambda pair: pair[1], default=None)
    if best:
        add_best(figure, *best)
    add_onset(figure, shape, [*x, *steps])
    if points:
        _add_gaps(figure, points)
    if path:
        _add_areas(figure, path)
    _add_generalisation_loss(figure, steps, outside)
    return figure


def _add_strip_axes(figure: go.Figure, gaps: bool, areas: bool) -> None:
    """Add plots on a common step axis: losses, gap and membership if known, GL."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 12}}
    tops = {"yaxis": [0.5, 1.0], "yaxis2": [0.24, 0.42], "yaxis3": [0.0, 0.16]}
    if areas:
        tops = {"yaxis": [0.58, 1.0], "yaxis2": [0.38, 0.52], "yaxis4": [0.18, 0.32], "yaxis3": [0.0, 0.12]}
    elif not gaps:
        tops = {"yaxis": [0.32, 1.0], "yaxis3": [0.0, 0.22]}
    titles = {"yaxis2": "Gap", "yaxis3": "GL (%)", "yaxis4": "AUC"}
    for name, domain in tops.items():
        more = {**axis, "title": {"text": titles[name]}, "anchor": "x"} if name in titles else {}
        figure.update_layout({name: {"domain": domain, **more}})
    figure.update_layout(xaxis={"anchor": "y3"}, margin={"b": 44})


def _add_ribbon(
    figure: go.Figure, x: np.ndarray, inside: np.ndarray, steps: np.ndarray, outside: np.ndarray
) -> None:
    """Add a ribbon between both losses, from the first to the last step that both have."""
    common = set(x.tolist()) & set(steps.tolist())
    if len(common) < 2:
        return
    # at the steps of both, so that the ribbon follows the drawn lines
    both = sorted(s for s in {*x.tolist(), *steps.tolist()} if min(common) <= s <= max(common))
    below = np.interp(both, x, inside)
    above = np.interp(both, steps, outside)
    figure.add_trace(
        go.Scatter(
            x=[*both, *both[::-1]], y=[*above, *below[::-1]], fill="toself", fillcolor=VALIDATION,
            opacity=0.18, line={"width": 0}, mode="lines", hoverinfo="skip", name="Gap", showlegend=False,
        )
    )  # fmt: skip


def _add_gaps(figure: go.Figure, points: Sequence[GapPoint]) -> None:
    """Add each gap with its interval, coloured by its ratio to the validation loss."""
    for level in LEVELS:
        gaps = [(point.step, point.gap) for point in points if point.level == level]
        measured = (build_bounded_point(x, g.value, g.low, g.high, g.n) for x, g in gaps)
        bounded = [point for point in measured if point]
        if not bounded:
            continue
        texts = [f"{p.value:.3f} ({p.low:.3f} to {p.high:.3f})" for p in bounded]
        figure.add_trace(
            go.Scatter(
                x=[p.x for p in bounded], y=[p.value for p in bounded], yaxis="y2", mode="markers",
                error_y=error_bars(bounded, LEVELS[level]), marker={"size": 7, "color": LEVELS[level]},
                name=f"Gap, {level}", showlegend=False, text=texts,
                hovertemplate="gap %{text}<extra></extra>",
            )
        )  # fmt: skip
    _add_level(figure, "y2", 0, BASE, "dash")


def _add_areas(figure: go.Figure, path: Sequence[MembershipPoint]) -> None:
    """Add the AUC of each step with its interval, and the base model's interval as a band."""
    placebo = path[-1].placebo
    if placebo.low is not None:
        figure.add_shape(
            type="rect", xref="paper", x0=0, x1=1, yref="y4", y0=placebo.low, y1=placebo.high,
            fillcolor=BASE, opacity=0.16, line={"width": 0}, layer="below",
        )  # fmt: skip
    areas = [(point.step, point.auc, point.excess) for point in path]
    inks = [BAD if (excess.low or 0) > 0 else VALIDATION for _, _, excess in areas]
    for (step, area, _), ink in zip(areas, inks, strict=True):
        low, high = (area.value if end is None else end for end in (area.low, area.high))
        figure.add_trace(
            go.Scatter(
                x=[step], y=[area.value], yaxis="y4", mode="markers", showlegend=False,
                error_y={"type": "data", "symmetric": False, "array": [high - area.value],
                         "arrayminus": [area.value - low], "thickness": 2, "width": 0, "color": ink},
                marker={"size": 7, "color": ink}, name="AUC",
                hovertemplate=f"AUC %{{y:.3f}} ({low:.3f} to {high:.3f})<extra></extra>",
            )
        )  # fmt: skip
    intervals = [placebo, *(area for _, area, _ in areas)]
    ends = [end for interval in intervals for end in (interval.low, interval.high)]
    reach = [0.45, 0.55, *(end for end in ends if end is not None)]
    figure.update_layout(yaxis4={"range": [min(reach) - 0.03, min(1.03, max(reach) + 0.03)]})
    _add_level(figure, "y4", 0.5, BASE, "dash")


def _add_generalisation_loss(figure: go.Figure, steps: np.ndarray, losses: np.ndarray) -> None:
    """Add how far each validation loss is above the lowest so far."""
    if not len(steps):
        return
    rises = compute_generalisation_loss(losses)
    inks = [BAD if r >= STOP_GL else AMBER if r >= MATERIAL_GL else VALIDATION for r in rises]
    figure.add_trace(
        go.Bar(
            x=steps, y=rises, yaxis="y3", marker={"color": inks}, name="GL", showlegend=False,
            hovertemplate="%{y:.1f}% above the lowest so far<extra></extra>",
        )
    )  # fmt: skip
    top = float(np.nanmax(rises, initial=0.0))
    figure.update_layout(yaxis3={"range": [0, max(2.0, 1.15 * top)]})
    for level, ink in ((MATERIAL_GL, AMBER), (STOP_GL, BAD)):
        if level <= max(2.0, 1.15 * top):
            _add_level(figure, "y3", level, ink, "dot")


def _add_level(figure: go.Figure, axis: str, level: float, ink: str, dash: str) -> None:
    line = {"dash": dash, "color": ink, "width": 1.3}
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, yref=axis, y0=level, y1=level, line=line)


def plot_membership(membership: Membership) -> go.Figure:
    """Plot the AUC of each score for the tuned model, and for the base model as a placebo, against chance."""
    rows = []
    for name, score in membership.scores.items():
        p = score.p_holm  # None for scores that depend on the rows' difficulty
        sure = p is not None and p < 0.05 and score.excess.value > 0
        rows.append(_build_auc_row(SCORES[name], score.auc, BAD if sure else VALIDATION))
        if score.placebo:
            rows.append(_build_auc_row(f"{SCORES[name]}, base model", score.placebo, BASE))
    return plot_intervals(rows, "Area under the curve (0.5 is chance)", level=0.5)


def _build_auc_row(name: str, area: Estimate, color: str) -> IntervalRow:
    return IntervalRow(name, area.value, area.low, area.high, color)


TRAIN_PROBE_METRIC = "probe/train_rows/loss"


def draw_overfitting(run_id: str) -> None:
    """Draw the tab of one run; the curves are live during training."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        verdict = run.verdict
        shape, membership = verdict.overfitting if verdict else None, verdict.membership if verdict else None
        _draw_stage(run, shape)
        _draw_losses(run, shape, membership)
        draw_metric(run, shape)
        sentence = shape.stage_sentence if shape else ""
        _draw_membership(run, membership, sentence)
        memorisation.draw_extraction(run, verdict.extraction if verdict else None, sentence)
        memorisation.draw_duplicates(verdict.duplicates if verdict else None)
        memorisation.draw_canaries(run, verdict.canaries if verdict else None)
        classification = verdict.classification if verdict else None
        # memorized training rows make a classifier overconfident on others
        if classification and (calibration := classification.models.tuned.calibration):
            classes.draw_calibration(classes.CalibrationData.of(calibration), "overfitting-reliability")


def _draw_stage(run: Run, shape: Overfitting | None) -> None:
    """Draw the final stage in its colour; before there is a verdict, what to expect."""
    if not shape:
        waits = "The assessment comes with the verdict; until then the curves below are live."
        ended = "The run ended without a verdict. Resume or clone it to get one."
        if run.verdict:
            ended = "Nothing was trained: this model was interpolated between another run and its base."
        st.caption(waits if run.status in ALIVE else ended)
        return
    if shape.stage is None:  # a verdict of an older version without stages
        st.markdown(escape_markdown(shape.sentence))
        return
    stage = display.STAGES[shape.stage]
    with st.container(border=True, key="stage"):
        edge = f"{{border-left: 5px solid {STATE_INK[stage.color]}; border-radius: 8px}}"
        st.html(f"<style>.st-key-stage {edge}</style>")
        st.subheader(f":{stage.color}[{stage.icon}] {stage.title}", anchor=False)
        sentences = [
            shape.stage_sentence,
            shape.gap_sentence,
            shape.parting.sentence if shape.parting else "",
            (shape.baseline_sentence or ""),
        ]
        if shape.sentence.lower() not in shape.stage_sentence.lower():
            sentences.insert(1, shape.sentence)
        st.markdown("\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences if sentence))


def _draw_losses(run: Run, shape: Overfitting | None, membership: Membership | None) -> None:
    seen, validation = (
        run_queries.read_live_curve(run.run_id, name) for name in (TRAIN_PROBE_METRIC, "eval/loss")
    )
    if not validation.num_rows:
        if run.status in ALIVE:
            st.caption("The curves begin with the first validation.")
        return
    axis = display.get_loss_axis(run.config)
    path = membership.path if membership else []
    figure = plot_gap(seen, validation, shape, axis, path=path)
    alt = "Loss on training and validation rows by step, with the gap between them"
    st.plotly_chart(figure, key="overfitting-losses", config=PLOT, alt=alt)
    points = shape.gap if shape else []
    if not seen.num_rows and not points:
        st.caption(f"{_explain_no_gap(run)} GL: validation loss above the lowest so far, in percent.")
        return
    rows = ""
    if points:
        train, held = points[-1].train.n, points[-1].validation.n
        rows = f" (95% intervals, {formatting.plural(train, 'training row')} and"
        rows += (
            f" {formatting.plural(held, 'validation row')}; amber: significantly above 10% of the validation"
            " loss,"
        )
        rows += " over 30% red)"
    st.caption(
        f"Both losses without dropout. Gap: validation minus training{rows}. GL: validation loss above the"
        f" lowest so far; amber from 1%, red from 5%.{_describe_membership_path(path)}"
    )
    if membership and membership.path_sentence:
        st.markdown(escape_markdown(membership.path_sentence))


def _describe_membership_path(path: Sequence[MembershipPoint]) -> str:
    """Describe the plot of membership by step."""
    if not path:
        return ""
    return (
        " AUC: how well the loss separates training rows from validation rows, 95% intervals; red:"
        " significantly more than the base model explains, whose interval is the grey band; 0.5 is chance."
    )


def _explain_no_gap(run: Run) -> str:
    if run.config.get("probes") is False:
        return "No gap: probes were switched off for this run. Clone it with probes on to measure it."
    if run.status in ALIVE:
        return "Rows that it trains on are measured too as soon as the time for probes allows it."
    return "No gap: training rows were not measured in this run. Clone the run to measure them."


def _draw_membership(run: Run, membership: Membership | None, stage_sentence: str) -> None:
    """Draw membership inference with its placebo; its sentence is omitted if in `stage_sentence`."""
    st.markdown("**Membership inference**")
    if not membership:
        waits = "Not tested in this run. Clone the run to test it."
        if run.status in ALIVE:
            waits = "Tested when training ends, with the verdict."
        elif run.config.get("probes") is False:
            waits = "Not tested: probes were switched off for this run. Clone it with probes on to test it."
        st.caption(waits)
        return
    if membership.sentence not in stage_sentence:
        st.markdown(escape_markdown(membership.sentence))
    if not membership.scores:
        return
    left, right = st.columns(2, gap="medium", vertical_alignment="center")
    with left:
        figure = plot_membership(membership)
        alt = "Area under the curve of each score, tuned and base model"
        st.plotly_chart(figure, key="overfitting-membership", config={"displayModeBar": False}, alt=alt)
    with right:
        st.dataframe(
            [_build_score_row(name, score) for name, score in membership.scores.items()],
            hide_index=True,
            alt="Excess over the base model, and rows found at few false alarms",
        )
    st.caption(_describe_membership_basis(membership))


def _build_score_row(name: MembershipScoreName, score: MembershipScore) -> dict[str, str]:
    caught, allowed = score.tpr, 100 * score.tpr.false_alarms
    bounds = formatting.format_interval(*display.scale_bounds(caught, 100), 0)
    share = formatting.format_number(100 * caught.value, 0)
    return {
        "Score": SCORES[name],
        "Excess": display.format_estimate(score.excess),
        f"Found at {allowed:g}% false alarms": f"{share}% ({bounds}%)",
    }


def _describe_membership_basis(membership: Membership) -> str:
    """Describe the basis of the figures, and what so few rows cannot show."""
    rows = f"{membership.members:,} training and {formatting.plural(membership.others, 'held-out row')}"
    basis = (
        f"95% intervals over {rows}. The base model saw neither, so what its loss explains is removed from"
        " the loss (for pairs, from the margin): harder rows are not evidence of memorization."
    )
    tpr = next(iter(membership.scores.values())).tpr
    if not tpr.allowed:
        finest = formatting.format_number(100 * tpr.finest, 1)
        basis += (
            f" Too few held-out rows to resolve false alarm rates below {finest}%: rows above all of them"
            " are counted."
        )
    if membership.unscored:
        basis += f" {formatting.plural(membership.unscored, 'row')} could not be scored."
    return basis
