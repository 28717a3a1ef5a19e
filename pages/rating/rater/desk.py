"""The rounds that a person can rate, one card each, and the component in which they rate, declared once.

Everything between a key press and the next pair happens in the browser and in `pages.rating.rater.routes`;
the page's script does not run. The files in `script/` are its parts; texts are rendered by
`pages.shared.rendered`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import streamlit as st

from pages.shared import display
from pages.shared.rendered.component_source import build_component_script, build_component_style
from pages.shared.session import escape_markdown, get_client
from store.core.documents import parse_document
from store.core.rating_schemas import RatableRound, RatableRounds
from store.rating.templates import PROTOCOL_TITLES

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


def build_script() -> str:
    """The JavaScript of the component, as one module."""
    return build_component_script(FOLDER / "script", SCRIPT)


_DESK = st.components.v2.component(
    "tunebench_rating_desk",
    html='<div class="desk"></div>\n<!-- filled by script/desk.js -->',
    css=build_component_style(FOLDER / "rating_desk.css"),
    js=build_script(),
)


def draw_rating_component(round_id: str, key: str) -> None:
    """Mount the component in which the signed-in person rates; it fills the rest of the page."""
    _DESK(data={"round": round_id}, key=key)


LINK, VIEW, RATE = "round", "view", "rate"


def draw_desk(round_id: str) -> None:
    """Draw the rating desk of one round, and a button back."""
    if st.button("All rounds", type="tertiary", icon=":material/arrow_back:", key="rounds-back"):
        st.query_params.clear()
        st.rerun()
    draw_rating_component(round_id, key=f"desk-{round_id}")


def draw_open_rounds() -> bool:
    """Draw a card per round that the person can rate; return whether there are any.

    Only the first card has a primary button.
    """
    rounds = parse_document(RatableRounds, get_client().command("rounds_to_rate", {}))["rounds"]
    for place, round in enumerate(rounds):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None, width="stretch"):
                st.markdown(f"**{escape_markdown(round.name)}**")
                st.caption(_describe_progress(round))
            pressed = st.button(
                "Continue rating" if round.done else "Rate",
                type="primary" if place == 0 else "secondary",
                icon=":material/rate_review:",
                key=f"round-rate-{round.round_id}",
            )
        if pressed:
            st.query_params.from_dict({LINK: round.round_id, VIEW: RATE})
            st.rerun()
    return bool(rounds)


def _describe_progress(round: RatableRound) -> str:
    total = round.total
    done = f"{round.done:,} of up to {total:,} rated by you" if total else f"{round.done:,} rated by you"
    ago = display.format_ago(datetime.fromisoformat(round.created_at))
    started = f"started by {escape_markdown(round.created_by_name)} {ago}"
    return f"{PROTOCOL_TITLES[round.protocol]} · {done} · {started}"
