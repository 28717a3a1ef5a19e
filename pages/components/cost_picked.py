"""Beside the plot of gain against forgetting: the run that was clicked, and the runs of the front."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics import phrasing
from pages.components import reads, wording
from pages.components.advice_actions import draw_advice
from pages.components.chips import badge, dot
from pages.components.cost_chart import made
from pages.components.cost_points import MEASURES, Point
from pages.components.session import plain

LISTED = 8  # runs of the front


def draw_picked(found: Sequence[Point], picked: str, measure: str) -> bool:
    """The run that was clicked: its figures, its page, and what to try against what it forgot. Whether it
    is among those that are drawn."""
    point = next((point for point in found if point.row["run_id"] == picked), None)
    if point is None:
        st.caption(":material/ads_click: Click a run to see what it cost and what to try next.")
        return False
    with st.container(border=True, key="cost-picked"):
        st.markdown(f"{dot(point.row['number'])} **{plain(point.label)}**")
        if point.row["state"]:
            st.markdown(badge(wording.FORGETTING[point.row["state"]]))
        st.markdown(plain(_said(point, measure)))
        if st.button("Open", type="primary", icon=":material/show_chart:", key="cost-open"):
            st.switch_page("pages/run.py", query_params={"run": picked})
        verdict = reads.runs_by_id((picked,))[picked]["verdict"] or {}
        for index, piece in enumerate((verdict.get("forgetting") or {}).get("advice", ())):
            draw_advice(piece, picked, f"cost-advice-{index}")
    return True


def _said(point: Point, measure: str) -> str:
    gain, cost = wording.estimate(dict(point.gain)), wording.estimate(dict(point.cost))
    said = (
        f"{point.method}, {made(point.row)}. Gain {gain} nats a token on"
        f" {phrasing.plural(point.gain['n'], 'row')}; {MEASURES[measure].title.lower()} {cost}"
        f" {MEASURES[measure].unit}, {phrasing.plural(point.cost['n'], MEASURES[measure].items)}."
    )
    if point.status == "front":
        return f"{said} On the front."
    names = ", ".join(point.behind[:3]) + (
        f" and {len(point.behind) - 3} more" if len(point.behind) > 3 else ""
    )
    lead = "Not surely worse than" if point.status == "alike" else "Behind"
    return f"{said} {lead} {names}."


def draw_front(found: Sequence[Point], measure: str) -> None:
    """The runs of the front, the least forgetting first."""
    front = sorted((p for p in found if p.status == "front"), key=lambda p: p.cost["value"])
    st.markdown("**On the front**")
    for point in front[:LISTED]:
        gain, cost = wording.estimate(dict(point.gain)), wording.estimate(dict(point.cost))
        label = f"{dot(point.row['number'])} {plain(point.label)}"
        with st.container(gap=None):
            st.page_link("pages/run.py", label=label, query_params={"run": point.row["run_id"]})
            st.caption(f"gain {plain(gain)}, {MEASURES[measure].title.lower()} {plain(cost)}")
    if len(front) > LISTED:
        st.caption(f"and {len(front) - LISTED:,} more; the table has them all.")
