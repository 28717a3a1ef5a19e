"""All evaluations, a page at a time: found by words, data set and model; a click shows one in depth."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_form import MODELS, part_title
from pages.evaluations.evaluations_view import MAIN, cells, headlines, main_figure
from pages.people import activity_reads
from pages.shared import lists, quantities, reads
from pages.shared.session import show_error
from store.contract.errors import NotFoundError
from store.documents.evaluations.evaluation import Evaluation, EvaluationLine

PAGE = 20
TABLE, LINK = "evaluations-table", "evaluation"


def count() -> int:
    """Of all that are finished."""
    return evaluation_reads.listed("", "", "", 1, 0)[0]


def draw_list() -> Evaluation | None:
    """Filters, the table of one page, and the evaluation that the link or a click names."""
    search, dataset_id, model, mine = _filters()
    total, rows = lists.page_of(
        "evaluations-page",
        PAGE,
        lambda offset: evaluation_reads.listed(search, dataset_id, model, PAGE, offset, mine),
    )
    if not total:
        st.caption("No evaluation is like that.")
        return None
    heads = headlines(rows)
    ids = [row["evaluation_id"] for row in rows]
    st.dataframe(
        [_line(row, heads) for row in rows],
        hide_index=True,
        on_select=lambda: _picked(ids),
        selection_mode="single-row",
        key=TABLE,
        column_config={
            "Evaluation": st.column_config.TextColumn(width=150),  # so that the figure is in view on a phone
            MAIN: st.column_config.TextColumn(width=200),
        },
        alt="Evaluations, newest first",
    )
    pages = -(-total // PAGE)
    if pages > 1:
        st.pagination(pages, key="evaluations-page")
    counted = f"{len(rows)} of {phrasing.plural(total, 'evaluation')}" if pages > 1 else ""
    counted = counted or phrasing.plural(total, "evaluation")
    st.caption(f"{counted}, newest first; 95% intervals in brackets. A click on a line shows it below.")
    asked = st.query_params.get(LINK, "")
    try:
        return evaluation_reads.evaluation(asked or ids[0])
    except NotFoundError as error:
        show_error(error)
        return evaluation_reads.evaluation(ids[0])


def _filters() -> tuple[str, str, str, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search", key="evaluations-search", type="search", live="300ms", icon=":material/search:",
            placeholder="Search name, notes, data set, model", label_visibility="collapsed",
        )  # fmt: skip
        names = {row["dataset_id"]: row["name"] for row in reads.datasets()}
        dataset_id = st.selectbox(
            "Data set", ["", *names], format_func=lambda own: names.get(own, "All data sets"),
            key="evaluations-dataset", label_visibility="collapsed",
        )  # fmt: skip
        model = st.selectbox(
            "Model or run", ["", *evaluation_reads.models()],
            format_func=lambda name: name or "All models and runs",
            key="evaluations-model", label_visibility="collapsed",
        )  # fmt: skip
        mine = activity_reads.mine_alone("evaluation", "evaluations_mine")
    return (search or "").strip(), dataset_id or "", model or "", mine


def _picked(ids: list[str]) -> None:
    rows = st.session_state[TABLE]["selection"]["rows"]
    if rows:
        st.query_params[LINK] = ids[rows[0]]
    else:
        st.query_params.pop(LINK, None)


def _line(row: EvaluationLine, heads: dict[str, str]) -> dict[str, str | int]:
    return {
        "Evaluation": row["name"],
        MAIN: main_figure(row),
        "Model": MODELS[row["checkpoint"]] if row["run_id"] else row["model"],
        "Of the run": row["run_name"] or "–",
        "Data set": row["dataset_name"],
        "Rows": part_title(row),
        "n": row["n"],
        **cells(row, heads),
        "When": quantities.ago(row["created_at"]),
    }
