"""What runs were warned of, newest first, on the overview: they overfit, forget, or loss and metric part."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.overview.run_list import run_link
from pages.shared import quantities, reads
from pages.shared.session import plain
from store.queries.alerts import KINDS

SHOWN = 4
RED = ("memorising", "forgetting_red", "overfitting")


def draw_warnings() -> None:
    """The runs warned last, each with a link, what became sure of it, and since which step."""
    total, runs = reads.warned_runs(SHOWN)
    if not total:
        return
    st.subheader("Warnings", anchor=False)
    with st.container(key="warnings", gap="xsmall"):
        for run in runs:
            _line(run)
    if total > len(runs):
        st.caption(f"The newest {len(runs)} of {phrasing.plural(total, 'run')} with a warning.")


def _line(run: dict[str, Any]) -> None:
    alerts = worst_first(run["alerts"])
    with st.container(key=f"warned-{run['run_id']}", gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            run_link(run)
            st.markdown(" ".join(badge(alert) for alert in alerts), width="content")
            st.caption(quantities.ago(run["raised_at"]), width="content")
        st.caption(plain(alerts[0]["message"]))


def worst_first(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What weighs most first; of the two thresholds of forgetting the higher one alone."""
    kinds = {alert["kind"] for alert in alerts}
    shown = [a for a in alerts if not (a["kind"] == "forgetting_amber" and "forgetting_red" in kinds)]
    order = list(KINDS)
    return sorted(shown, key=lambda a: order.index(a["kind"]) if a["kind"] in order else len(order))


def badge(alert: dict[str, Any]) -> str:
    """ "Overfits · step 60" as inline Markdown."""
    color = "red" if alert["kind"] in RED else "orange"
    title = KINDS.get(alert["kind"], "Warning")
    step = "" if alert["step"] is None else f" · step {alert['step']:,}"
    return f":{color}-badge[{title}{step}]"
