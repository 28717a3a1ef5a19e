"""The scripts of the components that show texts: every file is in them, and none parses a text as HTML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.playground import chat
from pages.rating.rater import desk
from pages.shared.rendered.component_source import FOLDER, RENDERER

PARSERS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
)
SCRIPTS = {"desk": desk.build_script(), "talk": chat.build_script()}


def stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.js"))


def test_every_file_of_the_folders_is_in_a_script() -> None:
    assert sorted(desk.SCRIPT) == stems(desk.FOLDER / "script")
    assert sorted(chat.SCRIPT) == stems(chat.FOLDER / "script")
    assert sorted(RENDERER) == stems(FOLDER)


@pytest.mark.parametrize("of", SCRIPTS)
def test_a_script_is_one_module(of: str) -> None:
    assert SCRIPTS[of].count("export default") == 1
    names = re.findall(r"^(?:async )?(?:function|class|const) (\w+)", SCRIPTS[of], re.MULTILINE)
    assert len(names) == len(set(names))  # one scope: two of a name would stop all of it


@pytest.mark.parametrize("of", SCRIPTS)
def test_no_text_is_parsed_as_html(of: str) -> None:
    assert PARSERS.findall(SCRIPTS[of]) == []


def test_a_page_mounts_the_desk() -> None:
    page = "from pages.rating.rater.desk import draw_rating_component\ndraw_rating_component('r', key='desk')"
    at = AppTest.from_string(page).run()
    assert not at.exception
