"""Every text of the theme can be read: a contrast of 4.5 to 1 or more (WCAG 2.2, 1.4.3), light and dark."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pages.shared.layout import CHART_TEXTS, TICKS, build_chart_text_rules
from pages.shared.meters import AMBER
from pages.shared.palette import BAD, BASE

ROOT = Path(__file__).parents[3]
THEME = tomllib.loads((ROOT / "pages" / "streamlit.toml").read_text())["theme"]
MIN_CONTRAST = 4.5
FADED = 0.6  # how much of its ink Streamlit leaves to captions, labels of charts and hints
INKS = ("textColor", "linkColor", "codeTextColor", *(f"{hue}Color" for hue in (
    "red", "orange", "yellow", "green", "blue", "violet", "gray")))  # fmt: skip
PAPERS = ("backgroundColor", "secondaryBackgroundColor", "codeBackgroundColor")
Colour = tuple[float, float, float]


def colour(text: str) -> Colour:
    red, green, blue = (int(text[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def luminance(of: Colour) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in of)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(ink: Colour, paper: Colour) -> float:
    low, high = sorted((luminance(ink), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def faded(ink: Colour, paper: Colour, share: float) -> Colour:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(ink, paper, strict=True))
    return red, green, blue


def papers(mode: str) -> list[Colour]:
    return [
        colour(part[name])
        for part in (THEME[mode], THEME[mode]["sidebar"])
        for name in PAPERS
        if name in part
    ]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_ink_can_be_read_on_every_paper(mode: str) -> None:
    unread = [
        (name, round(contrast(colour(THEME[mode][name]), paper), 2))
        for name in INKS
        for paper in papers(mode)
        if contrast(colour(THEME[mode][name]), paper) < MIN_CONTRAST
    ]
    assert not unread


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_captions_can_be_read_on_every_paper(mode: str) -> None:
    ink = colour(THEME[mode]["textColor"])
    assert min(contrast(faded(ink, paper, FADED), paper) for paper in papers(mode)) >= MIN_CONTRAST


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_primary_button_can_be_read_and_seen(mode: str) -> None:
    primary = colour(THEME[mode]["primaryColor"])
    assert contrast((1.0, 1.0, 1.0), primary) >= MIN_CONTRAST  # Streamlit writes on it in white
    assert contrast(primary, colour(THEME[mode]["backgroundColor"])) >= 3  # WCAG 1.4.11, of what is pressed


def test_no_screen_fades_a_text_further_than_the_theme() -> None:
    """Styles of the screens' own: what is fainter than a caption would not be read; bars are no text."""
    fainter = [
        (path.name, rule)
        for path in sorted((ROOT / "pages").rglob("*.py"))
        for rule in re.findall(r"\.tb-[^{}]*\{[^}]*\bopacity: ?\.\d+[^}]*\}", path.read_text())
        if "background" not in rule
        and ".tb-ranged" not in rule
        and float(re.findall(r"opacity: ?(\.\d+)", rule)[0]) < FADED
    ]
    assert not fainter


def test_no_caption_fades_a_colour() -> None:
    """A caption leaves `FADED` of its ink, which the text's own has to spare and no colour has."""
    coloured = [
        path.name
        for path in sorted((ROOT / "pages").rglob("*.py"))
        if re.search(r"""st\.caption\(f?":(red|orange|green|blue|violet)\[""", path.read_text())
    ]
    assert not coloured


def test_text_on_charts_is_written_in_inks_of_the_theme() -> None:
    assert {TICKS, BASE, AMBER, BAD} == set(CHART_TEXTS)
    assert {f"{hue}Color" for hue in CHART_TEXTS.values()} <= set(INKS)
    rules = build_chart_text_rules("light")
    assert "text[style*='fill: rgb(127, 140, 146)'] {fill: " in rules
    assert rules.count("!important") == len(CHART_TEXTS)
