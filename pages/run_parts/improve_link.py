"""The way to the improvement of a registered model, with what stands there already filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from store.contract.version_folders import is_reference

PAGE = "pages/models/models.py"
TAB = "improve"
IMPROVEMENT = "improvement"  # in the link: its id
FEEDBACK, ROUND, DATASET = "feedback", "round", "dataset"  # in the link: where rows come from
ROWS = (FEEDBACK, ROUND, DATASET, "alert", "slice")


def improve_query(model: str, **rows: str) -> dict[str, str]:
    """What the link says: `feedback` and `alert`, `round`, or `dataset` and `slice`; or `improvement`."""
    return {"model": model, "tab": TAB} | rows


def draw_improve_link(model: str, label: str, **rows: str) -> None:
    """The link."""
    st.page_link(PAGE, label=label, icon=":material/autorenew:", query_params=improve_query(model, **rows))


def asked_rows() -> dict[str, str]:
    """Which rows the link of this page names."""
    return {name: st.query_params[name] for name in ROWS if st.query_params.get(name)}


def models_of(settings: Mapping[str, Any]) -> list[str]:
    """Names of the registered models that an endpoint's settings have it serve."""
    routes = [route for model in settings.get("models", []) for route in model.get("routes", [])]
    subjects = [str(route.get("subject", "")) for route in routes]
    names = (subject.rpartition("@")[0] for subject in subjects if is_reference(subject))
    return list(dict.fromkeys(names))
