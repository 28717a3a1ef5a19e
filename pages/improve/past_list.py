"""Improvements of a model that are over or under way, a page at a time: what was gained, and who decided."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.improve.change_picture import change_words, in_shares
from pages.improve.improvement_view import badge
from pages.run_parts.improve_link import IMPROVEMENT, PAGE, improve_query
from pages.shared import quantities
from pages.shared.session import plain
from store.documents.shipping.version import ModelLine
from store.documents.tables.improvement import RESUMED, Improvement
from store.queries.shipping.improvements import MOST
from store.words.improvement_words import ANSWERS, ROWS

PAGE_ROWS = 10


def draw_list(model: ModelLine, listed: Sequence[Improvement]) -> None:
    """Newest first."""
    st.markdown(f"**{plural(len(listed), 'improvement')} of {plain(model['name'])}**")
    pages = -(-len(listed) // PAGE_ROWS)
    slot = st.container(gap="small")
    number = st.pagination(pages, key="improve-page") if pages > 1 else 1
    with slot:
        for improvement in listed[PAGE_ROWS * (number - 1) : PAGE_ROWS * number]:
            _draw_line(model, improvement)
    if len(listed) == MOST:
        st.caption(f"The newest {MOST}; `tunebench improvements` lists all of them.")


def _draw_line(model: ModelLine, improvement: Improvement) -> None:
    with (
        st.container(border=True, horizontal=True, vertical_alignment="center"),
        st.container(gap=None, width="stretch"),
    ):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.page_link(
                PAGE,
                label=f"**{plain(improvement['name'])}**",
                query_params=improve_query(model["name"], **{IMPROVEMENT: improvement["improvement_id"]}),
            )
            st.markdown(badge(improvement), width="content")
        st.caption(plain(" · ".join(summary(improvement))))


def summary(improvement: Improvement) -> list[str]:
    """Version, rows, what changed on old and new rows, and whose word it was."""
    facts = improvement["facts"]
    parts = [f"{facts['version']}" if "version" in facts else ""]
    if rows := facts.get("rows"):
        parts.append(plural(rows["train"] + rows["held_out"], "new row"))
    checks = facts["gate"]["checks"] if "gate" in facts else []
    for rows_meant, check in zip(ROWS, checks, strict=False):
        if check["value"] is not None:
            words = change_words(check["value"], shares=in_shares(check))
            answer = "" if check["answer"] == "passed" else f", {ANSWERS[check['answer']]}"
            parts.append(f"{rows_meant}: {words}{answer}")
    if improvement["ended_by_name"]:
        parts.append(f"{improvement['ended_by_name']}, {quantities.ago(improvement['ended_at'])}")
    elif improvement["state"] in RESUMED and improvement["trouble"]:
        parts.append(improvement["trouble"]["message"])
    else:
        parts.append(f"begun {quantities.ago(improvement['begun_at'])}")
    return [part for part in parts if part]
