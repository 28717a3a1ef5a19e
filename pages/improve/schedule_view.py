"""The schedule of a model: when it is looked whether there are new rows enough, and what an improvement then
rests on. A person promotes, always."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.improve import improve_reads
from pages.improve.row_sources import draw_sources
from pages.improve.settings_fields import draw_problem, draw_settings
from pages.shared import figures, quantities
from pages.shared.session import act, client, may, plain
from store.config.shipping.improve_config import ImproveSchedule
from store.contract.errors import TunebenchError
from store.documents.shipping.improve_settings import AskedSchedule
from store.documents.shipping.version import ModelLine
from store.documents.tables.improvement import Improvement, ImprovementSchedule

KEY = "improve-schedule"
PROBLEMS = f"{KEY}-problems-"  # in the session state, with the name of the model
A_PERSON = "It gathers, trains and measures by itself. **A person promotes, always.**"


def draw_schedule(model: ModelLine, past: Sequence[Improvement]) -> None:
    """How it stands, then the form."""
    schedule = improve_reads.schedule(model["model_id"])
    with st.container(border=True, key="improve-schedule"):
        st.markdown("**On a schedule**")
        if schedule is None:
            st.caption(
                "Off. Switched on, it looks every so often whether people said enough of the answers."
                f" {A_PERSON}"
            )
        else:
            _draw_standing(model, schedule)
        if may("work"):
            title = "Change it" if schedule else "Put improvements on a schedule"
            opened = bool(st.session_state.get(PROBLEMS + model["name"]))
            with st.expander(title, icon=":material/event_repeat:", expanded=opened):
                _draw_form(model, past, schedule["config"] if schedule else None)


def _draw_standing(model: ModelLine, schedule: ImprovementSchedule) -> None:
    config = schedule["config"]
    least, rows = int(config["least_rows"]), schedule["last_rows"]
    every = quantities.span(3600 * float(config["every_hours"]))
    st.markdown(f"Every {every} it looks for new rows, and begins with {least:,} or more. {A_PERSON}")
    if rows is None:
        st.caption("It has not looked yet.")
    else:
        note = f"looked {quantities.ago(schedule['last_at'])}; {plural(max(0, least - rows), 'row')} to go"
        if rows >= least:
            note = f"looked {quantities.ago(schedule['last_at'])}; enough"
        st.html(
            figures.grid([
                figures.meter("New rows", f"{rows:,} of {least:,}", rows / least, note, warn=False)
            ], width=16)
        )  # fmt: skip
    if trouble := schedule["trouble"]:
        st.warning(
            plain(f"{trouble['message']} {trouble.get('fix') or ''}".strip()), icon=":material/warning:"
        )
    following = ""
    if schedule["last_at"] is not None:
        after = schedule["last_at"] + timedelta(hours=float(config["every_hours"]))
        following = f" Next look {after:%d %b, %H:%M} UTC."
    with st.container(horizontal=True, vertical_alignment="center"):
        by, when = plain(schedule["set_by_name"]), quantities.ago(schedule["set_at"])
        st.caption(f"Set by {by} {when}.{following}", width="stretch")
        if may("work") and st.button("Switch it off", icon=":material/event_busy:", key="improve-unschedule"):
            body = {"model": model["name"]}
            if act("unschedule_improvement", body, "The schedule is off.") is not None:
                st.rerun()


def _draw_form(model: ModelLine, past: Sequence[Improvement], before: AskedSchedule | None) -> None:
    problems: dict[str, str] = st.session_state.get(PROBLEMS + model["name"], {})
    with st.container(horizontal=True):
        every = st.number_input(
            "Look every (hours)", 1.0, 24.0 * 366, before["every_hours"] if before else 24.0, step=1.0,
            format="%g", key=f"{KEY}-every", width=200,
        )  # fmt: skip
        least = st.number_input(
            "New rows, at least", 20, 1_000_000, before["least_rows"] if before else 100, key=f"{KEY}-least",
            width=200, help="Corrections and labels since the last improvement",
        )  # fmt: skip
    draw_problem(problems, "every_hours")
    draw_problem(problems, "least_rows")
    rows = draw_sources(model, past, KEY, feedback_alone=True)
    draw_problem(problems, "rows")
    settings = draw_settings(model, KEY, problems, before)
    draw_problem(problems, "")
    if st.button("Save the schedule", icon=":material/event_repeat:", key=f"{KEY}-save"):
        _save({**settings, "rows": rows.sources, "every_hours": every, "least_rows": least})


def _save(body: AskedSchedule) -> None:
    st.session_state.pop(PROBLEMS + body["model"], None)
    try:
        client().command("schedule_improvement", ImproveSchedule.parse(body).document())
    except TunebenchError as error:
        st.session_state[PROBLEMS + body["model"]] = {error.field or "": str(error)}
        st.rerun()
    st.cache_data.clear()
    st.toast("The schedule is on.", icon=":material/check:")
    st.rerun()
