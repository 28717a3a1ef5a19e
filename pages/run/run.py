"""Run: did it learn, and how sure is that? One run from the queue to its verdict.

The verdict stands at the top once there is one. Live parts are fragments that refresh only while the run
is alive; when its status changes, the page is drawn once more. The link is `?run=ID` (or a name).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.classes.class_row_table import draw_class_samples
from pages.classes.class_view import draw_classes
from pages.evaluations.evaluations_view import draw_evaluations
from pages.run import run_details, run_live
from pages.run.forgetting.forgetting_view import draw_forgetting
from pages.run.overfitting.overfitting_view import draw_overfitting
from pages.run.run_header import draw_alerts, draw_header
from pages.run.run_slices import draw_slices
from pages.run.run_trouble import draw_trouble
from pages.run_parts import run_reads
from pages.run_parts.chips import verdict_card
from pages.run_parts.class_numbers import draw_class_numbers, draw_preference_numbers
from pages.run_parts.key_numbers import draw_key_numbers
from pages.run_parts.run_picker import choose_run
from pages.shared.session import guarded, show_error
from store.contract.errors import NotFoundError
from store.contract.states import ALIVE

Tabs = dict[str, Callable[[str], None]]
TABS: Tabs = {
    ":material/monitoring: Learning": run_live.draw_learning,
    ":material/u_turn_right: Overfitting": draw_overfitting,
    ":material/psychology_alt: Forgetting": draw_forgetting,
    ":material/forum: Samples": run_details.draw_samples,
    ":material/fact_check: Evaluations": draw_evaluations,
    ":material/pie_chart: Slices": draw_slices,
    ":material/terminal: Log": run_details.draw_log,
    ":material/settings: Config": run_details.draw_config,
}
CLASSES = ":material/category: Classes"
# The others wait for the run to end.
MOVING = (run_live.draw_learning, draw_overfitting, draw_forgetting, run_details.draw_log)


def main() -> None:
    asked = st.query_params.get("run", "")
    with guarded():
        if not asked:
            choose_run()
            return
        try:
            run = run_reads.find(asked)
        except NotFoundError as error:
            show_error(error)
            choose_run()
            return
        draw(run)


def draw(run: dict[str, Any]) -> None:
    alive = run["status"] in ALIVE
    every = "2s" if alive else None
    draw_header(run)
    draw_trouble(run)
    if run["verdict"]:
        verdict_card(run["verdict"], run["run_id"])
        draw_numbers = draw_preference_numbers if run["verdict"].get("preference") else draw_key_numbers
        if classifies(run):
            draw_numbers = draw_class_numbers
        draw_numbers(run["verdict"])
    draw_alerts(run)
    if run["status"] != "queued":
        st.fragment(run_live.draw_live, run_every=every)(run["run_id"], run["status"])
    else:
        st.fragment(run_live.watch, run_every=every)(run["run_id"], run["status"])
    shown = tabs_of(run)
    tabs = st.tabs(list(shown), on_change="rerun", key="run-tabs")
    for tab, show in zip(tabs, shown.values(), strict=True):
        if tab.open:
            with tab:
                st.fragment(show, run_every=every if show in MOVING else None)(run["run_id"])


def classifies(run: dict[str, Any]) -> bool:
    """The run trains a classification head."""
    return bool(run["config"].get("task") == "classification")


def tabs_of(run: dict[str, Any]) -> Tabs:
    """What can be looked at: classes where there are figures of some, rows in place of answers for a head."""
    if not (run["verdict"] or {}).get("classification"):
        return TABS
    tabs: Tabs = {}
    for title, show in TABS.items():
        tabs[title] = draw_class_samples if show is run_details.draw_samples and classifies(run) else show
        if show is run_live.draw_learning:
            tabs[CLASSES] = draw_classes
    return tabs


main()
