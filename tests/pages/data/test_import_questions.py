"""The import form asks what a column is of which nothing would be used, and imports nothing before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from store.core.home import Home
from store.data import datasets
from store.http.client import Client
from tests.pages.conftest import Open, everything_said
from tests.pages.data.test_data_sets_page import PAGE, _inspect, _wait

QUESTION = "import-unused"


def rows_in(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def question(at: AppTest, column: str) -> Any:
    return next(box for box in at.selectbox if str(box.key).startswith(f"{QUESTION} {column} "))


def test_a_mark_beside_conversations_is_asked_for_and_left_out(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [{"messages": turns, "label": number > 10, "id": number} for number in range(40)]
    at = _inspect(open_page, little_home, rows_in(tmp_path / "marked_chat.jsonl", rows))
    assert at.button(key="import-button").disabled
    box = question(at, "label")
    assert box.value is None
    assert "true, false" in box.label
    box.set_value("Ignore").run()
    assert not at.button(key="import-button").disabled
    at.button(key="import-button").click().run()
    assert not at.error, [error.value for error in at.error]
    job_id = at.query_params["job"]
    _wait(little_home, job_id)
    dataset = datasets.get_dataset(Client(little_home), "marked chat")
    assert dataset.stats["left_out"] == {"label": 40}
    assert "**Ignored on purpose:** label (in 40 rows)" in everything_said(
        open_page(little_home, PAGE, job=job_id)
    )


def test_a_use_that_is_chosen_goes_into_the_mapping(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    rows = [{"text": f"Text {n}", "coarse": "ab"[n % 2], "fine": "uvwx"[n % 4]} for n in range(40)]
    at = _inspect(open_page, little_home, rows_in(tmp_path / "two_labels.jsonl", rows))
    assert at.button(key="import-button").disabled
    question(at, "fine").set_value("Use it as label: Text and label").run()
    assert not at.exception
    assert next(box for box in at.selectbox if box.label == "Column of the label").value == "fine"
    assert [str(box.key).split()[1] for box in at.selectbox if str(box.key).startswith(QUESTION)] == [
        "coarse"
    ]
    assert at.button(key="import-button").disabled


def test_a_clean_file_asks_nothing(little_home: Home, open_page: Open, tmp_path: Path) -> None:
    rows = [{"question": f"Q {n}", "answer": f"A {n}", "category": "abc"[n % 3]} for n in range(40)]
    at = _inspect(open_page, little_home, rows_in(tmp_path / "clean.jsonl", rows))
    assert not [box for box in at.selectbox if str(box.key).startswith(QUESTION)]
    assert not at.button(key="import-button").disabled


def test_a_folder_with_names_of_labels_asks_for_the_files(
    little_home: Home, open_page: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    rows_in(folder / "train.jsonl", [{"text": f"Text {n}", "label": n % 2} for n in range(40)])
    (folder / "labels.txt").write_text("good\nbad\n")
    (folder / "README.md").write_text("# About")
    at = _inspect(open_page, little_home, folder)
    assert "labels.txt" in at.error[0].value
    assert not [button for button in at.button if button.key == "import-button"]
    at.multiselect[0].set_value(["labels.txt"]).run()
    page_text = everything_said(at)
    assert "Files left out on purpose: labels.txt" in page_text
    assert "README.md" in page_text
    assert not at.button(key="import-button").disabled
