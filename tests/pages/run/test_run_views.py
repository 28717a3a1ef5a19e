"""A run's page has few tabs, of which some have several views: each is opened by its own link, and one alone
is drawn.
"""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from store.core.features import FEATURES
from store.runs import runs
from tests.pages.conftest import Open
from tests.pages.run.run_tabs import PAGE, on_tab, tab_titles, view_titles
from tests.pages.seeds.seed_classes import seed_classes
from tests.pages.still_engine import StillEngine, still_engine

MAX_TABS = 7
ALL_TABS = ["Training", "Overfitting", "Forgetting", "Outputs", "Evaluations", "Export", "Details"]
TABS = [title for title in ALL_TABS if title != "Export" or "export" in FEATURES]
VIEWS = {
    "learning": ("Training", ""),
    "overfitting": ("Overfitting", ""),
    "forgetting": ("Forgetting", "Results"),
    "between": ("Forgetting", "Interpolation"),
    "samples": ("Outputs", "Samples"),
    "rating": ("Outputs", "Ratings"),
    "evaluations": ("Evaluations", "Results"),
    "slices": ("Evaluations", "Slices"),
    "bias": ("Evaluations", "Bias"),
    "export": ("Export", ""),
    "config": ("Details", "Config"),
    "log": ("Details", "Log"),
    "comments": ("Details", "Comments"),
    "training": ("Training", ""),
    "outputs": ("Outputs", "Samples"),
    "details": ("Details", "Config"),
}
# Views of features, and of a tab that has several of them only with a feature.
FEATURE_OF = dict.fromkeys(["samples", "rating", "outputs"], "rating") | {"bias": "bias", "export": "export"}
LINKS = [
    pytest.param(link, marks=pytest.mark.feature(FEATURE_OF[link])) if link in FEATURE_OF else link
    for link in VIEWS
]
RUNS = ("learned", "overfit", "worse", "failed", "lost", "cancelled", "queued", "next", "live")


def open_view(at: AppTest) -> tuple[str, str]:
    """The open tab, and which of its views is chosen; empty of a tab that is one view."""
    (tab,) = [title for title in TABS if str(at.session_state["run-tabs"]).endswith(f": {title}")]
    chosen = [view.value for view in at.segmented_control if (view.key or "").startswith("run-tabs-")]
    return tab, str(chosen[0]) if chosen else ""


@pytest.mark.parametrize("run", RUNS)
def test_a_run_in_any_state_has_at_most_seven_tabs(engine: StillEngine, open_page: Open, run: str) -> None:
    at = open_page(engine.home, PAGE, run=run)
    assert tab_titles(at) == TABS
    assert len(tab_titles(at)) <= MAX_TABS


@pytest.mark.parametrize("task", ["dpo", "classification"])
def test_a_run_of_any_task_has_the_same_tabs(engine: StillEngine, open_page: Open, task: str) -> None:
    with engine.database.transaction() as tx:
        config = runs.get_run(tx, "twin").config
        runs.update(tx, "twin", config=config | {"task": task})
    try:
        assert tab_titles(open_page(engine.home, PAGE, run="twin")) == TABS
    finally:
        with engine.database.transaction() as tx:
            runs.update(tx, "twin", config=config)


@pytest.mark.parametrize("link", LINKS)
def test_every_link_opens_its_tab_and_view(engine: StillEngine, open_page: Open, link: str) -> None:
    at = open_page(engine.home, PAGE, run="learned", tab=link)
    assert open_view(at) == VIEWS[link]


def test_classes_are_a_view_of_the_training_where_there_are_some(
    tmp_path_factory: pytest.TempPathFactory, open_page: Open
) -> None:
    with still_engine(seed_classes(tmp_path_factory.mktemp("classes"))) as engine:
        at = open_page(engine.home, PAGE, run="head", tab="classes")
        assert tab_titles(at) == TABS
        assert open_view(at) == ("Training", "Classes")


@pytest.mark.feature("rating")
def test_a_click_on_a_view_is_in_the_link_and_draws_that_view_alone(
    engine: StillEngine, open_page: Open
) -> None:
    at = open_page(engine.home, PAGE, run="learned", tab="config")
    assert view_titles(at) == ["Config", "Log", "Comments"]
    keys = [control.key for control in at.segmented_control]
    assert keys == ["run-tabs-details"]
    at.segmented_control(key="run-tabs-details").set_value("Log").run()
    assert at.query_params["tab"] == "log"
    assert "log-tail" in [control.key for control in at.segmented_control]
    assert open_view(at) == ("Details", "Log")
    on_tab(at, "samples")
    assert open_view(at) == ("Outputs", "Samples")


def test_the_first_view_of_all_needs_no_word_in_the_link(
    tmp_path_factory: pytest.TempPathFactory, open_page: Open
) -> None:
    with still_engine(seed_classes(tmp_path_factory.mktemp("classes"))) as engine:
        at = open_page(engine.home, PAGE, run="head", tab="classes")
        at.segmented_control(key="run-tabs-training").set_value("Curves").run()
        assert "tab" not in at.query_params
