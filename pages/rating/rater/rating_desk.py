"""The component in which people rate: declared once, mounted by the page of a rating round.

Everything between a key and the next pair happens in the browser and by `pages.rating.rater.rating_routes`;
the page's script does not run for it. The files in `script/` are its topics, in the order below; texts are
rendered by `pages.shared.rendered`.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.shared.rendered.component_source import component_script, component_style

FOLDER = Path(__file__).parent
SCRIPT = (
    "buttons",
    "words",
    "delivery",
    "drafts",
    "screen_clock",
    "conversation",
    "labels",
    "several_labels",
    "spans",
    "free_text",
    "protocols",
    "scrolling",
    "layout",
    "keys",
    "desk",
    "mount",
)


def script() -> str:
    """The JavaScript of the component, as one module."""
    return component_script(FOLDER / "script", SCRIPT)


_DESK = st.components.v2.component(
    "tunebench_rating_desk",
    html='<div class="desk"></div>\n<!-- filled by script/desk.js -->',
    css=component_style(FOLDER / "rating_desk.css"),
    js=script(),
)


def rating_desk(round_id: str, key: str) -> None:
    """Have the person who is signed in rate what the round has for them; fills the rest of the page."""
    _DESK(data={"round": round_id}, key=key)
