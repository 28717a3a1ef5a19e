"""What README and guide show is there, and what the guide tells to click is on the screens."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "guide.md"
PICTURED = [README, GUIDE, ROOT / "docs" / "serving.md", ROOT / "docs" / "bias.md"]
# What the screens say; the buttons of a finding are named where its fixes are, protocols in their catalog.
SCREENS = [
    ROOT / "app.py",
    *ROOT.glob("pages/**/*.py"),
    *ROOT.glob("store/*/config.py"),  # titles of fields that forms draw
    ROOT / "engine" / "evaluation" / "verdicts" / "data_findings.py",
    ROOT / "store" / "rating" / "templates.py",
]
BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
ICON = re.compile(r":material/\w+:")


def bold(text: str) -> list[str]:
    """Names of buttons, tabs and fields as the guide quotes them."""
    return [" ".join(name.split()) for name in BOLD.findall(text)]


@cache
def screen_texts() -> frozenset[str]:
    """Every text in the code of the screens, without icons; where parts are filled in, what is between."""
    texts = set()
    for path in SCREENS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(ICON.sub("", node.value).strip(" (*:,."))
    return frozenset(texts)


@pytest.mark.parametrize("page", PICTURED, ids=lambda page: page.stem)
def test_every_picture_is_there(page: Path) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    assert pictures
    assert [name for name in pictures if not (page.parent / name).is_file()] == []


def test_every_picture_is_shown_and_small() -> None:
    text = "".join(page.read_text("utf-8") for page in PICTURED)
    for picture in (ROOT / "docs" / "pictures").glob("*"):
        assert f"pictures/{picture.name}" in text
        assert picture.stat().st_size < 300 * 1024, picture.name


def test_what_the_guide_names_is_on_the_screens() -> None:
    names = bold(GUIDE.read_text("utf-8"))
    assert len(names) > 50
    assert [name for name in names if name not in screen_texts()] == []


def test_a_name_that_no_screen_has_is_found() -> None:
    assert bold("Press **Make\nversion** and **Fly**.") == ["Make version", "Fly"]
    assert "Make version" in screen_texts()
    assert "Fly" not in screen_texts()


def test_what_the_picture_scripts_wait_for_is_on_the_screens() -> None:
    """The scripts run for three quarters of an hour, so a renamed button must not stop them half way."""
    sources = [
        path.read_text("utf-8")
        for folder in ("pages", "engine", "store")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".js")
    ]
    awaited = [
        argument.value
        for path in (ROOT / "docs" / "pictures.py", *(ROOT / "docs" / "photographed").glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("text", "button", "tab", "get_by_text", "get_by_label")
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    assert len(awaited) > 20
    assert [text for text in awaited if not any(text in source for source in sources)] == []


def test_links_within_the_guide_lead_somewhere() -> None:
    text = GUIDE.read_text("utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
