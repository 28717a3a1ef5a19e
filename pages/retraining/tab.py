"""The Improve tab of a model: the active or linked improvement, the form that starts one, past ones, and
the schedule.

Errors are shown at their fields before anything is queued.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.registry.model_links import PAGE, build_improve_query
from pages.retraining import retraining_queries
from pages.retraining.decision import describe_change, is_share_metric
from pages.retraining.improve_links import IMPROVEMENT
from pages.retraining.improvement import draw_improvement, format_badge
from pages.retraining.row_sources import KINDS, RowSourceSelection, draw_sources, list_serving_endpoints
from pages.retraining.settings import describe_training_time, draw_schedule, draw_settings
from pages.shared import display
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, get_client, has_right, show_error
from store.core.errors import ConfigError, NotFoundError, TunebenchError
from store.core.formatting import plural
from store.core.model_schemas import ModelSummary, ModelVersion
from store.http.client import Client
from store.retraining.config import MIN_ROWS, ImproveConfig
from store.retraining.improvements import MAX_LISTED
from store.retraining.schemas import AT_WORK, RESUMED, Improvement
from store.retraining.text import ANSWERS, ROWS
from store.serving.text import build_feedback_example

KEY = "improve-begin"


def draw_form(model: ModelSummary, past: Sequence[Improvement]) -> None:
    """Draw the form that starts an improvement, with its estimated training time."""
    form = ModelForm(ImproveConfig, f"{KEY}-")
    rows = draw_sources(model, past, KEY, feedback_alone=False)
    form.mark("rows")
    run = draw_settings(form, model)
    form.draw_field("name", width=300)
    trained = None if rows.rows is None else round(rows.rows * (1 - form.values["held_out"]))
    st.caption(f":material/schedule: {escape_markdown(describe_training_time(run, trained))}")
    if st.button("Start improvement", type="primary", icon=":material/autorenew:", key=f"{KEY}-go"):
        _begin_improvement(form, rows)


def _begin_improvement(form: ModelForm[ImproveConfig], rows: RowSourceSelection) -> None:
    """Queue the improvement and open it, or show the error at its field."""
    config = form.parse(rows=rows.sources)
    if config is None:
        return
    try:
        if rows.rows is not None and rows.rows < MIN_ROWS:
            raise ConfigError(
                f"At least {MIN_ROWS} new rows are needed; there are {rows.rows:,}.",
                fix="Get more answers corrected or labelled, or add another source.",
                field="rows",
            )
        answer = get_client().command("begin_improvement", config.document())
    except TunebenchError as error:
        form.show(error)
        return
    st.cache_data.clear()
    st.query_params.from_dict(
        {"model": config.model, "tab": "improve", IMPROVEMENT: answer["improvement_id"]}
    )
    st.rerun()


PAGE_ROWS = 10


def draw_list(model: ModelSummary, listed: Sequence[Improvement]) -> None:
    """Draw past improvements, newest first."""
    st.markdown(f"**{plural(len(listed), 'improvement')} of {escape_markdown(model.name)}**")
    pages = -(-len(listed) // PAGE_ROWS)
    slot = st.container(gap="small")
    number = st.pagination(pages, key="improve-page") if pages > 1 else 1
    with slot:
        for improvement in listed[PAGE_ROWS * (number - 1) : PAGE_ROWS * number]:
            _draw_line(model, improvement)
    if len(listed) == MAX_LISTED:
        st.caption(f"Showing the newest {MAX_LISTED}; `tunebench improvements` lists all.")


def _draw_line(model: ModelSummary, improvement: Improvement) -> None:
    with (
        st.container(border=True, horizontal=True, vertical_alignment="center"),
        st.container(gap=None, width="stretch"),
    ):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.page_link(
                PAGE,
                label=f"**{escape_markdown(improvement.name)}**",
                query_params=build_improve_query(model.name, **{IMPROVEMENT: improvement.improvement_id}),
            )
            st.markdown(format_badge(improvement), width="content")
        st.caption(escape_markdown(" · ".join(build_summary(improvement))))


def build_summary(improvement: Improvement) -> list[str]:
    """Summarize an improvement: version, rows, changes on old and new rows, and who decided."""
    facts = improvement.facts
    parts = [f"{facts['version']}" if "version" in facts else ""]
    if rows := facts.get("rows"):
        parts.append(plural(rows.train + rows.held_out, "new row"))
    checks = facts["gate"].checks if "gate" in facts else []
    for rows_meant, check in zip(ROWS, checks, strict=False):
        if check.value is not None:
            words = describe_change(check.value, shares=is_share_metric(check))
            answer = "" if check.answer == "passed" else f", {ANSWERS[check.answer]}"
            parts.append(f"{rows_meant}: {words}{answer}")
    if improvement.ended_by_name:
        parts.append(f"{improvement.ended_by_name}, {display.format_ago(improvement.ended_at)}")
    elif improvement.state in RESUMED and improvement.trouble:
        parts.append(improvement.trouble["message"])
    else:
        parts.append(f"started {display.format_ago(improvement.begun_at)}")
    return [part for part in parts if part]


WHAT = (
    "Turn corrected and labelled answers into rows. Most are added to the training data; the rest "
    "are held out for evaluation. The new version is compared with the one in use on old and new "
    "rows, and **you** decide whether to promote it."
)


def draw_improve(_: Client, model: ModelSummary, __: ModelVersion) -> None:
    """Draw the tab."""
    listed = retraining_queries.list_improvements(model.model_id)
    if asked := st.query_params.get(IMPROVEMENT, ""):
        _draw_back_link(model)
        chosen = _find_linked_improvement(model, asked)
        if chosen is not None:
            draw_improvement(model, chosen)
            return
    current = next((line for line in listed if line.state in AT_WORK), None)
    waits = next((line for line in listed[:1] if line.state == "waiting"), None)
    if (top := current or waits) is not None:
        draw_improvement(model, top)
    if not retraining_queries.list_aliases(model.model_id):
        _draw_no_alias(model)
        return
    _draw_begin(model, listed, current)
    draw_schedule(model, listed)
    if listed:
        draw_list(model, listed)


def _find_linked_improvement(model: ModelSummary, asked: str) -> Improvement | None:
    try:
        chosen = retraining_queries.read_improvement(asked)
    except NotFoundError as error:
        show_error(error)
        return None
    if chosen.model_id != model.model_id:
        show_error(NotFoundError(f"The improvement {chosen.name!r} belongs to another model."))
        return None
    return chosen


def _draw_back_link(model: ModelSummary) -> None:
    pressed = st.button(
        f"All improvements of {escape_markdown(model.name)}", type="tertiary",
            icon=":material/arrow_back:",
        key="improve-back",
    )  # fmt: skip
    if pressed:
        st.query_params.pop(IMPROVEMENT, None)
        st.rerun()


def _draw_no_alias(model: ModelSummary) -> None:
    st.markdown(WHAT)
    st.markdown("No version is in use yet. Promote one to **production**, or another alias, first.")
    if has_right("work") and st.button(
        "Promote to production", type="primary", icon=":material/verified:", key="improve-first"
    ):
        st.query_params.from_dict({"model": model.name, "tab": "gate"})
        st.rerun()


def _draw_begin(model: ModelSummary, listed: Sequence[Improvement], current: Improvement | None) -> None:
    asked = any(st.query_params.get(kind) for kind in KINDS)
    if not has_right("work"):
        if not listed:
            st.markdown(WHAT)
            st.caption("A member can start an improvement.")
        return
    if current is not None:
        taken = {line.alias for line in listed if line.state in AT_WORK}
        if all(line.alias in taken for line in retraining_queries.list_aliases(model.model_id)):
            st.caption(
                f"You can start the next one once {escape_markdown(current.name)} is promoted, "
                "declined or stopped."
            )
            return
    if current is not None or (listed and not asked):
        title = "New improvement"
        with st.expander(title, icon=":material/add:", expanded=asked and current is None):
            draw_form(model, listed)
        return
    st.markdown(WHAT)
    if not listed and not asked and not retraining_queries.list_returned(model.name, None):
        _draw_no_feedback(model)
    with st.container(border=True, key="improve-form"):
        draw_form(model, listed)


def _draw_no_feedback(model: ModelSummary) -> None:
    """Explain how to collect corrected or labelled answers if there are none."""
    with st.container(border=True, key="improve-nothing"):
        st.markdown(":material/inbox: **No feedback yet.** There are three ways to collect rows:")
        st.markdown("- Clients send the correct answer with the `id` of the response, at any later time:")
        st.code(build_feedback_example(_format_endpoint_address(model)), language="bash", wrap_lines=True)
        st.markdown("- People label or correct answers in a rating round.")
        st.markdown("- Use rows that you already have: choose a data set below.")
        with st.container(horizontal=True):
            st.page_link("pages/monitoring/monitor.py", label="View requests", icon=":material/monitoring:")
            st.page_link("pages/rating/rating.py", label="Start rating round", icon=":material/rate_review:")


def _format_endpoint_address(model: ModelSummary) -> str:
    names = list_serving_endpoints(model)
    for seen in retraining_queries.list_endpoints():
        if seen.endpoint_id in names and seen.state:
            return seen.state.address
    return "http://127.0.0.1:8600"
