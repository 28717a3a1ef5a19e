"""The script of the rating desk: every file is in it, and none parses a text as HTML."""

from __future__ import annotations

import re

from streamlit.testing.v1 import AppTest

from pages.rating.rater.rating_desk import FOLDER, SCRIPT, script

PARSERS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
)


def test_every_file_of_the_folder_is_in_the_script_once() -> None:
    assert sorted(SCRIPT) == sorted(path.stem for path in (FOLDER / "script").iterdir())
    assert script().count("export default") == 1
    names = re.findall(r"^(?:async )?(?:function|class|const) (\w+)", script(), re.MULTILINE)
    assert len(names) == len(set(names))  # one scope: two of a name would stop all of it


def test_no_text_is_parsed_as_html() -> None:
    assert PARSERS.findall(script()) == []


def test_a_page_mounts_the_desk() -> None:
    page = "from pages.rating.rater.rating_desk import rating_desk\nrating_desk('r', key='desk')"
    at = AppTest.from_string(page).run()
    assert not at.exception
