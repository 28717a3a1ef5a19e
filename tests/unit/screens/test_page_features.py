"""What features add to the screens: it is there, and stands where it belongs, whichever of them are there."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from pages.shared import layout, menu
from pages.shared.features import Deferred, TabPlace, load_page_features, place_behind
from store.core.features import FEATURES

ROOT = Path(__file__).parents[3]
MENU = {
    "Look": ["", "data"],
    "Train": ["launch", "run"],
    "Judge": ["compare", "evaluations", "playground", "rating"],
    "Ship": ["models", "endpoints", "monitor"],
}
BARS: dict[TabPlace, tuple[str, str]] = {
    "run": (
        "pages/runs/run.py",
        "learning overfitting forgetting between samples rating evaluations slices bias export config log"
        " comments",
    ),
    "comparison": ("pages/comparison/compare.py", "side cost transfer"),
    "version": ("pages/registry/models.py", "versions gate improve lineage exports card"),
}
TABS = [tab for feature in load_page_features().values() for tab in feature.tabs]
SCREENS = [screen for feature in load_page_features().values() for screen in feature.screens]


def deferred(part: Any) -> Iterator[Deferred]:
    """All within what a feature declares, however deep."""
    if isinstance(part, Deferred):
        yield part
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from deferred(getattr(part, field.name))
    elif isinstance(part, Mapping):
        yield from deferred(list(part.values()))
    elif isinstance(part, list | tuple):
        for each in part:
            yield from deferred(each)


def core_tabs(path: str) -> list[str]:
    """The names of the tabs that a page has by itself; its code would draw it."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TABS"
    ]
    assert isinstance(table, ast.Dict)
    return [
        getattr(layout, key.id) if isinstance(key, ast.Name) else ast.literal_eval(key)
        for key in table.keys
        if key is not None
    ]


@pytest.mark.parametrize("name", load_page_features())
def test_all_that_a_feature_draws_later_is_there_and_its_own(name: str) -> None:
    for part in deferred(load_page_features()[name]):
        assert callable(part.resolve()), part
        assert part.module.startswith(f"pages.{name}."), part


@pytest.mark.parametrize("section", MENU)
def test_the_menu_is_in_its_order(section: Any) -> None:
    order, placed = MENU[section], [screen.address for screen in menu.build_menu().get(section, [])]
    own = [each for each in SCREENS if each.section == section]
    assert {each.screen.address for each in own} <= set(placed)
    assert {each.after for each in own} <= {"", *order, *placed}
    assert [address for address in placed if address in order] == [
        address for address in order if address in placed
    ]


@pytest.mark.parametrize("place", BARS)
def test_tabs_are_in_their_order(place: TabPlace) -> None:
    path, names = BARS[place]
    own = [tab for tab in TABS if tab.place == place]
    if not (ROOT / path).exists():  # the bar belongs to a feature that is not there
        return
    order, there = names.split(), core_tabs(path)
    placed = list(place_behind(dict.fromkeys(there, 0), [(tab.name, tab.after, 1) for tab in own]))
    assert sorted(placed) == sorted({*there, *(tab.name for tab in own)})
    assert {tab.after for tab in own} <= {*order, *placed}
    assert [name for name in placed if name in order] == [name for name in order if name in placed]


def test_all_bars_are_looked_at() -> None:
    assert set(BARS) == set(get_args(TabPlace))
    assert set(load_page_features()) <= set(FEATURES)


def test_every_page_of_the_menu_is_a_file_with_an_address_of_its_own() -> None:
    screens = menu.list_screens()
    addresses = [screen.address for screen in screens]
    assert len(set(addresses)) == len(addresses)
    assert [screen.path for screen in screens if not (ROOT / screen.path).is_file()] == []
    assert [screen.path for screen in screens if not screen.roles] == []


def test_parts_come_behind_one_that_comes_later() -> None:
    added = [("c", "b", 3), ("b", "a", 2), ("y", "gone", 5), ("d", "a", 4)]
    assert list(place_behind({"a": 1, "z": 9}, added)) == ["a", "d", "b", "c", "z", "y"]
    assert place_behind({}, [("b", "a", 2), ("a", "b", 1)]) == {"b": 2, "a": 1}  # though neither is first
