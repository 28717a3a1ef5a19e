"""Tabs of which the open one is in the link (`?tab=NAME`) and alone does its work.

The link is what counts: a click writes it; who opens it, goes back or is led here finds the tab open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

LINK = "tab"
BETWEEN = "between"  # of a run's page: the models between the run and its base
COST, TRANSFER = "cost", "transfer"  # of Compare: gain against forgetting, and every run on every data set

# The bar comes to the top of the screen, and again while the page still grows, until somebody moves it. The
# script is the same for every bar, as browsers run it by its hash (`pages.shared.response_headers`).
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
    """What stands on the bar, and what draws it."""

    title: str
    draw: Callable[..., None]


def asked_tab() -> str:
    """The tab that the link names; empty where it names none."""
    return st.query_params.get(LINK, "")


def open_tab(
    tabs: Mapping[str, Tab], key: str, *, low: bool = False, subject: Mapping[str, str] | None = None
) -> tuple[Tab, DeltaGenerator]:
    """The bar of tabs, by their names in the link; the open one and its place. The first is open where the
    link names none of them. `low`: the bar is low on the page, so that whoever is led to a tab must see it.
    `subject`: what the link says of other tabs too, where a page was opened that knew it by itself."""
    names, titles = list(tabs), [tab.title for tab in tabs.values()]
    place = names.index(_asked_of(names, key))
    led_here = place > 0 and st.session_state.get(key) != titles[place]  # after a click they are the same
    st.session_state[key] = titles[place]
    by_title = dict(zip(titles, names, strict=True))
    bar = st.tabs(titles, key=key, on_change=_follow, args=(by_title, key, subject or {}))
    if low and led_here:
        _reveal(f".st-key-{key}")
    return tabs[names[place]], bar[place]


def _reveal(bar: str) -> None:
    """Scroll the page to the bar that a selector finds."""
    style = f"<style>{bar} {{scroll-margin-top: 4.5rem}}</style>"
    st.html(f'{style}<script data-bar="{bar}">{REVEAL_SCRIPT}</script>', unsafe_allow_javascript=True)


def _asked_of(names: list[str], key: str) -> str:
    """The open tab. A link may name one of another page: a button that leads there by `st.switch_page` leaves
    in the history the address of this page with the link of that one. Back then finds what was open."""
    asked, last = asked_tab() or names[0], f"{key}-last"
    opened = next((name for name in (asked, st.session_state.get(last)) if name in names), names[0])
    st.session_state[last] = opened
    return opened


def _follow(names: dict[str, str], key: str, subject: Mapping[str, str]) -> None:
    """Callback: the tab that was clicked into the link; the first one needs no word there."""
    chosen = names[st.session_state[key]]
    link = {name: value for name, value in subject.items() if name not in st.query_params}
    if chosen == next(iter(names.values())):
        st.query_params.pop(LINK, None)
    else:
        link[LINK] = chosen
    if link:
        st.query_params.update(link)
