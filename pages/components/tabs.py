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


class Tab(NamedTuple):
    """What stands on the bar, and what draws it."""

    title: str
    draw: Callable[..., None]


def asked_tab() -> str:
    """The tab that the link names; empty where it names none."""
    return st.query_params.get(LINK, "")


def open_tab(tabs: Mapping[str, Tab], key: str) -> tuple[Tab, DeltaGenerator]:
    """The bar of tabs, by their names in the link; the open one and its place. The first is open where the
    link names none of them."""
    names = list(tabs)
    place = names.index(asked_tab()) if asked_tab() in tabs else 0
    titles = [tab.title for tab in tabs.values()]
    st.session_state[key] = titles[place]
    bar = st.tabs(titles, key=key, on_change=_follow, args=(dict(zip(titles, names, strict=True)), key))
    return tabs[names[place]], bar[place]


def _follow(names: dict[str, str], key: str) -> None:
    """Callback: the tab that was clicked into the link; the first one needs no word there."""
    chosen = names[st.session_state[key]]
    if chosen == next(iter(names.values())):
        st.query_params.pop(LINK, None)
    else:
        st.query_params[LINK] = chosen
