"""The scripts of the components that show texts: every file is in them, and none parses a text as HTML."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.playground import chat
from pages.rating.rater import desk
from pages.runs.table import runs_table
from pages.shared import third_party
from pages.shared.curves import curves
from pages.shared.rendered.component_source import DATA_READER, FOLDER, RENDERER

PARSERS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
)
SCRIPTS = {
    "desk": desk.build_script(),
    "talk": chat.build_script(),
    "curves": curves.build_script(),
    "runs table": runs_table.build_script(),
}
# SHA-256 of each file, so that an edit or a half-done update of one is noticed.
DIGESTS = {
    "flechette.js": "26c39d3d904eaab8efb30079a478464ed6a1eed3067fab4c54320709ebf4428c",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
}


def stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.js"))


def test_every_file_of_the_folders_is_in_a_script() -> None:
    assert sorted(desk.SCRIPT) == stems(desk.FOLDER / "script")
    assert sorted(chat.SCRIPT) == stems(chat.FOLDER / "script")
    assert sorted(curves.SCRIPT) == stems(curves.FOLDER / "script")
    assert sorted(runs_table.SCRIPT) == stems(runs_table.FOLDER / "script")
    assert sorted({*RENDERER, *DATA_READER}) == stems(FOLDER)


@pytest.mark.parametrize("of", SCRIPTS)
def test_a_script_is_one_module(of: str) -> None:
    assert SCRIPTS[of].count("export default") == 1
    names = re.findall(r"^(?:async )?(?:function|class|const) (\w+)", SCRIPTS[of], re.MULTILINE)
    assert len(names) == len(set(names))  # one scope: two of a name would stop all of it


@pytest.mark.parametrize("of", SCRIPTS)
def test_no_text_is_parsed_as_html(of: str) -> None:
    assert PARSERS.findall(SCRIPTS[of]) == []


def test_bundled_libraries_are_unmodified_and_have_their_licence() -> None:
    for name, digest in DIGESTS.items():
        assert hashlib.sha256((third_party.FOLDER / name).read_bytes()).hexdigest() == digest, name
        assert (third_party.FOLDER / f"{name.partition('.')[0]}.LICENSE").is_file()


def test_a_page_mounts_the_desk() -> None:
    page = "from pages.rating.rater.desk import draw_rating_component\ndraw_rating_component('r', key='desk')"
    at = AppTest.from_string(page).run()
    assert not at.exception
