"""A run's page under test: its charts by title, and its tabs, which AppTest can't click."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest

PAGE = "pages/run/run.py"


def charts(at: AppTest) -> dict[str, Any]:
    """Title of each chart on the page -> its figure as data."""
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    titles = [figure["layout"].get("title", {}).get("text") for figure in figures]
    return {title or "gain": figure for title, figure in zip(titles, figures, strict=True)}


def on_overfitting(at: AppTest) -> AppTest:
    at.session_state["run-tabs"] = ":material/u_turn_right: Overfitting"
    at.run()
    assert not at.exception
    return at


def on_forgetting(at: AppTest) -> AppTest:
    at.session_state["run-tabs"] = ":material/psychology_alt: Forgetting"
    at.run()
    assert not at.exception
    return at
