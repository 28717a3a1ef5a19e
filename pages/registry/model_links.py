"""The link to a model's page, and the hint about rows with which the model could be improved."""

from __future__ import annotations

import streamlit as st

PAGE = "pages/registry/models.py"
TAB = "improve"
FEEDBACK, ROUND, DATASET = "feedback", "round", "dataset"  # in the link: where rows come from
ROWS = (FEEDBACK, ROUND, DATASET, "alert", "slice")


def build_improve_query(model: str, **rows: str) -> dict[str, str]:
    """What the link says: `feedback` and `alert`, `round`, or `dataset` and `slice`; or `improvement`."""
    return {"model": model, "tab": TAB} | rows


def read_linked_rows() -> dict[str, str]:
    """Which rows the link of this page names."""
    return {name: st.query_params[name] for name in ROWS if st.query_params.get(name)}
