"""The menu by role: what is in it opens and refuses nothing, and what it shows may be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.features import Screen
from pages.shared.menu import list_screens
from store.core.features import FEATURES
from store.core.rights import RIGHTS
from store.core.schemas import Person, Role
from tests.pages.conftest import everything_said
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA

WORDS = ("may not", "This page is for", "Ask an admin for another role")
OPENED: dict[str, dict[str, str]] = {  # what a page is opened with beside nothing
    "data": {"dataset": "d00000"},
    "run": {"run": "r000001"},
    "compare": {"runs": "r000001,r000002"},
}


def somebody(role: Role) -> Person:
    return replace(ADA, role=role)


SCREENS = list_screens()


def refusals(at: AppTest) -> list[str]:
    lines = [*everything_said(at).splitlines(), *(error.value for error in at.error)]
    return [line for line in lines if any(word in line for word in WORDS)]


def opened(at: AppTest) -> set[str]:
    """The pages to which the page has links, by their addresses; the sidebar's too."""
    return {element.proto.page for element in at.get("page_link") if not element.proto.external}


CASES = [(role, entry) for role in RIGHTS for entry in SCREENS]
NAMES = [f"{role}-{entry.about['title']}" for role, entry in CASES]


@pytest.mark.parametrize(("role", "entry"), CASES, ids=NAMES)
def test_the_menu_has_what_opens_and_no_page_links_to_more(
    open_as: OpenAs, role: Role, entry: Screen
) -> None:
    if entry.about["title"] == "Launch" and "work" in RIGHTS[role]:
        return  # it asks for a preview, which nobody answers here; test_launch_page has it
    for query in ({}, OPENED.get(entry.address, {})):
        at = open_as(somebody(role), entry.path, **query)
        if role in entry.roles:
            assert refusals(at) == []
        else:
            (note,) = [note.value for note in at.info]
            assert f"you are a {role}" in note
            assert all(f"{other}s" in note for other in entry.roles)
        theirs = {each.address for each in SCREENS if role in each.roles}
        assert opened(at) <= theirs


@pytest.mark.parametrize("role", ["viewer", "rater"])
def test_no_button_is_refused(open_as: OpenAs, role: Role) -> None:
    """Each that a page shows is pressed; the engine behind is a real one, which knows whose it is."""
    refused = []
    for entry in (entry for entry in SCREENS if role in entry.roles):
        query = OPENED.get(entry.address, {})
        at = open_as(somebody(role), entry.path, **query)
        for place, button in enumerate(at.button):
            if button.disabled or button.label == "Sign out everywhere":
                continue
            pressed = open_as(somebody(role), entry.path, **query)
            pressed.button[place].click().run()
            refused += [(entry.path, button.label, line) for line in refusals(pressed)]
    assert not refused, "\n".join(map(str, refused))


def test_a_role_of_an_entry_is_one_that_the_engine_answers() -> None:
    """What a page needs stands in the table of rights, by which the engine answers."""
    by_title = {entry.about["title"]: entry.roles for entry in SCREENS}
    assert by_title["Launch"] == ["member", "admin"]
    if "rating" in FEATURES:
        assert by_title["Rating"] == ["viewer", "rater", "member", "admin"]
    assert by_title["Team"] == ["admin"]
    assert by_title["You"] == list(RIGHTS)
