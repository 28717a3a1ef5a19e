"""Beside the matrix of transfer: what might have predicted it, rows that were left out, sequences of runs."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.phrasing import plural
from engine.diagnostics.transfer import transfer_words as words
from pages.compare.transfer import transfer_points as points
from pages.compare.transfer import transfer_table
from pages.compare.transfer.transfer_points import JudgedMatrix, PredictorPair
from pages.shared import wording
from pages.shared.palette import BASE, run_color
from pages.shared.session import plain
from pages.shared.traces import PLOT, empty_figure, short

ABOUT_SETS = """
**Data sets:** 1 − cosine of their mean embeddings, with its 95% interval over rows; n rows of the smaller.
"""
ABOUT_RUNS = """
**Runs:** cosine of their weight changes over all matrices; in small, between which 95% of the layers lie, n
layers. Each matrix is hashed to 4,096 numbers, which moves a cosine over all by less than 0.01. Of a run
on an earlier run's merged model only its own part is meant.
"""
SEEN = """
Rows that a run was trained or validated on, and rows that ask what it was taught, never count. Near
duplicates of its rows are kept and counted: a gain there is partly memory.
"""
DRAWN_FROM = 3  # pairs: fewer are no picture
UNITS = {"relative": "Gain on it (% of the base's loss)", "right": "Gain on it (points right)"}


def draw_predictors(of: JudgedMatrix) -> None:
    """Distance of the data and likeness of the weight changes, each against what was measured."""
    st.subheader("Could it have been predicted?", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        _predictor(
            of,
            points.by_data(of),
            "Distance of the data",
            "distance of the data",
            "1 − cosine of the mean embeddings",
        )
    with right:
        _predictor(
            of,
            points.by_weights(of),
            "Likeness of the weight changes",
            "likeness of the weight changes",
            "Cosine of the weight changes",
        )
    st.caption(
        "A point is a run on data that it was not trained on; hollow: can't be told from noise. ρ is"
        " Spearman's rank correlation. Points that share a run or a data set are not independent, so its"
        " interval is narrow rather than wide."
    )
    with st.expander("The distances themselves", icon=":material/straighten:"):
        _matrices(of)


def _predictor(of: JudgedMatrix, pairs: Sequence[PredictorPair], title: str, what: str, axis: str) -> None:
    correlation = points.correlation(pairs)
    st.markdown(f"**{title}.** {plain(words.correlation(correlation, what))}")
    if len(pairs) >= DRAWN_FROM:
        st.plotly_chart(
            scatter(pairs, axis, UNITS[of.measure]),
            key=f"transfer-{what.split()[0]}",
            config=PLOT,
            alt=f"{title} against measured transfer, {plural(len(pairs), 'pair')}",
        )


def scatter(pairs: Sequence[PredictorPair], x_title: str, y_title: str) -> go.Figure:
    """Predictor against measured transfer with its interval; 0 is the base model."""
    figure = empty_figure("", y_title, 320, x_title=x_title)
    figure.add_hline(y=0, line={"dash": "dash", "color": BASE, "width": 1.4})
    y = [100 * pair.figure["value"] for pair in pairs]
    ends = [(p.figure["value"], p.figure["low"], p.figure["high"]) for p in pairs]
    reach = [
        [0 if high is None else abs(100 * (high - value)) for value, _, high in ends],
        [0 if low is None else abs(100 * (low - value)) for value, low, _ in ends],
    ]
    bars = {"type": "data", "symmetric": False, "array": reach[0], "arrayminus": reach[1]}
    inks = [run_color(pair.number) for pair in pairs]
    figure.add_trace(
        go.Scatter(
            x=[pair.x for pair in pairs],
            y=y,
            mode="markers",
            error_y={**bars, "width": 0, "thickness": 1.3, "color": "rgba(127,140,146,0.7)"},
            marker={
                "size": 11,
                "color": inks,
                "symbol": ["circle" if pair.sure else "circle-open" for pair in pairs],
                "line": {"width": 2, "color": inks},
            },
            hovertext=[_hover_text(pair) for pair in pairs],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name="Cells",
        )
    )
    figure.update_layout(hovermode="closest", margin={"t": 12, "b": 48})
    figure.update_xaxes(showgrid=True)
    return figure


def _hover_text(pair: PredictorPair) -> str:
    low, high = wording.ends(pair.figure, 100)
    value = phrasing.number(100 * pair.figure["value"], phrasing.decimals(low, high, 1))
    return (
        f"{short(pair.label, 60)}<br>{value} ({phrasing.interval(low, high)}), n {pair.figure['n']:,}"
        f"<br>predictor {phrasing.number(pair.x, 3)}"
    )


def _matrices(of: JudgedMatrix) -> None:
    sets = {dataset["fingerprint"]: dataset["name"] for dataset in of.sets}
    for run in of.runs:
        sets.setdefault(run["data_fingerprint"] or "", run["dataset_name"])
    distances, weights = of.measured.distances, of.measured.weights
    if len(sets) > 1 and distances:
        st.markdown(ABOUT_SETS)
        st.html(transfer_table.pair_table(sets, distances, "Distances of the data sets"))
    runs = {run["run_id"]: f"#{run['number']} {run['name']}" for run in of.runs}
    if len(runs) > 1 and weights:
        st.markdown(ABOUT_RUNS)
        st.html(transfer_table.pair_table(runs, weights, "Cosines of the weight changes"))


def draw_list(of: JudgedMatrix) -> None:
    """Every cell as a line: all that hovering tells, to be sorted and read aloud."""
    with st.expander("All cells as a list", icon=":material/list:"):
        st.dataframe(
            [points.line(cell, of.measure) for cell in of.cells.values()],
            hide_index=True,
            alt="Transfer, a line for each run and data set",
        )


def draw_left_out(of: JudgedMatrix) -> None:
    """The check for rows that a run had seen."""
    lines = points.left_out(of)
    if not lines:
        if of.cells:
            st.caption(
                ":material/verified: No row that was drawn was trained on, asks what a run was taught, or is"
                " a near duplicate of a training row."
            )
        return
    away = sum(line["Trained on, left out"] + line["Same question, left out"] for line in lines)
    near = sum(line["Near duplicates, kept"] for line in lines)
    title = f"{plural(away, 'row')} left out, {plural(near, 'near duplicate')} kept"
    with st.expander(title, icon=":material/content_copy:"):
        st.markdown(SEEN)
        st.dataframe(lines, hide_index=True, alt="Rows left out by run and data set")


def draw_sequences(of: JudgedMatrix) -> None:
    """Backward transfer of runs that went on from one another."""
    if not of.measured.sequences:
        return
    names = {run["run_id"]: f"#{run['number']} {run['name']}" for run in of.runs}
    st.subheader("What did later training do to what was learned before?", anchor=False)
    for chain in of.measured.sequences:
        chain_text = " → ".join(plain(names.get(run_id, run_id)) for run_id in chain["runs"])
        backward = chain["transfer"]
        st.markdown(f"{chain_text}  \n{plain(words.backward(backward) if backward else chain['reason'])}")
        if not backward:
            continue
        for task in backward["tasks"]:
            low, high = wording.ends(task, 100)
            value = phrasing.number(100 * task["value"], phrasing.decimals(low, high, 1))
            interval = phrasing.interval(low, high)
            st.caption(f"{plain(task['name'])}: {value} points ({interval}), n {plural(task['n'], 'row')}")
