"""The header of a run's page: identity, actions and notices."""

from __future__ import annotations

import json
from typing import Literal

import streamlit as st

from pages.people import activity_feed
from pages.people.edit_conflicts import FieldEdit
from pages.shared import display, run_queries
from pages.shared.features import list_parts
from pages.shared.layout import COST, LINK
from pages.shared.run_chips import describe_changes, draw_chip_link, format_run_dot, format_status_badge
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE, RESUMABLE
from store.runs.schemas import Run
from store.training.methods import METHODS
from store.training.train_config import TASK_TITLES


def draw_header(run: Run) -> None:
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


def draw_alerts(run: Run) -> None:
    """Draw the alerts without repetition, and without those covered by the verdict card."""
    seen: dict[str, str] = {}
    for alert in run_queries.list_alerts(run.run_id):
        if not (alert.kind and run.verdict):
            seen[alert.message] = alert.level
    icons = {"warning": ":orange[:material/warning:]", "info": ":gray[:material/info:]"}
    for message, level in seen.items():
        st.markdown(f"{icons.get(level, icons['info'])} {escape_markdown(message)}")
