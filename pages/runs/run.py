"""The page of one run, from the queue to its verdict, or a search if the link names none.

Live parts are fragments that refresh only while the run is active; when its status changes the page is drawn
once more. The link is `?run=ID` (or a name) with `&tab=NAME` for a view other than the first.
"""

from __future__ import annotations

import json
from typing import Literal

import streamlit as st

from pages.evaluation.classes import draw_class_samples, draw_classes
from pages.evaluation.evaluation_list import draw_evaluations
from pages.people import activity_feed
from pages.people.edit_conflicts import FieldEdit
from pages.runs import detail_tabs, live_status
from pages.runs.detail_tabs import draw_slices
from pages.runs.forgetting import draw_forgetting
from pages.runs.interpolation import can_interpolate, draw_interpolation
from pages.runs.live_status import draw_failure
from pages.runs.overfitting import draw_overfitting
from pages.runs.table.all_runs import draw_all_runs
from pages.shared import cached_queries, display, run_queries
from pages.shared.features import add_feature_tabs, list_parts
from pages.shared.layout import COST, INTERPOLATION, LINK, Tab, draw_tab_bar, get_linked_tab
from pages.shared.run_chips import (
    describe_changes,
    draw_chip_link,
    draw_verdict_card,
    format_run_dot,
    format_status_badge,
)
from pages.shared.run_results import draw_class_numbers, draw_key_numbers, draw_preference_numbers
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    send_command,
    show_error,
    show_errors,
)
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE, RESUMABLE
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import Run
from store.training.methods import METHODS
from store.training.train_config import TASK_TITLES

SHOWN = 15


def choose_run() -> None:
    """Draw the page without a run: all of them.

    If the link asks for interpolation, only runs that may have some are listed.
    """
    if get_linked_tab() != INTERPOLATION:
        draw_all_runs()
        return
    st.title("Runs", anchor=False)
    statuses = ("finished",)
    if not cached_queries.count_runs("", statuses):
        _draw_no_interpolation()
        return
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
        _draw_run(run, INTERPOLATION, mixed=run.run_id in mixed)
    st.caption(f"{len(runs)} of {plural(matching, 'run')}, newest first.")


def _draw_no_interpolation() -> None:
    st.markdown("No finished run yet. Once there is one, interpolate between it and its base model here.")
    if has_right("work") and st.button(
        "Launch a run", type="primary", icon=":material/rocket_launch:", key="mix-launch"
    ):
        st.switch_page("pages/training/launch.py")


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
    _draw_header(run)
    draw_failure(run)
    if run.verdict:
        draw_verdict_card(run.verdict, run.run_id)
        if run.status == "finished" and not is_classifier(run):
            for draw in list_parts(lambda feature: feature.draw_run_summary):
                draw(run.run_id)
        _draw_numbers(run, run.verdict)
    _draw_alerts(run)
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


# The header: identity, actions and notices.


def _draw_header(run: Run) -> None:
    """Draw name, status, facts in one line, and the actions allowed in the run's state."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(width="content", gap=None):
            name = f"{format_run_dot(run.number)} {escape_markdown(run.name)}"
            st.title(name, anchor=False, width="content")
        _draw_actions(run)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All runs", type="tertiary", icon=":material/arrow_back:", key="runs-back"):
            st.switch_page("pages/runs/run.py")
        st.markdown(f"{format_status_badge(run.status)} {_format_facts(run)}", width="content")
    if run.config.get("parent"):
        _draw_parent(run)
    for draw in list_parts(lambda feature: feature.draw_run_origin):
        draw(run)
    for draw in list_parts(lambda feature: feature.draw_run_use):
        draw(run)
    if run.notes:
        st.caption(escape_markdown(run.notes))


def _draw_parent(run: Run) -> None:
    """Draw the parent or the source of an interpolation, if it still exists, with a link to compare both."""
    try:
        parent = run_queries.find_run(run.config["parent"])
    except NotFoundError:
        return
    alpha = run.facts.get("alpha")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Interpolated from" if alpha else "Changes", width="content")
        with st.container(width="content"):
            draw_chip_link(parent)
        difference = f"at α {alpha:g}" if alpha else describe_changes(parent.config, run.config)
        st.markdown(escape_markdown(difference), width="content")
        if run.status == "finished" and st.button(
            "Compare on the plot", icon=":material/balance:", type="tertiary", key="run-beside"
        ):
            link = {LINK: COST, "run": run.run_id, "dataset": run.dataset_name}
            st.switch_page("pages/comparison/compare.py", query_params=link)


def _format_facts(run: Run) -> str:
    task: str = run.config.get("task", "sft")
    maker = activity_feed.describe_creator(run.created_by)
    by = f"by {escape_markdown(maker)}, " if maker else ""
    parts = [
        *([TASK_TITLES.get(task, task)] if task != "sft" else []),
        METHODS[run.method].title,
        escape_markdown(str(run.model).rstrip("/").rsplit("/", 1)[-1]),
        escape_markdown(run.dataset_name),
        f"launched {by}{display.format_ago(run.created_at)}",
    ]
    took = display.format_elapsed(run.started_at, run.ended_at)
    if took != "–":
        parts.append(f"took {took}")
    if run.attempt > 1:
        parts.append(f"attempt {run.attempt}")
    return f":gray[{' · '.join(parts)}]"


def _draw_actions(run: Run) -> None:
    run_id, status = run.run_id, run.status
    with st.container(horizontal=True, width="content", gap="small"):
        if status in ALIVE and has_right("work"):
            stopping = bool(run.cancel_requested_at)
            label = "Stopping" if stopping else "Cancel"
            if st.button(label, icon=":material/stop_circle:", disabled=stopping, key="run-cancel"):
                _send_action("cancel", run_id)
        if status in RESUMABLE and has_right("work"):
            # If the cause of the failure can be changed, that is the more likely step; it is offered below.
            likely: Literal["primary", "secondary"] = (
                "secondary" if run.error and run.error.get("change") else "primary"
            )
            if st.button("Resume", icon=":material/resume:", type=likely, key="run-resume"):
                _send_action("resume", run_id)
        if has_right("work") and st.button(
            "Clone", icon=":material/content_copy:", key="run-clone", help="Launch with this config"
        ):
            st.switch_page("pages/training/launch.py", query_params={"from": run_id})
        if (
            status == "finished"
            and has_right("work")
            and st.button(
                "Continue training",
                icon=":material/fast_forward:",
                key="run-continue",
                help="Launch a run that continues from this model",
            )
        ):
            link = {"from": run_id, "change": json.dumps({"init_from": run_id, "init_mode": "stack"})}
            st.switch_page("pages/training/launch.py", query_params=link)
        if status == "finished":
            for draw in list_parts(lambda feature: feature.draw_run_button):
                draw(run)
        if status == "finished" and st.button(
            "Compare", icon=":material/stacked_line_chart:", key="run-compare"
        ):
            st.switch_page("pages/comparison/compare.py", query_params={"runs": run_id})
        if has_right("work"):
            _draw_more_actions(run)


def _draw_more_actions(run: Run) -> None:
    with st.popover("More", icon=":material/more_horiz:", key="run-more"):
        _draw_edit(run)
        if run.status == "finished":
            for draw in list_parts(lambda feature: feature.draw_run_action):
                draw(run)
        if run.status in ALIVE:
            st.caption("Cancel the run before you delete it.")
        elif st.button("Delete", icon=":material/delete:", key="run-delete"):
            _confirm_delete(run)


def _draw_edit(run: Run) -> None:
    edit = FieldEdit(f"run-edit-{run.run_id}", {"name": run.name, "notes": run.notes})
    with st.form("run-edit", border=False):
        name = st.text_input("Name", edit.seen["name"], max_chars=120, key=edit.widget_key("name"))
        notes = st.text_area(
            "Notes", edit.seen["notes"], max_chars=10_000, height=120, key=edit.widget_key("notes")
        )
        saved = st.form_submit_button("Save", icon=":material/save:")
    typed = {"name": (name or "").strip(), "notes": (notes or "").strip()}
    mine = edit.take_mine({"name": "Name", "notes": "Notes"}, typed)
    if (saved or mine) and edit.save("edit_run", {"run": run.run_id}, typed, "Saved"):
        st.rerun()


@st.dialog("Delete this run?")
def _confirm_delete(run: Run) -> None:
    st.markdown(
        f"**{escape_markdown(run.name)}** is deleted permanently, with its curves, samples,"
        " checkpoints, trained weights, and"
        " its comments."
    )
    st.button(
        "Delete permanently",
        type="primary",
        icon=":material/delete:",
        key="run-delete-sure",
        on_click=_delete,
        args=(run.run_id,),
    )


def _delete(run_id: str) -> None:
    if send_command("delete", {"job": run_id}, "Deleted") is not None:
        st.switch_page("pages/overview/overview.py")


def _send_action(command: str, run_id: str) -> None:
    """Send a command. The page shows the result; a toast would cover the buttons."""
    if send_command(command, {"job": run_id}) is not None:
        st.rerun()


def _draw_alerts(run: Run) -> None:
    """Draw the alerts without repetition, and without those covered by the verdict card."""
    seen: dict[str, str] = {}
    for alert in run_queries.list_alerts(run.run_id):
        if not (alert.kind and run.verdict):
            seen[alert.message] = alert.level
    icons = {"warning": ":orange[:material/warning:]", "info": ":gray[:material/info:]"}
    for message, level in seen.items():
        st.markdown(f"{icons.get(level, icons['info'])} {escape_markdown(message)}")


main()
