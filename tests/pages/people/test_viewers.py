"""What a viewer is not offered, as the engine would refuse it."""

from __future__ import annotations

import pytest

from pages.data.explore.row_filter import CLEAN_TAB, ROWS_TAB, tabs_key
from pages.shared import session
from pages.shared.features import load_page_features
from store.core.features import FEATURES
from store.core.home import Home
from store.core.rights import OWNER
from tests.pages.conftest import Open
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, VIEWER

RUN = "pages/runs/run.py"


OFFERED = {"archives": "run-bundle", "bias": "bias-open", "registry": "run-register"}  # buttons of a run


@pytest.mark.parametrize("name", sorted(OFFERED.keys() & set(FEATURES)))
def test_bundles_bias_checks_and_versions_are_for_members(open_as: OpenAs, name: str) -> None:
    for person, offered in ((ADA, True), (VIEWER, False)):
        at = open_as(person, RUN, run="r000001")
        assert (OFFERED[name] in {button.key for button in at.button}) is offered


PAGES: list[tuple[str, dict[str, str]]] = [
    ("pages/overview/overview.py", {}),
    ("pages/data/data.py", {}),
    ("pages/data/data.py", {"view": "import"}),
    ("pages/data/data.py", {"dataset": "d00000"}),
    ("pages/data/data.py", {"dataset": "d00000", "row": "1"}),
    ("pages/training/launch.py", {}),
    ("pages/runs/run.py", {"run": "r000001"}),
    ("pages/comparison/compare.py", {"runs": "r000001,r000002"}),
    ("pages/evaluation/evaluations.py", {}),
    ("pages/people/activity.py", {}),
    ("pages/evaluation/truth.py", {}),
    *((each.screen.path, {}) for feature in load_page_features().values() for each in feature.screens),
]


@pytest.mark.parametrize(("page", "query"), PAGES)
def test_no_page_asks_for_what_a_viewer_may_not(open_as: OpenAs, page: str, query: dict[str, str]) -> None:
    at = open_as(VIEWER, page, **query)
    errors = [error.value for error in at.error]
    assert not [text for text in errors if "may not" in text], errors


def test_a_viewer_is_told_who_launches_and_imports(open_as: OpenAs) -> None:
    pages: tuple[tuple[str, dict[str, str], str], ...] = (
        ("pages/training/launch.py", {}, "This page is for members and admins, and you are a viewer."),
        ("pages/data/data.py", {"view": "import"}, "As a viewer"),
    )
    for page, query, words in pages:
        at = open_as(VIEWER, page, **query)
        assert [note.value for note in at.info if words in note.value]
        assert "launch-button" not in {button.key for button in at.button}


def test_cleaning_and_sql_are_for_members(open_as: OpenAs) -> None:
    for person, offered in ((ADA, True), (VIEWER, False)):
        at = open_as(person, "pages/data/data.py", dataset="d00000")
        at.session_state[tabs_key("d00000")] = ROWS_TAB
        at.run()
        assert ("Ask in SQL" in [box.label for box in at.expander]) == offered
        at.session_state[tabs_key("d00000")] = CLEAN_TAB
        at.run()
        assert (not [note for note in at.info if "Members can clean" in note.value]) == offered
        assert not at.error


def test_paths_are_for_the_owner_of_the_machine(open_as: OpenAs) -> None:
    """Who may import and register, and would be refused for a path."""
    for person, offered in ((OWNER, True), (ADA, False)):
        at = open_as(person, "pages/data/data.py", view="import")
        assert ("A file on this machine" in at.get_by_key("import-kind").options) is offered
        if "bias" in FEATURES:
            at = open_as(person, RUN, run="r000001", tab="bias")
            assert ("bias-path" in {field.key for field in at.text_input}) is offered
        if "registry" in FEATURES:
            at = open_as(person, "pages/registry/models.py")
            choices = [group for group in at.get("button_group") if group.key == "models-what"]
            assert bool(choices) is offered


def test_a_viewer_is_offered_no_first_step(
    open_page: Open, empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "get_current_person", lambda: VIEWER)
    at = open_page(empty_home)
    assert "sample" not in {button.key for button in at.button}
    assert [note for note in at.info if "launch the first run" in note.value]
