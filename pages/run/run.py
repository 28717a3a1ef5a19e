"""Run: did it learn, and how sure is that? One run from the queue to its verdict.

The verdict stands at the top once there is one. Live parts are fragments that refresh only while the run
is alive; when its status changes, the page is drawn once more. The link is `?run=ID` (or a name) and, of
another tab than the first, `&tab=NAME`.
"""

from __future__ import annotations

import streamlit as st

from pages.bias.bias_view import TAB, draw_bias, draw_line
from pages.classes.class_row_table import draw_class_samples
from pages.classes.class_view import draw_classes
from pages.evaluations.evaluations_view import draw_evaluations
from pages.exports.exports_view import draw_exports
from pages.rating.round_summaries import draw_run_rounds
from pages.run import run_details, run_live
from pages.run.forgetting.forgetting_view import draw_forgetting
from pages.run.mix.mix_view import draw_mix, has_between
from pages.run.overfitting.overfitting_view import draw_overfitting
from pages.run.run_header import draw_alerts, draw_header
from pages.run.run_slices import draw_slices
from pages.run.run_trouble import draw_trouble
from pages.run_parts import run_reads
from pages.run_parts.chips import verdict_card
from pages.run_parts.class_numbers import draw_class_numbers, draw_preference_numbers
from pages.run_parts.key_numbers import draw_key_numbers
from pages.run_parts.run_picker import choose_run
from pages.shared.session import guarded, live, show_error
from pages.shared.tabs import BETWEEN, Tab, asked_tab, open_tab
from store.contract.errors import NotFoundError
from store.contract.states import ALIVE
from store.documents.tables.run import Run
from store.documents.verdicts.verdict import Verdict

TABS = {
    "learning": Tab(":material/monitoring: Learning", run_live.draw_learning),
    "overfitting": Tab(":material/u_turn_right: Overfitting", draw_overfitting),
    "forgetting": Tab(":material/psychology_alt: Forgetting", draw_forgetting),
    BETWEEN: Tab(":material/linear_scale: Between", draw_mix),
    TAB: Tab(":material/balance: Bias", draw_bias),
    "samples": Tab(":material/forum: Samples", run_details.draw_samples),
    "evaluations": Tab(":material/fact_check: Evaluations", draw_evaluations),
    "rating": Tab(":material/rate_review: Rating", draw_run_rounds),
    "export": Tab(":material/output: Export", draw_exports),
    "slices": Tab(":material/pie_chart: Slices", draw_slices),
    "comments": Tab(":material/comment: Comments", run_details.draw_comments),
    "log": Tab(":material/terminal: Log", run_details.draw_log),
    "config": Tab(":material/settings: Config", run_details.draw_config),
}
CLASSES = Tab(":material/category: Classes", draw_classes)
# The others wait for the run to end.
MOVING = (run_live.draw_learning, draw_overfitting, draw_forgetting, run_details.draw_log)


def main() -> None:
    asked = st.query_params.get("run", "")
    with guarded():
        if not asked and asked_tab() == BETWEEN:
            asked = next(iter(run_reads.mixed()), "")  # not into the link: Back would lead here again
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


def draw(run: Run) -> None:
    alive = run["status"] in ALIVE
    every = "2s" if alive else None
    draw_header(run)
    draw_trouble(run)
    if run["verdict"]:
        verdict_card(run["verdict"], run["run_id"])
        if run["status"] == "finished" and not classifies(run):
            draw_line(run["run_id"])
        _draw_numbers(run, run["verdict"])
    draw_alerts(run)
    if run["status"] != "queued":
        live(every)(run_live.draw_live)(run["run_id"], run["status"])
    else:
        live(every)(run_live.watch)(run["run_id"], run["status"])
    tab, place = open_tab(tabs_of(run), "run-tabs", low=True, subject={"run": run["run_id"]})
    with place:
        st.fragment(tab.draw, run_every=every if tab.draw in MOVING else None)(run["run_id"])


def _draw_numbers(run: Run, verdict: Verdict) -> None:
    """Those that count for what the run was trained to do."""
    if classifies(run) and verdict["classification"]:
        draw_class_numbers(verdict, verdict["classification"])
    elif verdict["preference"]:
        draw_preference_numbers(verdict, verdict["preference"])
    else:
        draw_key_numbers(verdict)


def classifies(run: Run) -> bool:
    """The run trains a classification head."""
    return bool(run["config"].get("task") == "classification")


def tabs_of(run: Run) -> dict[str, Tab]:
    """What can be looked at: classes where there are figures of some, rows in place of answers for a head,
    and what lies between base and tuned model where there is something, or where a link asks why not."""
    tabs: dict[str, Tab] = {}
    of_classes = bool(run["verdict"] and run["verdict"]["classification"])
    for name, tab in TABS.items():
        if name == BETWEEN and not (has_between(run) or asked_tab() == BETWEEN):
            continue
        tabs[name] = tab
        if of_classes and name == "learning":
            tabs["classes"] = CLASSES
        if of_classes and name == "samples" and classifies(run):
            tabs[name] = Tab(tab.title, draw_class_samples)
    return tabs


main()
