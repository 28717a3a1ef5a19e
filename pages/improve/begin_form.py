"""The form that begins an improvement. What is wrong is said at its field, before anything is queued."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.improve import improve_reads
from pages.improve.row_sources import ChosenRows, draw_sources
from pages.improve.settings_fields import draw_problem, draw_settings, time_words
from pages.run_parts import run_reads
from pages.run_parts.improve_link import IMPROVEMENT
from pages.shared.session import client, plain
from store.config.shipping.improve_config import LEAST_ROWS, ImproveConfig
from store.contract.errors import ConfigError, NotFoundError, TunebenchError
from store.documents.shipping.improve_settings import AskedImprovement, AskedSettings
from store.documents.shipping.version import ModelLine
from store.documents.tables.improvement import Improvement
from store.documents.tables.run import Run

KEY = "improve-begin"
PROBLEMS = f"{KEY}-problems-"  # in the session state, with the name of the model
AT_FIELDS = ("rows", "alias", "run", "metric", "margin", "held_out", "name")


def draw_form(model: ModelLine, past: Sequence[Improvement]) -> None:
    """The fields, what it will take, and the button."""
    problems: dict[str, str] = st.session_state.get(PROBLEMS + model["name"], {})
    rows = draw_sources(model, past, KEY, feedback_alone=False)
    draw_problem(problems, "rows")
    settings = draw_settings(model, KEY, problems, None)
    name = st.text_input(
        "Name", key=f"{KEY}-name", max_chars=80, placeholder="From the model and the day", width=300
    )
    draw_problem(problems, "name")
    st.caption(f":material/schedule: {plain(time_words(_run(settings), _trained(rows, settings)))}")
    for field, message in problems.items():
        if field.split(".")[0] not in AT_FIELDS:
            st.error(plain(message), icon=":material/error:")
    body: AskedImprovement = {**settings, "rows": rows.sources, "name": (name or "").strip()}
    if st.button("Begin the improvement", type="primary", icon=":material/autorenew:", key=f"{KEY}-go"):
        _begin(body, rows.rows)


def _trained(rows: ChosenRows, settings: AskedSettings) -> int | None:
    return None if rows.rows is None else round(rows.rows * (1 - settings["held_out"]))


def _run(settings: AskedSettings) -> Run | None:
    try:
        if settings["run"]:
            return run_reads.run(settings["run"])
        version = improve_reads.version(f"{settings['model']}@{settings['alias']}")
        return run_reads.run(version["run_id"]) if version["run_id"] else None
    except NotFoundError:
        return None


def _begin(body: AskedImprovement, rows: int | None) -> None:
    """Queue it and lead to it, or keep what is wrong for the next drawing of the form."""
    st.session_state.pop(PROBLEMS + body["model"], None)
    try:
        if not body["rows"]:
            raise ConfigError("Nothing says yet where new rows come from.", field="rows")
        if rows is not None and rows < LEAST_ROWS:
            raise ConfigError(
                f"It takes {LEAST_ROWS} new rows at least, and here are {rows:,}.",
                fix="Have more answers corrected or labelled, or take more sources.",
                field="rows",
            )
        config = ImproveConfig.parse(body)
        answer = client().command("begin_improvement", config.document())
    except TunebenchError as error:
        st.session_state[PROBLEMS + body["model"]] = {error.field or "": str(error)}
        st.rerun()
    st.cache_data.clear()
    st.query_params.from_dict(
        {"model": body["model"], "tab": "improve", IMPROVEMENT: answer["improvement_id"]}
    )
    st.rerun()
