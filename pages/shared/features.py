"""What a feature adds to the screens of others: tabs, parts of a page, entries of the menu, routes.

What draws is imported when it is drawn first: a page costs no more for features that it doesn't show.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from starlette.requests import Request
from starlette.routing import BaseRoute

from pages.shared.layout import Tab
from store.core.features import load_features
from store.core.rights import RIGHTS, TABLES, Surface
from store.core.schemas import Role
from store.http.client import Client
from store.runs.schemas import Run

TabPlace = Literal["run", "comparison", "version"]
MenuSection = Literal["Look", "Train", "Judge", "Ship"]


class Screen(NamedTuple):
    """A page, and what it asks of the engine: who may ask for one of these may open it. about: as
    `st.Page` takes it."""

    path: str
    needs: tuple[tuple[Surface, str], ...]
    about: Mapping[str, Any]

    @property
    def roles(self) -> list[Role]:
        """Who may open it, by the one table of rights."""
        needed = {TABLES[surface][name] for surface, name in self.needs}
        return [role for role, rights in RIGHTS.items() if needed & rights]


class FeatureScreen(NamedTuple):
    """Where in the menu a page stands: behind the one with the address `after`."""

    section: MenuSection
    after: str
    screen: Screen


class FeatureTab(NamedTuple):
    """Where on a bar a tab stands: behind the one that the link calls `after`. name: as the link calls it."""

    place: TabPlace
    after: str
    name: str
    tab: Tab


@dataclass(frozen=True)
class Deferred:
    """A function that is imported when it is called first."""

    module: str
    name: str

    def resolve(self) -> Callable[..., Any]:
        """The function itself. Raises ImportError and AttributeError where there is none."""
        function: Callable[..., Any] = getattr(importlib.import_module(self.module), self.name)
        return function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.resolve()(*arguments, **named)


@dataclass(frozen=True)
class PagesFeature:
    """As `FEATURE` in `pages/<name>/feature.py`, each part where the feature has one.

    draw_run_action: beneath what can be done with a run that has finished. draw_run_origin: in the head of a
    run. draw_run_summary: beneath the verdict of a finished run that writes text. build_routes: of its own,
    by what makes the client of whoever asks.
    """

    screens: Sequence[FeatureScreen] = ()
    tabs: Sequence[FeatureTab] = ()
    draw_run_action: Callable[[Run], None] | None = None
    draw_run_origin: Callable[[Run], None] | None = None
    draw_run_summary: Callable[[str], None] | None = None
    build_routes: Callable[[Callable[[Request], Client]], Iterable[BaseRoute]] | None = None
    parts: Mapping[str, Deferred] = field(default_factory=dict)


def load_page_features() -> Mapping[str, PagesFeature]:
    """What the features add to the screens, by their names."""
    features: Mapping[str, PagesFeature] = load_features("pages")
    return features


def add_feature_tabs(place: TabPlace, tabs: Mapping[str, Tab]) -> dict[str, Tab]:
    """The tabs of a bar with those of the features, each where it belongs; at the end where the one before it
    is not there."""
    placed = list(tabs.items())
    for feature in load_page_features().values():
        for added in (each for each in feature.tabs if each.place == place):
            names = [name for name, _ in placed]
            at = names.index(added.after) + 1 if added.after in names else len(placed)
            placed.insert(at, (added.name, added.tab))
    return dict(placed)
