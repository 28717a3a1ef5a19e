"""Whose a thing is: told where it is somebody else's, and one's own alone by a switch."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest

from store.core.home import Home
from tests.pages.conftest import Open, everything_said
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, BOB, Team

OVERVIEW, RUNS = "pages/overview/overview.py", "pages/runs/run.py"


def test_runs_of_others_are_told_and_left_out_by_the_switch(people: Team, open_as: OpenAs) -> None:
    people(BOB, "comment", subject_kind="run", subject_id="r000001", text="Hm")
    people(ADA, "comment", subject_kind="run", subject_id="r000001", text="Hm!")
    at = open_as(ADA, OVERVIEW)
    captions = [caption.value.replace("\\", "") for caption in at.caption]
    assert captions.count("by Bob") == 3
    assert "2 comments" in captions  # on her own
    at = open_as(ADA, RUNS)
    assert read_component(at)["createdBy"] == ""
    at.toggle(key="runs_mine").set_value(True).run()
    assert read_component(at)["createdBy"] == ADA.person_id


def read_component(at: AppTest) -> dict[str, Any]:
    """What the table of runs was given."""
    (component,) = at.get("bidi_component")
    given: dict[str, Any] = json.loads(component.proto.json)
    return given


def test_whoever_works_alone_sees_neither_switch_nor_names(little_home: Home, open_page: Open) -> None:
    assert not open_page(little_home, RUNS).toggle
    at = open_page(little_home, OVERVIEW)
    assert not [caption for caption in at.caption if caption.value.startswith("by ")]


def test_a_run_and_a_data_set_say_who_made_them(open_as: OpenAs) -> None:
    assert "launched by Ada <b>," in everything_said(open_as(BOB, "pages/runs/run.py", run="r000001"))
    assert "launched by" not in everything_said(open_as(ADA, "pages/runs/run.py", run="r000001"))
    at = open_as(BOB, "pages/data/data.py", dataset="d00001")
    assert any("by Ada &lt;b&gt;, version" in element.proto.body for element in at.get("html"))
    at = open_as(BOB, "pages/data/data.py")
    at.toggle(key="datasets_mine").set_value(True).run()
    assert "0 of 2 data sets" in everything_said(at)
