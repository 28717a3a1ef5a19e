"""The activity: who did what, narrowed, paged, with links to what is still there."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.people.activity_feed import LEADS_ON
from store.core.home import Home
from store.people.activity_text import ACTIONS
from tests.pages.conftest import Open, everything_said
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, BOB, Team

PAGE = "pages/people/activity.py"


def links(at: AppTest) -> list[tuple[str, str]]:
    """(label, address) of each link in the list."""
    protos = [link.proto for link in at.main.get("page_link")]
    return [(proto.label.replace("\\", ""), proto.query_string) for proto in protos]


def test_an_empty_store_says_what_will_stand_there(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert at.title[0].value == "Activity"
    assert "No activity yet" in everything_said(at)
    assert not at.selectbox


def test_lines_are_told_with_names_and_links(people: Team, open_as: OpenAs) -> None:
    people(BOB, "comment", subject_kind="row", subject_id="d00000/3", text="Is *this* right,\n@Ada <b>?")
    people(ADA, "delete", job="r000000")
    at = open_as(BOB, PAGE)
    lines = [text.value.replace("\\", "") for text in at.markdown]
    assert [line.partition(": ")[2] for line in lines if "**" in line] == [
        "**Ada <b>** deleted", "**You** commented on", "**You** renamed", "**Ada <b>** changed",
    ]  # fmt: skip
    assert "LoRA on Sums 0 #0" in lines  # gone: no link
    assert [label for label, _ in links(at)] == ["row 3 of Sums 0", "Sums 1", "LoRA on Sums 1 #1"]
    assert "“Is *this* right, @Ada <b>?”" in everything_said(at)
    assert "4 of 4 lines, newest first." in everything_said(at)


ALONE = {
    "make_key": "made a key",
    "comment": "commented",
    "keep_variant": "saved a mix",
    "promote": "promoted",
    "judge_rates": "let a judge rate",
    "check_bias": "checked for bias",
}


@pytest.mark.parametrize("command", sorted(ALONE.keys() & ACTIONS.keys()))  # those of features that are there
def test_on_the_page_of_a_thing_no_words_lead_on_to_its_name(command: str) -> None:
    assert LEADS_ON.sub("", ACTIONS[command].words) == ALONE[command]


def test_the_link_narrows_the_list_and_the_choices_write_the_link(people: Team, open_as: OpenAs) -> None:
    at = open_as(BOB, PAGE, by="p-ada", kind="Changed")
    assert at.selectbox(key="activity-by").value == "p-ada"
    assert "1 of 1 line, newest first." in everything_said(at)
    at.selectbox(key="activity-by").set_value("p-bob").run()
    assert at.query_params["by"] == "p-bob"
    assert "renamed" in everything_said(at)
    at.selectbox(key="activity-things").set_value("run").run()
    assert "No matching activity" in everything_said(at)
    at.selectbox(key="activity-things").set_value("").run()
    at.text_input(key="activity-text").set_value("mended").run()
    assert at.query_params["text"] == "mended"
    assert "1 of 1 line" in everything_said(at)
    assert "things" not in at.query_params


def test_a_link_with_what_nobody_knows_shows_nothing_and_no_error(open_as: OpenAs) -> None:
    at = open_as(BOB, PAGE, by="p-gone", kind="Flown", days="many", things="engines")
    assert at.selectbox(key="activity-by").value == "p-gone"
    assert "No matching activity" in everything_said(at)


def test_one_thing_alone_and_back(open_as: OpenAs) -> None:
    at = open_as(BOB, PAGE, about="run:r000001")
    assert at.button(key="activity-about").label == "Runs: LoRA on Sums 1 #1".replace("#", "\\#")
    assert "1 of 1 line" in everything_said(at)
    at.button(key="activity-about").click().run()
    assert "2 of 2 lines" in everything_said(at)


def test_mentions_of_who_looks(people: Team, open_as: OpenAs) -> None:
    people(BOB, "comment", subject_kind="run", subject_id="r000001", text="See @Ada <b>")
    people(ADA, "comment", subject_kind="run", subject_id="r000001", text="I do")
    at = open_as(ADA, PAGE)
    at.toggle(key="activity-mentions").set_value(True).run()
    assert at.query_params["mentions"] == "me"
    assert "1 of 1 line" in everything_said(at)
    assert "“See @Ada <b>”" in everything_said(at)
    assert "No matching activity" in everything_said(open_as(BOB, PAGE, mentions="me"))


def test_a_page_at_a_time(people: Team, open_as: OpenAs) -> None:
    for number in range(30):
        people(BOB, "edit_run", run="r000005", notes=f"Try {number}")
    at = open_as(BOB, PAGE)
    assert "25 of 32 lines" in everything_said(at)
    (pagination,) = at.get("pagination")
    pagination.set_value(2).run()
    assert "7 of 32 lines" in everything_said(at)
