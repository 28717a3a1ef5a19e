"""The link to a model's page, and the hint about rows with which the model could be improved."""

from __future__ import annotations

import streamlit as st

PAGE = "pages/registry/models.py"
TAB = "improve"
FEEDBACK, ROUND, DATASET = "feedback", "round", "dataset"  # link parameters: sources of rows
ROWS = (FEEDBACK, ROUND, DATASET, "alert", "slice")


def build_improve_query(model: str, **rows: str) -> dict[str, str]:
    """Build the link parameters of the Improve tab.

    rows: `feedback` and `alert`, `round`, or `dataset` and `slice`; or `improvement`.
    """
    return {"model": model, "tab": TAB} | rows


def read_linked_rows() -> dict[str, str]:
    """Return the source of rows named in the link of this page."""
    return {name: st.query_params[name] for name in ROWS if st.query_params.get(name)}
