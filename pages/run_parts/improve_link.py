"""The way to the improvement of a registered model, with what stands there already filled in."""

from __future__ import annotations

import streamlit as st

PAGE = "pages/models/models.py"
TAB = "improve"
IMPROVEMENT = "improvement"  # in the link: its id


def improve_query(model: str, **rows: str) -> dict[str, str]:
    """What the link says: `feedback` and `alert`, `round`, or `dataset` and `slice`; or `improvement`."""
    return {"model": model, "tab": TAB} | rows


def draw_improve_link(model: str, label: str, **rows: str) -> None:
    """The link."""
    st.page_link(PAGE, label=label, icon=":material/autorenew:", query_params=improve_query(model, **rows))
