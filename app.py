"""The screens' entry point: frame, navigation by role, the banner of an engine that is away; no content."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.shared import brand, layout
from pages.shared.session import draw_engine_banner, get_current_person, redraw_if_asked
from store.core.errors import EngineUnavailable, SignedOutError
from store.core.rights import RIGHTS, TABLES, Surface
from store.core.schemas import Role

st.set_page_config(page_title="Tunebench", page_icon=brand.render_mark(), layout="wide")


class Screen(NamedTuple):
    """A page, and what it asks of the engine: who may ask for one of these may open it."""

    path: str
    needs: tuple[tuple[Surface, str], ...]
    about: dict[str, Any]

    @property
    def roles(self) -> list[Role]:
        """Who may open it, by the one table of rights."""
        needed = {TABLES[surface][name] for surface, name in self.needs}
        return [role for role, rights in RIGHTS.items() if needed & rights]

    def page(self, role: Role) -> StreamlitPage:
        """As the navigation takes it. One that is not for this role is not in the menu, and a link to it
        leads to who may open it."""
        about = self.about if role in self.roles else self.about | {"visibility": "hidden", "default": False}
        return st.Page(self.path, **about)


def screen(path: str, needs: tuple[tuple[Surface, str], ...], **about: Any) -> Screen:
    """The page in a file, for whoever may ask the engine for what it needs."""
    return Screen(path, needs, about)


PAGES = {
    "Look": [
        screen(
            "pages/overview/overview.py",
            (("query", "runs.runs.list_runs"),),
            title="Overview",
            icon=":material/space_dashboard:",
            default=True,
            help="What is running, and what came out: all runs, the queue and the machine.",
        ),
        screen(
            "pages/data/data.py",
            (("query", "data.datasets.list_datasets"),),
            title="Data sets",
            icon=":material/dataset:",
            url_path="data",
            help="Import rows from a file or the hub, look at them and see how they are split.",
        ),
    ],
    "Train": [
        screen(
            "pages/training/launch.py",
            (("command", "launch"),),
            title="Launch",
            icon=":material/rocket_launch:",
            url_path="launch",
            help="Choose a model, a data set and a method; see what it costs; start the run.",
        ),
        screen(
            "pages/runs/run.py",
            (("query", "runs.runs.get_run"),),
            title="Runs",
            icon=":material/show_chart:",
            url_path="run",
            help="One run: its curves while it learns, its verdict, and how much of the tuning to keep.",
        ),
    ],
    "Judge": [
        screen(
            "pages/comparison/compare.py",
            (("query", "runs.runs.get_runs"),),
            title="Compare",
            icon=":material/stacked_line_chart:",
            url_path="compare",
            help="Several runs side by side, what each gain cost, and what a run does for other data.",
        ),
        screen(
            "pages/evaluation/evaluations.py",
            (("query", "evaluation.evaluations.listed"),),
            title="Evaluations",
            icon=":material/fact_check:",
            url_path="evaluations",
            help="Any model or run on any rows: figures with intervals, compared row by row.",
        ),
        screen(
            "pages/playground/playground.py",
            (("route", "POST /playground/generate"),),
            title="Playground",
            icon=":material/forum:",
            url_path="playground",
            help="Talk to up to four models side by side, and see how sure they are of every token.",
        ),
        screen(
            "pages/rating/rating.py",
            (
                ("command", "rounds_to_rate"),
                ("query", "rating.rounds.list_rounds"),
            ),
            title="Rating",
            icon=":material/rate_review:",
            url_path="rating",
            help="People say which answers are better, without knowing who wrote them.",
        ),
    ],
    "Ship": [
        screen(
            "pages/registry/models.py",
            (("query", "registry.model_versions.list_models"),),
            title="Models",
            icon=":material/deployed_code:",
            url_path="models",
            help="Registered versions: which is in production, what it had to pass, where it comes from.",
        ),
        screen(
            "pages/serving/endpoints.py",
            (("route", "GET /endpoints"),),
            title="Endpoints",
            icon=":material/dns:",
            url_path="endpoints",
            help="Models behind OpenAI's protocol: how to call them, who may, and what was asked.",
        ),
        screen(
            "pages/monitoring/monitor.py",
            (("query", "monitoring.monitors.endpoints"),),
            title="Monitor",
            icon=":material/monitoring:",
            url_path="monitor",
            help="Whether what is served is still good: traffic, drift, quality and alerts.",
        ),
    ],
}

# About people, and how far all figures can be trusted: below the navigation, not among the steps of work.
ASIDE = [
    screen(
        "pages/evaluation/truth.py",
        (("query", "runs.runs.list_runs"),),  # whose figures it is about
        title="Simulated truth",
        icon=":material/verified:",
        url_path="truth",
        visibility="hidden",
        help="How often intervals hold the truth and tests cry wolf, where the truth is known.",
    ),
    screen(
        "pages/people/activity.py",
        (("query", "people.activity.listed"),),
        title="Activity",
        icon=":material/history:",
        url_path="activity",
        visibility="hidden",
        help="Who imported, launched, changed, deleted or said what, and when.",
    ),
    screen(
        "pages/people/team.py",
        (("route", "GET /team"),),
        title="Team",
        icon=":material/group:",
        url_path="team",
        visibility="hidden",
        help="Who may do what: accounts, roles and invitations.",
    ),
    screen(
        "pages/people/you.py",
        (("route", "GET /account"),),
        title="You",
        icon=":material/account_circle:",
        url_path="you",
        visibility="hidden",
        help="Your name, password, sessions and API tokens.",
    ),
]


def pages_of(role: Role) -> dict[str, dict[StreamlitPage, Screen | None]]:
    """The groups of the navigation; pages of the last one are hidden there and linked below it."""
    groups: dict[str, dict[StreamlitPage, Screen | None]] = {
        title: {entry.page(role): entry for entry in screens}
        for title, screens in (PAGES | {"Aside": ASIDE}).items()
    }
    if role not in PAGES["Look"][0].roles:  # the overview, whose address leads to what is theirs
        groups["Judge"][st.Page(_to_rating, title="Start", default=True, visibility="hidden")] = None
    return groups


def linked(role: Role, groups: dict[str, dict[StreamlitPage, Screen | None]]) -> list[StreamlitPage]:
    """The pages that are linked below the navigation, which is not drawn where it has one page alone."""
    alone = role not in PAGES["Look"][0].roles
    below = {**groups["Judge"], **groups["Aside"]} if alone else groups["Aside"]
    return [page for page, entry in below.items() if entry and role in entry.roles]


def _to_rating() -> None:
    st.switch_page("pages/rating/rating.py")


def main() -> None:
    try:
        person = get_current_person()
    except (SignedOutError, EngineUnavailable) as error:
        everything = [
            st.Page(entry.path, **entry.about) for part in (*PAGES.values(), ASIDE) for entry in part
        ]
        st.navigation(everything, position="hidden")  # and none of them is run
        layout.show_signed_out(error)
        return
    role = person["role"]
    groups = pages_of(role)
    page = st.navigation({title: list(pages) for title, pages in groups.items()})
    dark = st.context.theme.type == "dark"
    st.logo(brand.render_wordmark(dark), size="large", icon_image=brand.render_mark(dark))
    layout.apply_frame_style()
    layout.sync_address(page)
    layout.show_people(person, linked(role, groups))
    draw_engine_banner()
    entry = next((pages[page] for pages in groups.values() if page in pages), None)
    if entry and role not in entry.roles:
        layout.show_forbidden(role, entry.about["title"], entry.roles)
        return
    page.run()
    redraw_if_asked()


main()
