"""What a feature adds to other screens: tabs, page parts, menu entries and routes.

Drawing code is imported when it is first needed, so a page costs no more for features it does not show.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.routing import BaseRoute

from store.core.config import Config
from store.core.features import load_features
from store.core.rights import RIGHTS, TABLES, Surface
from store.core.schemas import Role, SubjectKind
from store.core.training_schemas import Preview
from store.data.schemas import Dataset
from store.evaluation.schemas import EvaluationSummary
from store.http.client import Client
from store.runs.schemas import Run

if TYPE_CHECKING:
    from pages.shared.layout import Tab

TabPlace = Literal["run", "comparison", "version"]
NoticePlace = Literal["overview", "models"]
MenuSection = Literal["Look", "Train", "Judge", "Ship"]
_Part = TypeVar("_Part")


class Screen(NamedTuple):
    """A page and the queries it needs; a person with the right to one of them may open it.

    about: keyword arguments of `st.Page`.
    """

    path: str
    needs: tuple[tuple[Surface, str], ...]
    about: Mapping[str, Any]

    @property
    def roles(self) -> list[Role]:
        """The roles that may open it, by the table of rights."""
        needed = {TABLES[surface][name] for surface, name in self.needs}
        return [role for role, rights in RIGHTS.items() if needed & rights]

    @property
    def address(self) -> str:
        """Its path in links; empty for the start page."""
        return str(self.about.get("url_path", ""))


class FeatureScreen(NamedTuple):
    """A page and its position in the menu: after the page with the path `after`."""

    section: MenuSection
    after: str
    screen: Screen


class FeatureTab(NamedTuple):
    """A tab and its position on a tab bar: after the tab with the link name `after`. name: its own link
    name.

    It draws a run by id, a version by client, model and version, and the comparison without arguments. group:
    the tab of the page of which it is a view (for a run's page, one of `GROUPS` in `pages/runs/run.py`);
    empty for a separate tab, or if the page has no such tab.
    """

    place: TabPlace
    after: str
    name: str
    tab: Tab
    group: str = ""


class NewRows(NamedTuple):
    """Rows on which models could be trained further.

    label: of the link, with {} for a model's name. models: names of the models that produced the answers;
    run_ids: the same for runs. query: the source of the rows as link parameters.
    """

    label: str
    models: Sequence[str]
    run_ids: Sequence[str]
    query: Mapping[str, str]


@dataclass(frozen=True)
class Deferred:
    """A function that is imported on its first call."""

    module: str
    name: str

    def resolve(self) -> Callable[..., Any]:
        """The function itself. Raises ImportError and AttributeError if it does not exist."""
        function: Callable[..., Any] = getattr(importlib.import_module(self.module), self.name)
        return function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.resolve()(*arguments, **named)


@dataclass(frozen=True)
class PagesFeature:
    """Screen parts of a feature: `FEATURE` in `pages/<name>/feature.py`. All parts are optional.

    subject_pages: the page that shows a subject of the activity log, by kind of subject; the kind is also the
    link parameter. notices: drawn at the top of a page. list_model_names: models offered in model selectors.
    draw_run_button: among the actions for a finished run; draw_run_action: below them. draw_run_origin: in
    the header of a run; draw_run_use: below it, what the run has been used for. draw_run_summary: below the
    verdict of a finished run that generates text. draw_comparison_part: of a comparison, by run ids.
    draw_dataset_origin: in the header of a data set. draw_slice_use: beside a slice, by the ids of data set
    and slice. draw_row_use: beside rows that people have corrected, labelled or rated. draw_endpoint_notice:
    beside an endpoint, by its id. build_preview_facts: name, value and note of what follows a run that is
    launched. draw_evaluation_part: of an evaluation, beside others on the same data. draw_schedule_field: of
    a monitor's settings, given its present schedule. draw_scheduled_check: the figures of a check, by its
    job. build_routes: additional routes, given the function that builds the client of a request.
    """

    screens: Sequence[FeatureScreen] = ()
    tabs: Sequence[FeatureTab] = ()
    subject_pages: Mapping[SubjectKind, str] = field(default_factory=dict)
    notices: Mapping[NoticePlace, Callable[[], None]] = field(default_factory=dict)
    list_model_names: Callable[[], list[str]] | None = None
    draw_run_button: Callable[[Run], None] | None = None
    draw_run_action: Callable[[Run], None] | None = None
    draw_run_origin: Callable[[Run], None] | None = None
    draw_run_use: Callable[[Run], None] | None = None
    draw_comparison_part: Callable[[Sequence[str]], None] | None = None
    draw_dataset_origin: Callable[[Dataset], None] | None = None
    draw_slice_use: Callable[[str, str], None] | None = None
    draw_row_use: Callable[[NewRows], None] | None = None
    draw_endpoint_notice: Callable[[str], None] | None = None
    draw_run_summary: Callable[[str], None] | None = None
    build_preview_facts: Callable[[Preview], list[tuple[str, str, str]]] | None = None
    draw_evaluation_part: Callable[[str, Sequence[EvaluationSummary]], None] | None = None
    draw_schedule_field: Callable[[Any], Config | None] | None = None
    draw_scheduled_check: Callable[[str], None] | None = None
    build_routes: Callable[[Callable[[Request], Client]], Iterable[BaseRoute]] | None = None


def load_page_features() -> Mapping[str, PagesFeature]:
    """The screen parts of all features, by feature name."""
    features: Mapping[str, PagesFeature] = load_features("pages")
    return features


def list_parts(choose: Callable[[PagesFeature], _Part | None]) -> list[_Part]:
    """The parts selected by `choose` of every feature that has one, in the order of features."""
    return [part for feature in load_page_features().values() if (part := choose(feature)) is not None]


def list_model_names() -> list[str]:
    """Names of the models that features offer in model selectors."""
    return [name for list_own in list_parts(lambda feature: feature.list_model_names) for name in list_own()]


def place_behind(parts: Mapping[str, _Part], added: Iterable[tuple[str, str, _Part]]) -> dict[str, _Part]:
    """Insert (name, predecessor, part) items after their predecessors, or at the end if the predecessor is
    missing.
    """
    names, placed, waiting = list(parts), dict(parts), list(added)
    while waiting:
        coming = {name for name, _, _ in waiting}
        at = next((at for at, (_, after, _) in enumerate(waiting) if after not in coming), 0)
        name, after, part = waiting.pop(at)
        names.insert(names.index(after) + 1 if after in names else len(names), name)
        placed[name] = part
    return {name: placed[name] for name in names}


def add_feature_tabs(place: TabPlace, tabs: Mapping[str, Tab]) -> dict[str, Tab]:
    """Tabs and views of a tab bar, including those of the features."""
    added = [tab for feature in load_page_features().values() for tab in feature.tabs if tab.place == place]
    grouped = ((each.name, each.after, each.tab._replace(group=each.group)) for each in added)
    return place_behind(tabs, grouped)
