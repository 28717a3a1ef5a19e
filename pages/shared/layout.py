"""Layout shared by all screens: the frame, tabs kept in the link (`?tab=NAME`), and paged lists.

The link is the source of truth: a click writes it, and only the tab it names does its work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage

from pages.shared.meters import AMBER
from pages.shared.palette import BAD, BASE
from pages.shared.session import escape_markdown
from store.core.errors import SignedOutError, TunebenchError
from store.core.rights import OWNER
from store.core.schemas import Person, Role

TICKS = "#808495"  # Streamlit's colour of chart axes in light mode
RUN_QUERY = "asked-by"  # session state key: path and query of the last full page run
CHART_TEXTS = {TICKS: "gray", BASE: "gray", AMBER: "orange", BAD: "red"}


def apply_frame_style() -> None:
    """Inject CSS that changes a few of Streamlit's own elements.

    Streamlit writes a selected tab, pill or segment in the primary colour, which must also be dark enough for
    the white text of a primary button; in dark mode no colour does both. Selected items are therefore written
    in the theme's link colour. On a phone tabs wrap into several lines, without icons.

    Text below a number may wrap, because an interval cut short is worthless.

    Chart inks are mid-tones that work for lines in light and dark. No mid-tone has enough contrast for small
    text in both, so text in these colours is written in the theme's shade of that hue.
    """
    theme = "dark" if st.context.theme.type == "dark" else "light"
    color = st.get_option(f"theme.{theme}.linkColor")
    st.html(
        f"""<style>
.stTabs [role="tab"][data-selected], .stTabs [role="tab"][aria-selected="true"],
.stButtonGroup button[data-variant][data-selected]:not([data-disabled]) {{color: {color}}}
[data-testid="stMetricDelta"], [data-testid="stMetricDelta"] * {{
  white-space: normal !important; overflow: visible !important; height: auto !important; max-width: 100%
}}
@media (max-width: 640px) {{
  .stTabs [role="tablist"] {{flex-wrap: wrap; row-gap: 0; overflow: visible}}
  .stTabs [role="tab"] [role="img"] {{display: none !important}}
}}
{build_chart_text_rules(theme)}
</style>"""
    )


def sync_address(page: StreamlitPage) -> None:
    """Make the browser's address match the query of this page run.

    A link to the page that is already open (`st.page_link`) runs it with the link's query but leaves the
    address unchanged, so the next interaction would run it without the query and close what was opened.
    """
    asked = page.url_path, {name: st.query_params.get_all(name) for name in st.query_params}
    before = st.session_state.get(RUN_QUERY)
    st.session_state[RUN_QUERY] = asked
    if before and before[0] == asked[0] and before != asked:
        st.query_params.update()  # sends them unchanged, because those bound to a widget cannot be set


def build_chart_text_rules(theme: str) -> str:
    """CSS rules for text on charts; `theme`: light or dark."""
    rules = []
    for ink, hue in CHART_TEXTS.items():
        red, green, blue = (int(ink[place : place + 2], 16) for place in (1, 3, 5))
        fill = f"fill: rgb({red}, {green}, {blue})"  # as Plotly formats it
        color = st.get_option(f"theme.{theme}.{hue}Color")
        rules.append(f".stPlotlyChart text[style*='{fill}'] {{fill: {color} !important}}")
    return "\n".join(rules)


def show_people(person: Person, pages: list[StreamlitPage]) -> None:
    """Below the navigation: account pages, the signed-in person, and sign-out in team mode."""
    with st.sidebar, st.container(gap="xxsmall"):
        for page in pages:
            st.page_link(page)
        if person.person_id != OWNER.person_id:
            st.html(
                f"""<div style="font-size: 0.9rem; overflow-wrap: anywhere; margin-top: 0.5rem">
{escape(person.name)} · {person.role}<br>
<a href="/sign-out" target="_self" style="color: inherit">Sign out</a></div>"""
            )


def show_forbidden(role: Role, title: str, roles: Sequence[Role]) -> None:
    """Shown in place of a page that the person's role may not open, for example after following a link: who
    may.
    """
    *first, last = (f"{other}s" for other in roles)
    who = f"{', '.join(first)} and {last}" if first else last
    st.title(title, anchor=False)
    st.info(
        f"This page is for {who}, and you are a {role}. An admin can give you another role.",
        icon=":material/lock:",
    )


def show_signed_out(error: TunebenchError) -> None:
    """Shown in place of every page if the session has ended or the engine does not know the person."""
    if isinstance(error, SignedOutError):
        st.title("You are signed out", anchor=False)
        st.html(f'<p>{escape(error.message)}</p><p><a href="/sign-in" target="_self">Sign in</a></p>')
    else:
        st.title("The engine is not running", anchor=False)
        st.html(f'<p>{escape(str(error))}</p><p><a href="" target="_self">Try again</a></p>')


LINK = "tab"
INTERPOLATION = "between"  # tab of a run's page: models interpolated between the run and its base
COST = "cost"  # tab of Compare: gain against forgetting

# Scroll the bar to the top of the screen, and again while the page still grows, until the user scrolls. The
# script is the same for every bar, because the browser permits it by its hash (`pages.shared.middleware`).
REVEAL_SCRIPT = """
(() => {
  const bar = document.currentScript.dataset.bar;
  const grown = new ResizeObserver(() => document.querySelector(bar)?.scrollIntoView());
  grown.observe(document.querySelector("[data-testid=stMainBlockContainer]"));
  const stop = () => grown.disconnect();
  for (const move of ["wheel", "touchstart", "pointerdown", "keydown"]) {
    addEventListener(move, stop, {once: true, passive: true});
  }
  setTimeout(stop, 10000);
})();
"""


class Tab(NamedTuple):
    """A tab or one view of a tab, and the function that draws it. group: name of the tab of which it is a
    view; empty for a tab of its own.
    """

    title: str
    draw: Callable[..., None]
    group: str = ""


class TabGroup(NamedTuple):
    """One tab on the bar, with one view or several to choose from."""

    title: str
    views: dict[str, Tab]


def get_linked_tab() -> str:
    """The tab or view named in the link, or ""."""
    return st.query_params.get(LINK, "")


def group_tabs(tabs: Mapping[str, Tab], titles: Mapping[str, str]) -> dict[str, TabGroup]:
    """Tabs of the bar by name, at the position of their first views. titles: of the groups."""
    groups: dict[str, TabGroup] = {}
    for name, tab in tabs.items():
        group = groups.setdefault(tab.group or name, TabGroup(titles.get(tab.group, tab.title), {}))
        group.views[name] = tab
    return groups


def draw_tab_bar(
    tabs: Mapping[str, Tab],
    key: str,
    *,
    low: bool = False,
    subject: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> tuple[Tab, DeltaGenerator]:
    """Draw the tab bar; return the open tab and its container. The first tab is open if the link names none.

    `low`: the bar is far down the page, so a link to a tab scrolls to it. `subject`: link parameters to keep
    on other tabs, if the page was opened without them. `titles`: of groups of tabs, each shown as one tab
    with a control for its views. The link names the view; the name of a group opens its first view.
    """
    groups = group_tabs(tabs, titles or {})
    firsts = {name: next(iter(group.views)) for name, group in groups.items()}
    opened = _choose_tab(list(tabs), firsts, key)
    place, (name, group) = next(
        (at, item) for at, item in enumerate(groups.items()) if opened in item[1].views
    )
    first, view_key = next(iter(tabs)), f"{key}-{name}"
    led_here = opened != first and (  # after a click they agree
        st.session_state.get(key) != group.title
        or st.session_state.get(view_key, tabs[opened].title) != tabs[opened].title
    )
    st.session_state[key] = group.title
    by_title = {other.title: firsts[name] for name, other in groups.items()}
    clicked = (first, subject or {})
    bar = st.tabs(list(by_title), key=key, on_change=_update_link, args=(by_title, key, *clicked))
    if len(group.views) > 1:
        with bar[place]:
            _draw_views(group, opened, view_key, clicked)
    if low and led_here:
        style = f"<style>.st-key-{key} {{scroll-margin-top: 4.5rem}}</style>"
        script = f'<script data-bar=".st-key-{key}">{REVEAL_SCRIPT}</script>'
        st.html(style + script, unsafe_allow_javascript=True)
    return tabs[opened], bar[place]


def _draw_views(group: TabGroup, opened: str, key: str, clicked: tuple[str, Mapping[str, str]]) -> None:
    """Draw the control that selects a view of a tab."""
    by_title = {view.title: name for name, view in group.views.items()}
    st.session_state[key] = group.views[opened].title
    st.segmented_control(
        "View",
        list(by_title),
        key=key,
        required=True,
        label_visibility="collapsed",
        on_change=_update_link,
        args=(by_title, key, *clicked),
    )


def _choose_tab(names: list[str], groups: Mapping[str, str], key: str) -> str:
    """The open tab. groups: the first view of each group.

    A link may name a tab of another page: a button that navigates with `st.switch_page` leaves this page's
    address with the other page's query in the history. Going back then opens the previous tab.
    """
    asked, last = get_linked_tab() or names[0], f"{key}-last"
    if asked not in names:
        asked = groups.get(asked, asked)
    opened = next((name for name in (asked, st.session_state.get(last)) if name in names), names[0])
    st.session_state[last] = opened
    return opened


def _update_link(names: dict[str, str], key: str, first: str, subject: Mapping[str, str]) -> None:
    """Callback: write the selected tab or view to the link; the first one is omitted."""
    chosen = names[st.session_state[key]]
    link = {name: value for name, value in subject.items() if name not in st.query_params}
    if chosen == first:
        st.query_params.pop(LINK, None)
    else:
        link[LINK] = chosen
    if link:
        st.query_params.update(link)


Row = TypeVar("Row")


def read_page(key: str, size: int, read: Callable[[int], tuple[int, list[Row]]]) -> tuple[int, list[Row]]:
    """The total number and the rows of the selected page; the first page if a filter has left fewer.

    read: returns total and rows from an offset. key: of the `st.pagination` below.
    """
    number = int(st.session_state.get(key) or 1)
    total, rows = read(size * (number - 1))
    if not rows and total:
        st.session_state.pop(key, None)
        total, rows = read(0)
    return total, rows


def draw_link(page: str, name: str, query_params: dict[str, str], summary: str, badge: str) -> None:
    """Draw a list entry: the name as a link, a summary below, a badge at the right. Summary and badge are
    Markdown.
    """
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            st.page_link(page, label=f"**{escape_markdown(name)}**", query_params=query_params)
            st.caption(summary)
        st.markdown(badge, width="content")
