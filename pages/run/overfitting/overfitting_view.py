"""Does it overfit, does it memorise? One run: its stage, both losses and their gap, membership."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics import phrasing
from pages.classes import class_view
from pages.run.overfitting import memory_view, overfitting_charts
from pages.run.overfitting.metric_view import draw_metric
from pages.run_parts import run_reads
from pages.run_parts.chips import STATE_INK
from pages.shared import wording
from pages.shared.session import guarded, plain
from pages.shared.traces import PLOT
from store.contract.states import ALIVE
from store.documents.tables.run import Run
from store.documents.verdicts.classification import Classification
from store.documents.verdicts.memorisation import (
    Membership,
    MembershipPoint,
    MembershipScore,
    MembershipScoreName,
)
from store.documents.verdicts.overfitting import Overfitting

SEEN = "probe/train_rows/loss"


def draw_overfitting(run_id: str) -> None:
    """The tab of one run; while it trains the curves are live."""
    with guarded():
        run = run_reads.run(run_id)
        verdict = run["verdict"]
        shape, membership = verdict and verdict["overfitting"], verdict and verdict["membership"]
        _draw_stage(run, shape)
        _draw_losses(run, shape, membership)
        draw_metric(run, shape)
        sentence = shape["stage_sentence"] if shape else ""
        _draw_membership(run, membership, sentence)
        memory_view.draw_extraction(run, verdict and verdict["extraction"], sentence)
        memory_view.draw_duplicates(verdict and verdict["duplicates"])
        memory_view.draw_canaries(run, verdict and verdict["canaries"])
        _draw_calibration(verdict and verdict["classification"])


def _draw_stage(run: Run, shape: Overfitting | None) -> None:
    """Where it ended, in its colour; before there is a verdict, what is to come."""
    if not shape:
        waits = "Where it stands comes with the verdict; until then the curves below are live."
        ended = "It ended without a verdict."
        if run["verdict"]:
            ended = "Nothing was trained: the model is a mix of another run's and its base."
        st.caption(waits if run["status"] in ALIVE else ended)
        return
    if shape["stage"] is None:  # a verdict from before stages were told apart
        st.markdown(plain(shape["sentence"]))
        return
    stage = wording.STAGES[shape["stage"]]
    with st.container(border=True, key="stage"):
        edge = f"{{border-left: 5px solid {STATE_INK[stage.color]}; border-radius: 8px}}"
        st.html(f"<style>.st-key-stage {edge}</style>")
        st.subheader(f":{stage.color}[{stage.icon}] {stage.title}", anchor=False)
        sentences = [
            shape["stage_sentence"],
            shape["gap_sentence"],
            shape["parting"]["sentence"] if shape["parting"] else "",
            shape.get("baseline_sentence", ""),
        ]
        if shape["sentence"].lower() not in shape["stage_sentence"].lower():
            sentences.insert(1, shape["sentence"])
        st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences if sentence))


def _draw_losses(run: Run, shape: Overfitting | None, membership: Membership | None) -> None:
    seen, validation = (run_reads.live_curve(run["run_id"], name) for name in (SEEN, "eval/loss"))
    if not validation.num_rows:
        if run["status"] in ALIVE:
            st.caption("The curves begin with the first validation.")
        return
    axis = wording.loss_axis(run["config"])
    path = membership["path"] if membership else []
    figure = overfitting_charts.gap_chart(seen, validation, shape, axis, path=path)
    alt = "Loss on training and validation rows by step, with the gap between them"
    st.plotly_chart(figure, key="overfitting-losses", config=PLOT, alt=alt)
    points = shape["gap"] if shape else []
    if not seen.num_rows and not points:
        st.caption(f"{_why_no_gap(run)} GL: how far a validation lies above the lowest so far, in per cent.")
        return
    rows = ""
    if points:
        train, held = points[-1]["train"]["n"], points[-1]["validation"]["n"]
        rows = f" (95% intervals, {phrasing.plural(train, 'training row')} and"
        rows += (
            f" {phrasing.plural(held, 'validation row')}; surely over 10% of the validation loss is amber,"
        )
        rows += " over 30% red)"
    st.caption(
        f"Both losses without dropout. Gap: validation minus training{rows}. GL: how far a validation lies"
        f" above the lowest so far; amber from 1%, red from 5%.{_told_apart(path)}"
    )
    if membership and membership["path_sentence"]:
        st.markdown(plain(membership["path_sentence"]))


def _told_apart(path: Sequence[MembershipPoint]) -> str:
    """What the strip of membership shows."""
    if not path:
        return ""
    return (
        " AUC: how well the loss tells training rows from validation rows, 95% intervals; red where it surely"
        " says more than what the base model's explains, whose interval is the grey band; 0.5 is a coin."
    )


def _why_no_gap(run: Run) -> str:
    if run["config"].get("probes") is False:
        return "No gap: the run was launched with probes switched off."
    if run["status"] in ALIVE:
        return "Rows that it trains on are measured too as soon as the time for probes allows it."
    return "No gap: rows that it trained on were not measured in this run. Clone it to have them measured."


def _draw_membership(run: Run, membership: Membership | None, stage_sentence: str) -> None:
    """Membership inference with its placebo; its sentence, unless it was `said` above."""
    st.markdown("**Can it be asked which rows it was trained on?**")
    if not membership:
        waits = "That is tested with the verdict." if run["status"] in ALIVE else _why_no_membership(run)
        st.caption(waits)
        return
    if membership["sentence"] not in stage_sentence:
        st.markdown(plain(membership["sentence"]))
    if not membership["scores"]:
        return
    left, right = st.columns(2, gap="medium", vertical_alignment="center")
    with left:
        figure = overfitting_charts.membership_chart(membership)
        alt = "Area under the curve of each score, tuned and base model"
        st.plotly_chart(figure, key="overfitting-membership", config={"displayModeBar": False}, alt=alt)
    with right:
        st.dataframe(
            [_score(name, score) for name, score in membership["scores"].items()],
            hide_index=True,
            alt="Excess over the base model, and rows found at few false alarms",
        )
    st.caption(_membership_basis(membership))


def _why_no_membership(run: Run) -> str:
    if run["config"].get("probes") is False:
        return "Not tested: the run was launched with probes switched off."
    return "Not tested in this run. Clone it to have it tested."


def _draw_calibration(classification: Classification | None) -> None:
    """How sure a classifier is: a model that knows its training rows by heart is too sure of others."""
    if classification and (calibration := classification["models"]["tuned"].get("calibration")):
        class_view.draw_calibration(class_view.DrawnCalibration.of(calibration), "overfitting-reliability")


def _score(name: MembershipScoreName, score: MembershipScore) -> dict[str, str]:
    caught, allowed = score["tpr"], 100 * score["tpr"]["false_alarms"]
    bounds = phrasing.interval(*wording.ends(caught, 100), 0)
    return {
        "Score": overfitting_charts.SCORES[name],
        "Excess": wording.estimate(score["excess"]),
        f"Found at {allowed:g}% false alarms": f"{phrasing.number(100 * caught['value'], 0)}% ({bounds}%)",
    }


def _membership_basis(membership: Membership) -> str:
    """What the figures rest on, and what so few rows can't show."""
    rows = f"{membership['members']:,} training and {phrasing.plural(membership['others'], 'held-out row')}"
    basis = (
        f"95% intervals over {rows}. The base model never saw either: what counts is the loss (of pairs the"
        " margin) without what the base model's loss explains, as harder rows say nothing of memory."
    )
    tpr = next(iter(membership["scores"].values()))["tpr"]
    if not tpr["allowed"]:
        finest = phrasing.number(100 * tpr["finest"], 1)
        basis += (
            f" So few held-out rows can't resolve false alarms under {finest}%: found are those above all."
        )
    if membership["unscored"]:
        basis += f" {phrasing.plural(membership['unscored'], 'row')} could not be scored."
    return basis
