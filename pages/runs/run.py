"""The page of one run, from the queue to its verdict, or a search if the link names none.

Live parts are fragments that refresh only while the run is active; when its status changes the page is drawn
once more. The link is `?run=ID` (or a name) with `&tab=NAME` for a view other than the first.
"""

from __future__ import annotations

import streamlit as st

from pages.evaluation.classes import draw_class_samples, draw_classes
from pages.evaluation.evaluation_list import draw_evaluations
from pages.runs import detail_tabs, live_status
from pages.runs.detail_tabs import draw_slices
from pages.runs.forgetting import draw_forgetting
from pages.runs.header import draw_alerts, draw_header
from pages.runs.interpolation import can_interpolate, draw_interpolation
from pages.runs.live_status import draw_failure
from pages.runs.overfitting import draw_overfitting
from pages.shared import cached_queries, display, run_queries
from pages.shared.features import add_feature_tabs, list_parts
from pages.shared.layout import INTERPOLATION, Tab, draw_tab_bar, get_linked_tab
from pages.shared.run_chips import draw_chip_link, draw_verdict_card, format_status_badge
from pages.shared.run_results import draw_class_numbers, draw_key_numbers, draw_preference_numbers
from pages.shared.session import has_right, live, require_member, show_error, show_errors
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import Run

SHOWN = 15


def choose_run() -> None:
    """Draw the page without a run: a search.

    If the link asks for interpolation, only runs that may have some are listed.
    """
    st.title("Runs", anchor=False)
    between = get_linked_tab() == INTERPOLATION
    statuses = ("finished",) if between else ()
    if not cached_queries.count_runs("", statuses):
        _draw_run_list(between)
        return
    if between:
        st.markdown(
            "Interpolating between the weights of a run and its base model keeps part of the gain and"
            " forgets less, without training. Select a run to find the best share."
        )
    search = st.text_input(
        "Search runs",
        key="run-search",
        type="search",
        live="300ms",
        placeholder="Search name, notes, data set, model",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    runs = run_queries.list_newest_runs((search or "").strip(), statuses, SHOWN)
    matching = cached_queries.count_runs((search or "").strip(), statuses)
    mixed = run_queries.list_interpolated_runs()
    for run in runs:
        _draw_run(run, INTERPOLATION if between else "", mixed=run.run_id in mixed)
    st.caption(f"{len(runs)} of {plural(matching, 'run')}, newest first.")


def _draw_run_list(between: bool) -> None:
    if between:
        st.markdown("No finished run yet. Once there is one, interpolate between it and its base model here.")
        if has_right("work") and st.button(
            "Launch a run", type="primary", icon=":material/rocket_launch:", key="mix-launch"
        ):
            st.switch_page("pages/training/launch.py")
        return
    if not require_member("launch the first run; its progress and results appear here"):
        return
    st.markdown("No runs yet. Start with the sample experiment, or configure your own run.")
    with st.container(horizontal=True):
        st.page_link(
            "pages/overview/overview.py", label="Run the sample experiment", icon=":material/play_arrow:"
        )
        st.page_link("pages/training/launch.py", label="Set up a run yourself", icon=":material/tune:")


def _draw_run(run: Run, tab: str, *, mixed: bool) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        draw_chip_link(run, tab)
        st.markdown(format_status_badge(run.status), width="content")
        scored = " · shares scored" if mixed else ""
        st.caption(f"{display.format_ago(run.created_at)}{scored}", width="stretch")
        if run.verdict:
            st.markdown(f"gain {display.format_estimate(run.verdict.gain)}", width="content")
        elif run.best_eval_loss is not None:
            change = display.format_transition(run.base_eval_loss, run.best_eval_loss)
            st.markdown(f"validation loss {change}", width="content")


# Tabs with several views, one of which is drawn. A feature's `FeatureTab` refers to a tab by these keys. A
# link names the view, so that links from before views were grouped still work.
GROUPS = {
    "training": ":material/monitoring: Training",
    "forgetting": ":material/psychology_alt: Forgetting",
    "outputs": ":material/forum: Outputs",
    "evaluations": ":material/fact_check: Evaluations",
    "details": ":material/info: Details",
}
TABS = {
    "learning": Tab("Curves", live_status.draw_learning, "training"),
    "overfitting": Tab(":material/u_turn_right: Overfitting", draw_overfitting),
    "forgetting": Tab("Results", draw_forgetting, "forgetting"),
    INTERPOLATION: Tab("Interpolation", draw_interpolation, "forgetting"),
    "samples": Tab("Samples", detail_tabs.draw_samples, "outputs"),
    "evaluations": Tab("Results", draw_evaluations, "evaluations"),
    "slices": Tab("Slices", draw_slices, "evaluations"),
    "config": Tab("Config", detail_tabs.draw_config, "details"),
    "log": Tab("Log", detail_tabs.draw_log, "details"),
    "comments": Tab("Comments", detail_tabs.draw_comments, "details"),
}
CLASSES = Tab("Classes", draw_classes, "training")
# All others do not change before the run ends.
LIVE_TABS = (live_status.draw_learning, draw_overfitting, draw_forgetting, detail_tabs.draw_log)


def main() -> None:
    asked = st.query_params.get("run", "")
    with show_errors():
        if not asked and get_linked_tab() == INTERPOLATION:
            asked = next(
                iter(run_queries.list_interpolated_runs()), ""
            )  # not written to the link, because Back would lead here again
        if not asked:
            choose_run()
            return
        try:
            run = run_queries.find_run(asked)
        except NotFoundError as error:
            show_error(error)
            choose_run()
            return
        draw_run(run)


def draw_run(run: Run) -> None:
    alive = run.status in ALIVE
    every = "2s" if alive else None
    draw_header(run)
    draw_failure(run)
    if run.verdict:
        draw_verdict_card(run.verdict, run.run_id)
        if run.status == "finished" and not is_classifier(run):
            for draw in list_parts(lambda feature: feature.draw_run_summary):
                draw(run.run_id)
        _draw_numbers(run, run.verdict)
    draw_alerts(run)
    if run.status != "queued":
        live(every)(live_status.draw_live)(run.run_id, run.status)
    else:
        live(every)(live_status.watch_run)(run.run_id, run.status)
    subject = {"run": run.run_id}
    tab, place = draw_tab_bar(list_tabs(run), "run-tabs", low=True, subject=subject, titles=GROUPS)
    with place:
        st.fragment(tab.draw, run_every=every if tab.draw in LIVE_TABS else None)(run.run_id)


def _draw_numbers(run: Run, verdict: Verdict) -> None:
    """Draw the key numbers for the task of the run."""
    if is_classifier(run) and verdict.classification:
        draw_class_numbers(verdict, verdict.classification)
    elif verdict.preference:
        draw_preference_numbers(verdict, verdict.preference)
    else:
        draw_key_numbers(verdict)


def is_classifier(run: Run) -> bool:
    """Whether the run trains a classification head."""
    return bool(run.config.get("task") == "classification")


def list_tabs(run: Run) -> dict[str, Tab]:
    """List the tabs and views of a run in order.

    Classes are shown if there are results by class, rows instead of samples for a classification head, and
    the interpolation if it is possible, or if the link asks for it and the tab explains why it is not.
    """
    tabs: dict[str, Tab] = {}
    of_classes = bool(run.verdict and run.verdict.classification)
    for name, tab in add_feature_tabs("run", TABS).items():
        if name == INTERPOLATION and not (can_interpolate(run) or get_linked_tab() == INTERPOLATION):
            continue
        tabs[name] = tab
        if of_classes and name == "learning":
            tabs["classes"] = CLASSES
        if of_classes and name == "samples" and is_classifier(run):
            tabs[name] = tab._replace(draw=draw_class_samples)
    return tabs


main()
