"""The component in which people rate: declared once, mounted by the page of a rating round.

Everything between a key and the next pair happens in the browser and by `pages.rating.rater.rating_routes`;
the page's script does not run for it. Streamlit takes a component's JavaScript as one text: the files in
`script/` are its topics, joined in the order below into one module, in which each sees what the others
define. What they show of prompts and answers they build as text nodes, never as HTML.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).parent
SCRIPT = (
    "elements",
    "markdown",
    "words",
    "delivery",
    "drafts",
    "conversation",
    "protocols",
    "scrolling",
    "layout",
    "keys",
    "desk",
)


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def script() -> str:
    """The JavaScript of the component, as one module."""
    return "\n".join(_text(f"script/{name}.js") for name in SCRIPT)


_DESK = st.components.v2.component(
    "tunebench_rating_desk",
    html='<div class="desk"></div>\n<!-- filled by script/desk.js -->',
    css=_text("rating_desk.css"),
    js=script(),
)


def rating_desk(round_id: str, key: str) -> None:
    """Have the person who is signed in rate what the round has for them; fills the rest of the page."""
    _DESK(data={"round": round_id}, key=key)
