"""What holds on every screen beside the theme file: what is chosen can be read, no tab is out of sight."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from pages.shared.figures import AMBER
from pages.shared.palette import BAD, BASE
from store.contract.errors import SignedOutError, TunebenchError
from store.contract.roles import OWNER
from store.documents.tables.person import Person, Role

TICKS = "#808495"  # in which Streamlit writes the axes of charts in light mode
ASKED_BY = "asked-by"  # in the session state: path and query of the page's last whole run
CHART_TEXTS = {TICKS: "gray", BASE: "gray", AMBER: "orange", BAD: "red"}


def show_frame() -> None:
    """Draw nothing, and say how a few of Streamlit's own parts look.

    Streamlit writes a chosen tab, pill or segment in the primary colour, which must also be dark enough for
    the white text of a primary button: in dark mode no colour does both. So what is chosen is written in the
    theme's colour of links. On a phone tabs take as many lines as they need, without their icons.

    What stands below a number takes a second line where it has to, for an interval cut short is none.

    A chart's inks are mid-tones, right for lines on white and on dark; for small text no mid-tone is strong
    enough on both, so that text in them is written in the theme's ink of that hue.
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
{chart_texts(theme)}
</style>"""
    )


def show_link(page: StreamlitPage) -> None:
    """Have the browser's address say what this run of the page was asked by.

    A link to the page that is open already (`st.page_link`) runs it with the link's query and leaves the
    address as it was, so that the next click anywhere would run it without: what was opened was gone again.
    """
    asked = page.url_path, {name: st.query_params.get_all(name) for name in st.query_params}
    before = st.session_state.get(ASKED_BY)
    st.session_state[ASKED_BY] = asked
    if before and before[0] == asked[0] and before != asked:
        st.query_params.update()  # sends them as they are: those that are bound to a widget can't be set


def chart_texts(theme: str) -> str:
    """The rules for text on charts; `theme`: light or dark."""
    rules = []
    for ink, hue in CHART_TEXTS.items():
        red, green, blue = (int(ink[place : place + 2], 16) for place in (1, 3, 5))
        fill = f"fill: rgb({red}, {green}, {blue})"  # as Plotly writes it
        color = st.get_option(f"theme.{theme}.{hue}Color")
        rules.append(f".stPlotlyChart text[style*='{fill}'] {{fill: {color} !important}}")
    return "\n".join(rules)


def show_people(person: Person, pages: list[StreamlitPage]) -> None:
    """Below the navigation: the pages about people, who is signed in, and the way out where somebody has to
    sign in."""
    with st.sidebar, st.container(gap="xxsmall"):
        for page in pages:
            st.page_link(page)
        if person["person_id"] != OWNER["person_id"]:
            st.html(
                f"""<div style="font-size: 0.9rem; overflow-wrap: anywhere; margin-top: 0.5rem">
{escape(person["name"])} · {person["role"]}<br>
<a href="/sign-out" target="_self" style="color: inherit">Sign out</a></div>"""
            )


def show_others(role: Role, title: str, roles: Sequence[Role]) -> None:
    """In place of a page that is not for this role, which a link may still lead to: whose it is."""
    *first, last = (f"{other}s" for other in roles)
    who = f"{', '.join(first)} and {last}" if first else last
    st.title(title, anchor=False)
    st.info(
        f"This page is for {who}, and you are a {role}. An admin can give you another role.",
        icon=":material/lock:",
    )


def show_gone(error: TunebenchError) -> None:
    """In place of every page: for somebody who is not signed in any more, or whom no engine has named."""
    if isinstance(error, SignedOutError):
        st.title("You are signed out", anchor=False)
        st.html(f'<p>{escape(error.message)}</p><p><a href="/sign-in" target="_self">Sign in</a></p>')
    else:
        st.title("The engine is not running", anchor=False)
        st.html(f'<p>{escape(str(error))}</p><p><a href="" target="_self">Look again</a></p>')
