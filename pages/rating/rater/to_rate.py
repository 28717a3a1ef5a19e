"""What a person can rate: a card for each round, and the desk that it leads to."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import streamlit as st

from pages.rating.rater.rating_desk import rating_desk
from pages.shared import quantities
from pages.shared.session import client, plain
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.documents.rating.round import RoundsToRate, RoundToRate

LINK, VIEW, RATE = "round", "view", "rate"


def draw_desk(round_id: str) -> None:
    """The desk of one round, and the way back."""
    if st.button("All rounds", type="tertiary", icon=":material/arrow_back:", key="rounds-back"):
        st.query_params.clear()
        st.rerun()
    rating_desk(round_id, key=f"desk-{round_id}")


def draw_to_rate() -> bool:
    """What this person can rate: a card each, the first with the primary button. Whether there is any."""
    rounds = cast(RoundsToRate, client().command("rounds_to_rate", {}))["rounds"]
    for place, round in enumerate(rounds):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None, width="stretch"):
                st.markdown(f"**{plain(round['name'])}**")
                st.caption(_how_far(round))
            pressed = st.button(
                "Go on rating" if round["done"] else "Rate",
                type="primary" if place == 0 else "secondary",
                icon=":material/rate_review:",
                key=f"round-rate-{round['round_id']}",
            )
        if pressed:
            st.query_params.from_dict({LINK: round["round_id"], VIEW: RATE})
            st.rerun()
    return bool(rounds)


def _how_far(round: RoundToRate) -> str:
    total = round["total"]
    done = (
        f"{round['done']:,} of up to {total:,} rated by you" if total else f"{round['done']:,} rated by you"
    )
    ago = quantities.ago(datetime.fromisoformat(round["created_at"]))
    started = f"started by {plain(round['created_by_name'])} {ago}"
    return f"{PROTOCOL_TITLES[round['protocol']]} · {done} · {started}"
