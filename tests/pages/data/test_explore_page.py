"""A data set's card, table, filters, histograms, slices and SQL box against a real engine and sidecars."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.data.explore import row_filter
from store.core.home import Home
from store.data.filters import Condition, Filter
from tests.pages.conftest import Open, everything_said

PAGE = "pages/data/data.py"
GERMAN = {"column": "language", "op": "is", "value": "de"}
SET = "d00001"


def linked(open_page: Open, home: Home, **where: Any) -> AppTest:
    """The page with a filter in its link."""
    return open_page(home, PAGE, dataset=SET, filter=json.dumps(where))


def rows_tab(open_page: Open, home: Home) -> AppTest:
    """The page, which begins with its summary, at its rows."""
    at = open_page(home, PAGE, dataset=SET)
    at.session_state[row_filter.tabs_key(SET)] = row_filter.ROWS_TAB
    return at.run()


def chips(at: AppTest) -> list[str]:
    return [b.label.replace("\\", "") for b in at.button if str(b.key).startswith("filter-chip-")]


def row_numbers(at: AppTest) -> list[int]:
    return list(at.dataframe[0].value["row"])


def test_the_card_says_what_lies_outside_its_band_and_leads_there(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset=SET)
    page_text = everything_said(at)
    assert "outside" in page_text
    assert "Cut-off answers" in page_text
    assert "50 of 200 rows" in page_text
    assert "at most 5.0% is healthy" in page_text
    assert "English 90%" in page_text
    button = next(b for b in at.button if b.label == "Show 50 rows")
    button.click().run()
    assert "Rows 1 to 20 of 50, filtered from 200" in everything_said(at)
    assert row_numbers(at) == list(range(0, 80, 4))
    assert json.loads(at.query_params["filter"])["conditions"][0]["column"] == "truncated"


def test_a_group_that_was_not_measured_can_be(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset=SET)
    keys = {str(b.key) for b in at.button}
    assert f"profile-{SET}-privacy" in keys
    assert f"profile-{SET}-text" not in keys
    assert f"profile-{SET}-labels" not in keys  # it has no labels


def test_a_link_holds_the_filter_and_a_chip_takes_it_away(little_home: Home, open_page: Open) -> None:
    at = linked(open_page, little_home, search="plus 1", conditions=[GERMAN])
    assert row_numbers(at) == [10, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190]
    assert chips(at) == ['the text contains "plus 1"', "language is German"]
    assert at.text_input(key=f"rows-search-{SET}").value == "plus 1"
    at.button(key=f"filter-chip-{SET}-0").click().run()
    assert row_numbers(at) == list(range(0, 200, 10))
    at.button(key=f"filter-chip-{SET}-0").click().run()
    assert "filter" not in at.query_params
    assert "Rows 1 to 20 of 200." in everything_said(at)


def test_a_regex_is_searched_and_a_broken_one_explained(little_home: Home, open_page: Open) -> None:
    at = rows_tab(open_page, little_home)
    at.toggle(key=f"rows-regex-{SET}").set_value(True)
    at.text_input(key=f"rows-search-{SET}").set_value("plus 1?7,").run()
    assert row_numbers(at) == [7, 17]
    at.text_input(key=f"rows-search-{SET}").set_value("plus (").run()
    assert at.error
    assert not at.exception


def test_a_condition_is_added_by_hand(little_home: Home, open_page: Open) -> None:
    at = rows_tab(open_page, little_home)
    at.selectbox(key=f"filter-add-{SET}-column").set_value("characters").run()
    at.selectbox(key=f"filter-add-{SET}-op-number").set_value(">=").run()
    at.number_input(key=f"filter-add-{SET}-number").set_value(36.0).run()
    at.button(key=f"filter-add-{SET}-button").click().run()
    assert row_numbers(at) == [i for i in range(200) if i % 17 == 16][:20]
    assert chips(at) == ["characters >= 36"]


def test_a_language_is_chosen_by_its_name_and_kept_by_its_code(little_home: Home, open_page: Open) -> None:
    at = rows_tab(open_page, little_home)
    at.selectbox(key=f"filter-add-{SET}-column").set_value("language").run()
    values = at.selectbox(key=f"filter-add-{SET}-language")
    assert values.options == ["English", "German"]
    values.set_value("de").run()
    at.button(key=f"filter-add-{SET}-button").click().run()
    assert chips(at) == ["language is German"]
    assert json.loads(at.query_params["filter"])["conditions"][0]["value"] == "de"
    assert set(at.dataframe[0].value["language"]) == {"German"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"conditions":[{"column":"nothing","value":1}]}',
        '{"conditions":[{"column":"characters","op":">","value":"x"}]}',
        '{"conditions":[{"column":"email","op":">","value":0}]}',
        '{"expression":"1; DROP TABLE dataset"}',
        '{"rows":1}',
    ],
)
def test_a_bad_filter_in_a_link_is_explained(little_home: Home, open_page: Open, text: str) -> None:
    at = open_page(little_home, PAGE, dataset=SET, filter=text)
    assert at.error
    assert not at.exception


def test_histograms_show_all_rows_and_those_of_the_filter(little_home: Home, open_page: Open) -> None:
    at = linked(open_page, little_home, conditions=[GERMAN])
    charts = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert len(charts) == 4
    language = next(c for c in charts if "English" in c["layout"]["yaxis"].get("ticktext", []))
    everything, filtered, over = language["data"]
    assert _numbers(everything["x"]) == [180, 20]
    assert _numbers(filtered["x"]) == [0, 20]
    assert _numbers(over["x"]) == [180, 180]
    assert over["customdata"][0] == "English<br>0 of 180 rows (0%) are in the filter"


def test_a_click_on_a_bar_filters_and_a_second_one_undoes_it() -> None:
    bar = Condition(column="language", op="is", value="de")
    other = Condition(column="language", op="is", value="en")
    kept = Condition(column="turns", op=">", value=1)
    once = row_filter.toggle_condition(Filter(conditions=[kept]), bar)
    assert once.conditions == [kept, bar]
    assert row_filter.toggle_condition(once, other).conditions == [kept, other]
    assert row_filter.toggle_condition(once, bar).conditions == [kept]


def test_a_row_opens_with_its_signals_and_its_duplicates_side_by_side(
    little_home: Home, open_page: Open
) -> None:
    at = open_page(little_home, PAGE, dataset=SET, row="5")
    page_text = everything_said(at)
    assert "Near duplicates: 2 more" in page_text
    assert "<ins>2</ins>, &lt;b&gt;please" in page_text  # the word in which row 2 differs
    assert {"row-near_group-2", "row-near_group-9"} <= {str(b.key) for b in at.button}
    at.button(key="row-near_group").click().run()
    assert row_numbers(at) == [2, 5, 9]


def test_a_row_that_is_open_is_edited_where_it_stands(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset=SET, row="5")
    assert "Edit this row" in [box.label for box in at.expander]
    assert not [b for b in at.button if b.label == "Add this edit to the recipe"]  # folded, nothing is drawn
    at.session_state["row-edit"] = True
    at.run()
    press_edit(at)
    assert "nothing to change" in everything_said(at)
    assert f"recipe-{SET}" not in at.session_state
    answer = next(area for area in at.text_area if area.label == "Answer")
    for text in ("Five.", "Five, at last."):  # what was edited is what the next edit begins with
        answer.set_value(text)
        press_edit(at)
        (step,) = at.session_state[f"recipe-{SET}"]
        (edit,) = step["edits"]
        assert (edit["row_id"], edit["messages"][-1]["content"]) == (5, text)
        assert edit["messages"][0]["role"] == "user"
        answer = next(area for area in at.text_area if area.label == "Answer")
        assert answer.value == text
    assert "The recipe changes this row already" in everything_said(at)
    at.button(key="row-edit-recipe").click().run()
    assert at.session_state[row_filter.tabs_key(SET)] == row_filter.CLEAN_TAB
    assert "Edit 1 row by hand" in everything_said(at)


def press_edit(at: AppTest) -> None:
    next(b for b in at.button if b.label == "Add this edit to the recipe").click().run()
    assert not at.exception


def test_next_and_previous_stay_in_the_filter(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset=SET, row="10", filter=json.dumps({"conditions": [GERMAN]}))
    at.button(key="row-next").click().run()
    assert at.query_params["row"] == "20"
    at.button(key="row-previous").click().run()
    at.button(key="row-previous").click().run()
    assert at.query_params["row"] == "0"
    assert at.button(key="row-previous").disabled


def test_filtered_rows_become_a_step_of_the_recipe_and_a_slice(little_home: Home, open_page: Open) -> None:
    at = linked(open_page, little_home, conditions=[GERMAN])
    at.button(key=f"explore-drop-{SET}").click().run()
    (step,) = at.session_state[f"recipe-{SET}"]
    assert step == {"step": "filter", "where": {"conditions": [GERMAN]}, "action": "drop"} or step[
        "where"
    ] == {"conditions": [{"column": "language", "value": "de"}]}
    assert at.button(key=f"explore-drop-{SET}").disabled
    at.text_input(key=f"slice-name-{SET}").set_value("*German*").run()
    at.button(key=f"slice-save-{SET}").click().run()
    again = rows_tab(open_page, little_home)
    again.button(key=f"slice-apply-{SET}-0").click().run()
    assert chips(again) == ["language is German"]
    again.button(key=f"slice-forget-{SET}-0").click().run()
    assert not [b for b in again.button if str(b.key).startswith("slice-apply")]


def test_sql_is_answered_and_only_reads(little_home: Home, open_page: Open) -> None:
    at = rows_tab(open_page, little_home)
    at.session_state[f"sql-open-{SET}"] = True
    at.run()
    assert not at.exception
    at.text_area(key=f"sql-{SET}").set_value(
        "SELECT language, count(*) AS n FROM rows GROUP BY 1 ORDER BY 2; "
    )
    at.button(key=f"sql-{SET}-run").click().run()
    assert at.dataframe[-1].value.to_dict("list") == {"language": ["de", "en"], "n": [20, 180]}
    at.text_area(key=f"sql-{SET}").set_value("SELECT a.row_id FROM rows a, rows b")
    at.button(key=f"sql-{SET}-run").click().run()
    assert "The first 1,000 of 40,000 rows" in everything_said(at)
    for bad in ("DROP TABLE dataset", "SELECT nothing FROM rows", "SELECT 1) UNION (SELECT 2"):
        at.text_area(key=f"sql-{SET}").set_value(bad)
        at.button(key=f"sql-{SET}-run").click().run()
        assert at.error or at.dataframe
        assert not at.exception


def test_sql_names_the_columns_of_the_file_and_finds_the_others(little_home: Home, open_page: Open) -> None:
    at = rows_tab(open_page, little_home)
    at.session_state[f"sql-open-{SET}"] = True
    at.run()
    listed = at.dataframe[-1].value
    own = listed[listed["From"] == "the file"]["Name in SQL"].tolist()
    assert own
    assert all(name in everything_said(at) for name in own)
    at.text_input(key=f"sql-{SET}-find").set_value("duplicate").run()
    assert set(at.dataframe[-1].value["From"]) == {"Duplicates"}
    at.text_input(key=f"sql-{SET}-find").set_value("no such thing").run()
    assert "No column has no such thing" in everything_said(at)
    at.text_area(key=f"sql-{SET}").set_value(f"SELECT count({own[0]}) AS n FROM rows")
    at.button(key=f"sql-{SET}-run").click().run()
    assert at.dataframe[-1].value.to_dict("list") == {"n": [200]}


def _numbers(values: Any) -> list[int]:
    """Plotly packs arrays of numbers into base64."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return list(values)
