"""Two who change the same: both values are on the page, nothing typed is lost, and the person chooses."""

from __future__ import annotations

import time
from typing import NoReturn

import pytest
from streamlit.testing.v1 import AppTest

from pages.data.explore.row_filter import CLEAN_TAB, tabs_key
from store.core.errors import BusyError
from store.data import datasets, saved_recipes
from store.runs import runs
from tests.pages.conftest import everything_said
from tests.pages.people.conftest import OpenAs
from tests.pages.people.team import ADA, BOB, Team

EDIT = "run-edit-r000001"


def press(at: AppTest, label: str) -> None:
    next(button for button in at.button if button.label == label).click().run()
    assert not at.exception, [error.value for error in at.exception]


def notes(people: Team) -> str:
    return runs.get_run(people.database, "r000001").notes


def typing(people: Team, open_as: OpenAs) -> AppTest:
    """Bob types notes of his own, and Ada is faster."""
    at = open_as(BOB, "pages/runs/run.py", run="r000001")
    people(ADA, "edit_run", run="r000001", notes="Hers")
    at.text_area(key=f"{EDIT}-0-notes").set_value("His")
    press(at, "Save")
    return at


def test_the_second_is_told_and_may_keep_the_firsts(people: Team, open_as: OpenAs) -> None:
    at = typing(people, open_as)
    assert "Ada <b> changed LoRA on Sums 1 #1. Choose a version." in everything_said(at).replace("**", "")
    assert [text.value for text in at.text][-2:] == ["Hers", "His"]
    assert at.text_area(key=f"{EDIT}-0-notes").value == "His"
    assert notes(people) == "Hers"
    press(at, "Keep theirs")
    assert at.text_area(key=f"{EDIT}-1-notes").value == "Hers"
    assert (notes(people), "Choose a version" in everything_said(at)) == ("Hers", False)


def test_or_take_their_own_knowing_it(people: Team, open_as: OpenAs) -> None:
    at = typing(people, open_as)
    press(at, "Overwrite")
    assert notes(people) == "His"
    assert "Choose a version" not in everything_said(at)


def test_who_was_overtaken_again_is_told_again(people: Team, open_as: OpenAs) -> None:
    at = typing(people, open_as)
    people(ADA, "edit_run", run="r000001", notes="Hers again")
    time.sleep(1.1)  # as long as the page may keep an answer
    press(at, "Overwrite")
    assert notes(people) == "Hers again"
    assert [text.value for text in at.text][-2:] == ["Hers again", "His"]
    press(at, "Overwrite")
    assert notes(people) == "His"


def test_another_field_is_nobodys_conflict(people: Team, open_as: OpenAs) -> None:
    at = open_as(BOB, "pages/runs/run.py", run="r000001")
    people(ADA, "edit_run", run="r000001", notes="Hers")
    at.text_input(key=f"{EDIT}-0-name").set_value("His name")
    press(at, "Save")
    run = runs.get_run(people.database, "r000001")
    assert (run.name, run.notes) == ("His name", "Hers")


def test_a_split_is_one_decision(people: Team, open_as: OpenAs, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.data import dataset_queries

    dealt = {"rows": {"train": 16, "validation": 2, "test": 2}, "kept_together": 0}
    dealt |= {"problems": [], "leaking": [], "leaking_rows": 0}
    monkeypatch.setattr(dataset_queries, "count_split_rows", lambda *_: dealt)
    at = open_as(BOB, "pages/data/data.py", dataset="d00001")
    at.session_state[tabs_key("d00001")] = ":material/call_split: Split"
    at.run()
    people(ADA, "set_split", dataset="d00001", test_size=0.3)
    at.number_input(key="split-d00001-0-split_seed").set_value(7).run()
    press(at, "Save split")
    assert datasets.get_dataset(people.database, "d00001").split_seed == 0
    assert [text.value for text in at.text][-2:] == ["30%", "10%"]
    press(at, "Overwrite")
    row = datasets.get_dataset(people.database, "d00001")
    assert (row.split_seed, row.test_size) == (7, 0.1)


def test_a_data_set_has_a_name_that_was_seen(people: Team, open_as: OpenAs) -> None:
    at = open_as(BOB, "pages/data/data.py", dataset="d00000")
    at.session_state[tabs_key("d00000")] = ":material/settings: Settings"
    at.run()
    people(ADA, "rename_dataset", dataset="d00000", name="Hers")
    at.text_input(key="rename-d00000-0-name").set_value("His")
    press(at, "Rename")
    assert "Ada <b> changed Hers" in everything_said(at).replace("**", "")
    press(at, "Overwrite")
    assert datasets.get_dataset(people.database, "d00000").name == "His"


def saved_tab(open_as: OpenAs, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Bob's cleaning of a data set, with one step in the recipe."""
    from pages.data import dataset_queries

    def no_preview(*_: object, **__: object) -> NoReturn:
        raise BusyError("No preview in this test.")

    monkeypatch.setattr(dataset_queries, "preview_cleaning", no_preview)
    at = open_as(BOB, "pages/data/data.py", dataset="d00000")
    at.session_state[tabs_key("d00000")] = CLEAN_TAB
    at.session_state["clean-saved"] = True
    at.session_state["recipe-d00000"] = [{"step": "fix_encoding"}]
    return at.run()


def test_recipes_of_others_are_used_and_not_deleted(
    people: Team, open_as: OpenAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(ADA, "save_recipe", name="Hers alone", steps=[{"step": "normalise"}], shared=False)
    people(ADA, "save_recipe", name="Hers", steps=[{"step": "normalise"}])
    people(BOB, "save_recipe", name="His", steps=[{"step": "fix_encoding"}], shared=False)
    at = saved_tab(open_as, monkeypatch)
    box = at.selectbox(key="recipe-load-d00000")
    assert box.options == ["Hers (1 step, by Ada <b>)", "His (1 step, only yours)"]
    ids = {row.name: row.recipe_id for row in saved_recipes.recipes(people.database, "p-bob")}
    box.set_value(ids["Hers"]).run()
    assert (at.button(key="recipe-use").disabled, at.button(key="recipe-gone").disabled) == (False, True)
    assert not [toggle for toggle in at.toggle if toggle.label == "Shared"]
    at.selectbox(key="recipe-load-d00000").set_value(ids["His"]).run()
    next(toggle for toggle in at.toggle if toggle.label == "Shared").set_value(True).run()
    assert [row.name for row in saved_recipes.recipes(people.database, "p-ada")] == [
        "Hers",
        "Hers alone",
        "His",
    ]
    at.button(key="recipe-gone").click().run()
    assert [row.name for row in saved_recipes.recipes(people.database, "p-bob")] == ["Hers"]


def test_a_recipe_that_another_window_saved_is_replaced_by_who_knows_it(
    people: Team, open_as: OpenAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(BOB, "save_recipe", name="Mend", steps=[{"step": "normalise"}])
    at = saved_tab(open_as, monkeypatch)
    people(BOB, "save_recipe", name="Mend", steps=[{"step": "strip", "html": True}])
    next(field for field in at.text_input if field.label == "Save this recipe as").set_value("Mend")
    press(at, "Save")
    assert "Bob saved the recipe 'Mend'" in at.warning[0].value.replace("\\", "")
    assert saved_recipes.recipes(people.database, "p-bob")[0].steps[0]["step"] == "strip"
    press(at, "Overwrite")
    assert saved_recipes.recipes(people.database, "p-bob")[0].steps == [{"step": "fix_encoding"}]
