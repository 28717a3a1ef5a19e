"""A run's page under test: its charts by title, and its tabs, which AppTest can't click."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest

PAGE = "pages/runs/run.py"


def charts(at: AppTest) -> dict[str, Any]:
    """Title of each chart on the page -> its figure as data."""
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    titles = [figure["layout"].get("title", {}).get("text") for figure in figures]
    return {title or "gain": figure for title, figure in zip(titles, figures, strict=True)}


def on_tab(at: AppTest, tab: str) -> AppTest:
    """As a click on the tab does: the link names it."""
    at.query_params["tab"] = tab
    at.run()
    assert not at.exception, [error.value for error in at.exception]
    return at


def on_overfitting(at: AppTest) -> AppTest:
    return on_tab(at, "overfitting")


def on_forgetting(at: AppTest) -> AppTest:
    return on_tab(at, "forgetting")


def tab_titles(at: AppTest) -> list[str]:
    """What stands on the bar, without the icons."""
    return [tab.label.partition(": ")[2] for tab in at.tabs]


def view_titles(at: AppTest) -> list[str]:
    """What the open tab of a run can show; empty where that is one thing alone."""
    views = [control for control in at.segmented_control if (control.key or "").startswith("run-tabs-")]
    return [title for control in views for title in control.options]
