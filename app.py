"""The screens' entry point: frame, navigation by role, the banner of an engine that is away; no content."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.shared import brand, frame
from pages.shared.session import current_person, engine_banner, redraw_if_asked
from store.contract.errors import EngineUnavailable, SignedOutError
from store.contract.roles import RIGHTS
from store.documents.tables.person import Person, Right

st.set_page_config(page_title="Tunebench", page_icon=brand.mark(), layout="wide")


class Screen(NamedTuple):
    """A page, and the right without which it is not there."""

    right: Right
    page: StreamlitPage


def screen(right: Right, path: str, **about: Any) -> Screen:
    """The page in a file, for whoever has a right."""
    return Screen(right, st.Page(path, **about))


PAGES = {
    "Look": [
        screen(
            "look",
            "pages/overview/overview.py",
            title="Overview",
            icon=":material/space_dashboard:",
            default=True,
            help="What is running, and what came out: all runs, the queue and the machine.",
        ),
        screen(
            "look",
            "pages/data/data.py",
            title="Data sets",
            icon=":material/dataset:",
            url_path="data",
            help="Import rows from a file or the hub, look at them and see how they are split.",
        ),
    ],
    "Train": [
        screen(
            "look",  # pages link to it; what it costs may be looked at, and the engine refuses the launch
            "pages/launch/launch.py",
            title="Launch",
            icon=":material/rocket_launch:",
            url_path="launch",
            help="Choose a model, a data set and a method; see what it costs; start the run.",
        ),
        screen(
            "look",
            "pages/run/run.py",
            title="Runs",
            icon=":material/show_chart:",
            url_path="run",
            help="One run: its curves while it learns, its verdict, and how much of the tuning to keep.",
        ),
    ],
    "Judge": [
        screen(
            "look",
            "pages/compare/compare.py",
            title="Compare",
            icon=":material/stacked_line_chart:",
            url_path="compare",
            help="Several runs side by side, what each gain cost, and what a run does for other data.",
        ),
        screen(
            "look",
            "pages/evaluations/evaluations.py",
            title="Evaluations",
            icon=":material/fact_check:",
            url_path="evaluations",
            help="Any model or run on any rows: figures with intervals, compared row by row.",
        ),
        screen(
            "work",
            "pages/playground/playground.py",
            title="Playground",
            icon=":material/forum:",
            url_path="playground",
            help="Talk to up to four models side by side, and see how sure they are of every token.",
        ),
        screen(
            "own",  # raters rate there, viewers read what came of it
            "pages/rating/rating.py",
            title="Rating",
            icon=":material/rate_review:",
            url_path="rating",
            help="People say which answers are better, without knowing who wrote them.",
        ),
    ],
    "Ship": [
        screen(
            "look",
            "pages/models/models.py",
            title="Models",
            icon=":material/deployed_code:",
            url_path="models",
            help="Registered versions: which is in production, what it had to pass, where it comes from.",
        ),
        screen(
            "look",
            "pages/endpoints/endpoints.py",
            title="Endpoints",
            icon=":material/dns:",
            url_path="endpoints",
            help="Models behind OpenAI's protocol: how to call them, who may, and what was asked.",
        ),
        screen(
            "look",
            "pages/monitor/monitor.py",
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
        "look",
        "pages/truth/truth.py",
        title="Simulated truth",
        icon=":material/verified:",
        url_path="truth",
        visibility="hidden",
        help="How often intervals hold the truth and tests cry wolf, where the truth is known.",
    ),
    screen(
        "look",
        "pages/activity/activity.py",
        title="Activity",
        icon=":material/history:",
        url_path="activity",
        visibility="hidden",
        help="Who imported, launched, changed, deleted or said what, and when.",
    ),
    screen(
        "govern",
        "pages/team/team.py",
        title="Team",
        icon=":material/group:",
        url_path="team",
        visibility="hidden",
        help="Who may do what: accounts, roles and invitations.",
    ),
    screen(
        "own",
        "pages/team/you.py",
        title="You",
        icon=":material/account_circle:",
        url_path="you",
        visibility="hidden",
        help="Your name, password, sessions and API tokens.",
    ),
]


def allowed(screens: list[Screen], person: Person) -> list[StreamlitPage]:
    """Those that a role may see. The engine refuses all others' reads, whatever is drawn."""
    return [entry.page for entry in screens if entry.right in RIGHTS[person["role"]]]


def pages_of(person: Person) -> dict[str, list[StreamlitPage]]:
    """The groups of the navigation; pages of the last one are hidden there and linked below it."""
    groups = {title: allowed(screens, person) for title, screens in (PAGES | {"Aside": ASIDE}).items()}
    groups = {title: pages for title, pages in groups.items() if pages}
    if (
        "look" not in RIGHTS[person["role"]]
    ):  # the overview is not theirs, and a page in its place would lose its own address
        groups["Judge"].append(st.Page(_to_rating, title="Start", default=True, visibility="hidden"))
    return groups


def linked(person: Person) -> list[StreamlitPage]:
    """The pages that are linked below the navigation, which is not drawn where it has one page alone."""
    judge = [] if "look" in RIGHTS[person["role"]] else allowed(PAGES["Judge"], person)
    return [*judge, *allowed(ASIDE, person)]


def _to_rating() -> None:
    st.switch_page("pages/rating/rating.py")


def main() -> None:
    try:
        person = current_person()
    except (SignedOutError, EngineUnavailable) as error:
        everything = [entry.page for entries in (*PAGES.values(), ASIDE) for entry in entries]
        st.navigation(everything, position="hidden")  # and none of them is run
        frame.show_gone(error)
        return
    page = st.navigation(pages_of(person))
    dark = st.context.theme.type == "dark"
    st.logo(brand.wordmark(dark), size="large", icon_image=brand.mark(dark))
    frame.show_frame()
    frame.show_link(page)
    frame.show_people(person, linked(person))
    engine_banner()
    page.run()
    redraw_if_asked()


main()
