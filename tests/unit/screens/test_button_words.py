"""What can be pressed says in words what it does: an icon alone is a riddle, and read aloud it is nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[3] / "pages"
PRESSED = ("button", "download_button", "form_submit_button", "link_button", "page_link", "popover", "toggle")
ICON = re.compile(r":material/\w+:|:[a-z]+\[|\]")
WORD = re.compile(r"[^\W\d_]{2,}")


def labels(source: str) -> Iterator[tuple[int, str | None]]:
    """(line, label) of all that can be pressed; None for one that has none. What stands for a value that is
    known later counts as a word."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in PRESSED:
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        if node.func.attr == "page_link":  # without a label it has the title of its page
            label = named.get("label")
            if label is None:
                continue
        else:
            label = node.args[0] if node.args else named.get("label")
        yield node.lineno, written(label) if label is not None else None


def written(label: ast.expr) -> str:
    if isinstance(label, ast.Constant):
        return str(label.value)
    if isinstance(label, ast.JoinedStr):
        return "".join(written(part) for part in label.values)
    return "value"


@pytest.mark.parametrize("path", sorted(PAGES.rglob("*.py")), ids=lambda path: str(path.relative_to(PAGES)))
def test_a_button_has_words(path: Path) -> None:
    for line, label in labels(path.read_text(encoding="utf-8")):
        assert WORD.search(ICON.sub("", label or "")), f"{path.name}:{line} has no words: {label!r}"


def test_an_icon_alone_is_found() -> None:
    calls = dict(labels('st.button("", icon="x")\nst.popover(":material/tune:")\nst.button(f"Move {name}")'))
    assert [bool(WORD.search(ICON.sub("", label or ""))) for label in calls.values()] == [False, False, True]


@pytest.mark.parametrize("path", sorted(PAGES.rglob("*.js")), ids=lambda path: path.stem)
def test_a_button_of_a_script_has_words(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for label in re.findall(r'(?:textButton|plainButton)\("([^"]*)"', source):
        assert WORD.search(label), f"{path.name}: {label!r}"
