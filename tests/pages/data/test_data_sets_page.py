"""Data sets against a real engine: list, import with correction, one data set, and bad input."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.data.datasets import list_facts
from pages.data.explore.row_filter import CLEAN_TAB, ROWS_TAB, tabs_key
from store.core.home import Home
from store.core.row_schemas import Fates
from store.data import datasets
from store.data.schemas import Dataset
from store.http.client import Client
from store.jobs.job_queue import get_job
from tests.pages.conftest import SECONDS, Open, everything_said

PAGE = "pages/data/data.py"


def test_empty_list_names_what_can_be_imported(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert "No data sets yet" in everything_said(at)
    assert at.button(key="import-open").label == "Import data set"


def test_sixty_data_sets_come_a_page_at_a_time_and_are_searched(full_home: Home, open_page: Open) -> None:
    at = open_page(full_home, PAGE)
    assert "60 data sets" in everything_said(at)
    assert len([button for button in at.button if str(button.key).startswith("open-")]) == 20
    at.text_input(key="datasets-search").set_value("sums 5").run()
    assert "11 of 60 data sets" in everything_said(at)  # 5 and 50 to 59


def rows_of(at: AppTest) -> AppTest:
    """Turn to the tab with the rows."""
    at.session_state["dataset-tabs-d00000"] = ROWS_TAB
    return at.run()


def test_a_data_set_shows_figures_and_a_page_of_rows(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset="d00000")
    page_text = everything_said(at)
    assert "of 201 in the file" in page_text
    assert "1 figure outside its healthy range" in page_text
    assert "Rows 1 to 20 of 200" not in page_text
    assert "Rows 1 to 20 of 200" in everything_said(rows_of(at))
    assert list(at.dataframe[0].value["row"]) == list(range(20))
    assert at.dataframe[0].value["prompt"][3] == "What is 0 plus 3, <b>please</b>?"


def test_from_the_summary_to_the_cleaning(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset="d00000")
    at.button(key="card-clean-d00000").click().run()
    assert at.session_state["dataset-tabs-d00000"] == CLEAN_TAB
    assert "Recipe" in everything_said(at)


def test_rows_are_searched_by_the_store(little_home: Home, open_page: Open) -> None:
    at = rows_of(open_page(little_home, PAGE, dataset="d00000"))
    at.text_input(key="rows-search-d00000").set_value("plus 19").run()
    assert "Rows 1 to 11 of 11, filtered from 200" in everything_said(at)  # 19 and 190 to 199
    at.text_input(key="rows-search-d00000").set_value("%_'").run()
    assert "No row is like that" in everything_said(at)
    assert not at.exception


def test_a_linked_row_opens_as_conversation_and_as_in_the_file(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset="d00000", row="7")
    assert [message.name for message in at.chat_message] == ["user", "assistant"]
    assert [text.value for text in at.text] == ["What is 0 plus 7, <b>please</b>?", "It is **7**."]
    assert '"q": "What is 0 plus 7' in at.code[0].value
    at.button(key="row-next").click().run()
    assert at.query_params["row"] == "8"
    assert "What is 0 plus 8" in at.text[0].value


@pytest.mark.parametrize("row", ["200", "-1", "x", "99999999999999999999"])
def test_a_link_to_a_row_that_is_not_there_says_so(little_home: Home, open_page: Open, row: str) -> None:
    at = open_page(little_home, PAGE, dataset="d00000", row=row)
    assert f"Row {row} does not exist" in everything_said(at)


def test_a_link_to_a_data_set_that_is_not_there_says_so(little_home: Home, open_page: Open) -> None:
    at = open_page(little_home, PAGE, dataset="nothing")
    assert "There is no data set 'nothing'" in everything_said(at)


def test_import_shows_what_is_recognised_and_ends_with_an_account(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "greetings_in_german.jsonl"
    lines = [f'{{"question": "Hello {i}", "answer": "Hallo {i}"}}' for i in range(120)]
    file.write_text("\n".join([*lines[:2], "this is no JSON", *lines[2:]]))
    at = _inspect(open_page, little_home, file)
    page_text = everything_said(at)
    assert "Detected **Question and answer**" in page_text
    assert "Line 3:" in page_text
    assert [text.value for text in at.text][:2] == ["Hello 0", "Hallo 0"]
    assert _named(at.text_input, "Name").value == "greetings in german"
    at.button(key="import-button").click().run()
    assert not at.error, [error.value for error in at.error]
    job_id = at.query_params["job"]
    _wait(little_home, job_id)
    page_text = everything_said(open_page(little_home, PAGE, job=job_id))
    assert "of 121 in the file" in page_text
    assert "1 × " in page_text  # the reason of the broken line, counted


def test_a_corrected_mapping_is_shown_as_it_will_be_read(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "swapped.csv"
    file.write_text("question,answer\n" + "".join(f"Hallo {i},Hello {i}\n" for i in range(60)))
    at = _inspect(open_page, little_home, file)
    _named(at.selectbox, "Column of the question").set_value("answer")
    _named(at.selectbox, "Column of the answer").set_value("question").run()
    assert not at.exception
    assert [text.value for text in at.text][:2] == ["Hello 0", "Hallo 0"]


def test_what_is_used_and_what_is_ignored_is_said(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    rows = [
        {"id": i, "input": f"Ask {i}", "output_1": f"one {i}", "output_2": f"two {i}", "label": 1 + i % 2}
        for i in range(20)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    at = _inspect(open_page, little_home, file)
    page_text = everything_said(at).replace("\\", "")
    assert "Detected **Two answers and which is better**" in page_text
    assert "better answer = label (1: first, 2: second)" in page_text
    assert "**Ignored:** id" in page_text
    drawn = list(at.main)
    used = next(place for place, node in enumerate(drawn) if "**Used:**" in str(getattr(node, "value", "")))
    button = next(place for place, node in enumerate(drawn) if getattr(node, "key", "") == "import-button")
    assert used < button, "on a phone nobody gets to the button before they are told what is ignored"
    assert [text.value for text in at.text][:3] == ["Ask 0", "one 0", "two 0"]
    _named(at.selectbox, "“1” means").set_value("second")
    _named(at.selectbox, "“2” means").set_value("first").run()
    assert [text.value for text in at.text][:3] == ["Ask 0", "two 0", "one 0"]


def test_nothing_recognised_is_no_green_tick(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    file.write_text('{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n')
    at = _inspect(open_page, little_home, file)
    page_text = everything_said(at)
    assert "No format detected" in page_text
    assert "check_circle" not in page_text
    assert at.button(key="import-button").disabled


def test_the_split_of_a_file_is_offered_value_by_value(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "parts.jsonl"
    parts = ["train"] * 30 + ["val"] * 10 + ["oos_test"] * 10
    file.write_text(
        "\n".join(json.dumps({"text": f"{p} {i}", "label": i % 2, "part": p}) for i, p in enumerate(parts))
    )
    at = _inspect(open_page, little_home, file)
    assert _named(at.selectbox, "Split column").value == "part"
    assert _named(at.selectbox, "oos\\_test (10 rows looked at)").value == "test"
    assert not at.number_input, "shares of parts that the file gives have no effect"
    _named(at.selectbox, "val (10 rows looked at)").set_value("leave out").run()
    assert [number.label for number in at.number_input] == ["Validation (%)", "Seed"]
    at.button(key="import-button").click().run()
    assert not at.error, [error.value for error in at.error]
    _wait(little_home, at.query_params["job"])
    dataset = datasets.get_dataset(Client(little_home), "parts")
    assert (dataset.split_by, dataset.row_count) == ("given", 40)
    assert dataset.stats["parts"] == {"train": 30, "test": 10}
    assert dataset.stats["skipped_reasons"] == {"left out: part is 'val'": 10}

    at = open_page(little_home, PAGE, dataset=dataset.dataset_id)
    at.session_state[tabs_key(dataset.dataset_id)] = ":material/call_split: Split"
    at.run()
    key = f"split-{dataset.dataset_id}-0"
    assert at.number_input(key=f"{key}-test_size").disabled, "the file says which rows are test"
    assert not at.number_input(key=f"{key}-validation_size").disabled
    at.selectbox(key=f"{key}-split_by").set_value("random").run()
    assert not at.number_input(key=f"{key}-test_size").disabled


def _leaking(home: Home, open_page: Open, file: Path) -> Dataset:
    """An imported file whose train and test parts share two rows."""
    rows = [{"text": f"Item {n * 37} of shelf {n * 11}", "label": n % 2} for n in range(40)]
    parts = ["train"] * 30 + ["test"] * 12
    both = [*rows, rows[3], rows[7]]
    file.write_text(
        "\n".join(json.dumps({**row, "part": part}) for row, part in zip(both, parts, strict=True))
    )
    at = _inspect(open_page, home, file)
    at.button(key="import-button").click().run()
    _wait(home, at.query_params["job"])
    return datasets.get_dataset(Client(home), file.stem)


def test_a_leak_inside_given_parts_is_mended_from_the_tab_split(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    dataset = _leaking(little_home, open_page, tmp_path / "leaking.jsonl")
    key = f"leaks-{dataset.dataset_id}"
    at = open_page(little_home, PAGE, dataset=dataset.dataset_id, tab="split")
    (warning,) = at.warning
    assert "2 of 15 held-out rows are in the training rows too" in warning.value
    assert "The split comes from the file" in warning.value
    assert at.button(key=f"{key}-drop").label == "Remove 2 training rows"
    at.button(key=f"{key}-drop").click().run()
    made = at.session_state[f"clean-job-{dataset.dataset_id}"]
    _wait(little_home, made)
    version = datasets.get_dataset(Client(little_home), f"data-{made.removeprefix('job-')}")
    assert version.row_count == 40
    at = open_page(little_home, PAGE, dataset=version.dataset_id, tab="split")
    assert version.split_by == "given"
    assert not any("held-out" in warning.value for warning in at.warning)

    at = open_page(little_home, PAGE, dataset=dataset.dataset_id, tab="split")
    at.button(key=f"{key}-deal").click().run()
    assert not at.exception
    assert datasets.get_dataset(Client(little_home), dataset.dataset_id).split_by == "random"
    assert not any("held-out" in warning.value for warning in at.warning)


def test_what_is_odd_is_one_warning_and_what_is_meant_is_none(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    file = tmp_path / "marked.json"
    rows = [{"prompt": f"Ask {i}", "completion": f"Say {i}", "label": i % 2 == 0} for i in range(20)]
    rows[4] |= {"prompt": ""}
    rows[6] |= {"completion": ""}
    file.write_text(json.dumps({"rows": rows}))
    at = _inspect(open_page, little_home, file)
    (warning,) = at.warning
    assert "prompt is empty" in warning.value
    assert "completion is empty" in warning.value
    captions = [caption.value for caption in at.caption]
    assert any("10 of the first rows" in caption and "not trained on" in caption for caption in captions)
    assert any("The rows are those under 'rows'" in caption for caption in captions)

    at.button(key="import-button").click().run()
    _wait(little_home, at.query_params["job"])
    page_text = everything_said(open_page(little_home, PAGE, job=at.query_params["job"]))
    assert "**12 of 20 rows** were skipped. 10 of them are expected." in page_text


def test_a_wrong_encoding_can_be_chosen_again(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "latin.jsonl"
    lines = [f'{{"question": "Gr\u00fc\u00dfe {i}", "answer": "Hallo {i}"}}' for i in range(61)]
    file.write_bytes("\n".join(lines).encode("latin-1"))
    at = _inspect(open_page, little_home, file)
    _named(at.selectbox, "Encoding").set_value("utf-16").run()
    assert at.error
    assert _named(at.selectbox, "Encoding").value == "utf-16"
    _named(at.selectbox, "Encoding").set_value("latin-1").run()
    assert not at.error
    assert _named(at.selectbox, "Encoding").value == "latin-1"
    assert at.text[0].value == "Gr\u00fc\u00dfe 0"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("cut.parquet", b"PAR1 and then nothing", "cut.parquet"),
        ("nothing.xyz", None, "nothing.xyz"),
    ],
)
def test_bad_files_get_a_message_that_names_them(
    little_home: Home, open_page: Open, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    at = _inspect(open_page, little_home, file)
    assert message in " ".join(error.value.replace("\\", "") for error in at.error)
    assert not [button for button in at.button if button.key == "import-button"]


def test_the_first_line_may_be_a_row(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\n" + "".join(f"Q {i},A {i}\n" for i in range(60)))
    at = _inspect(open_page, little_home, file)
    assert "first line is the header" in everything_said(at)
    _named(at.selectbox, "First line").set_value(False).run()
    assert _named(at.selectbox, "First line").value is False
    assert "first line is the header" not in everything_said(at)
    assert list(at.dataframe[0].value.iloc[0]) == ["question", "answer"]
    _named(at.selectbox, "First line").set_value("").run()
    assert "first line is the header" in everything_said(at)


def test_a_name_that_is_taken_is_refused(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question,answer\n" + "".join(f"Q {i},A {i}\n" for i in range(60)))
    at = _inspect(open_page, little_home, file)
    _named(at.text_input, "Name").set_value("Sums 0").run()
    at.button(key="import-button").click().run()
    assert "There is a data set named 'Sums 0' already" in everything_said(at)  # at the field


def test_without_an_engine_the_list_says_so(offline_home: Home, open_page: Open) -> None:
    at = open_page(offline_home, PAGE)
    assert "The engine is not running" in everything_said(at)


def test_skipped_rows_are_counted_by_reason_and_one_is_read(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    lines = [json.dumps({"instruction": f"Say {i}.", "output": f"It is {i}."}) for i in range(40)]
    lines[3] = '{"instruction": "no answer"}'
    lines[5] = "not <b>JSON</b>"
    lines[9] = "[1, 2]"
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(lines))
    config = {"name": "Half broken", "source": {"path": str(path)}}
    made = Client(little_home).command("import_dataset", config)
    _wait(little_home, made["job_id"])
    dataset = datasets.get_dataset(Client(little_home), "Half broken")
    at = open_page(little_home, PAGE, dataset=dataset.dataset_id)
    assert "of 40 in the file, 3 skipped" in everything_said(at)
    tab = next(tab.label for tab in at.tabs if "Skipped (3)" in tab.label)
    at.session_state[tabs_key(dataset.dataset_id)] = tab
    at.run()
    page_text = everything_said(at)
    assert "**3 of 40 rows** were skipped. Fix the file and import it again." in page_text
    assert "- 1 × output is missing" in page_text
    table = at.dataframe[0]
    assert list(table.value["line"]) == [4, 6, 10]
    at.session_state[table.key] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    at.run()
    assert "not <b>JSON</b>" in [code.value for code in at.code]


def test_the_line_of_figures_says_where_the_rows_are_from() -> None:
    stats = {"characters": {"median": 70, "p95": 177}, "labels": {"a" * 60: 3}, "label_count": 7}
    document = {
        "row_count": 181, "skipped_count": 0, "duplicate_count": 0, "format": "text_label", "fates": None,
        "source_bytes": 2048, "stats": stats, "created_at": datetime(2026, 3, 12), "fingerprint": "f" * 64,
        "dataset_id": "d", "name": "d", "kind": "texts", "columns": {}, "source": {}, "split_seed": 0,
        "validation_size": 0.1, "test_size": 0.1, "split_by": "random", "split_column": None,
        "created_by": None, "parent_id": None, "recipe": None, "rows_path": "", "skipped_path": "",
    }  # fmt: skip
    dataset = Dataset(**document)
    facts_by_title = {title: (value, note) for title, value, note in list_facts(dataset)}
    assert facts_by_title["Rows"] == ("181", "every row of the file")
    assert facts_by_title["Repeated rows"] == ("0", "none")
    assert facts_by_title["Labels"][1] == f"most: {'a' * 14}…{'a' * 7} (1.7%)"
    made = dataclasses.replace(dataset, fates=Fates(kept=177, changed=3, dropped=20, added=1, steps=[]))
    facts_by_title = {title: (value, note) for title, value, note in list_facts(made)}
    assert facts_by_title["Rows"] == ("181", "180 of 200 in the version before, 1 added")
    assert "Made" in facts_by_title


def _inspect(open_page: Open, home: Home, file: Path) -> AppTest:
    at = open_page(home, PAGE, view="import")
    at.get_by_key("import-kind").set_value("A file on this machine").run()
    at.text_input(key="import-path").set_value(str(file)).run()
    assert not at.exception
    return at


def _named(widgets: object, label: str) -> object:
    return next(widget for widget in widgets if widget.label == label)  # type: ignore[attr-defined]


def _wait(home: Home, job_id: str) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        job = get_job(Client(home), job_id)
        if job.status in ("finished", "failed", "lost"):
            assert job.status == "finished", job.error
            return
        time.sleep(0.2)
    raise AssertionError("the import did not end")
