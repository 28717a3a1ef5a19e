"""The Rating page.

The link is `?round=ID` for a round and `?view=rate` for the rating desk. Without a round it lists the rounds
the person can rate, all rounds, and the form for a new one.
"""

from __future__ import annotations

import streamlit as st

from pages.rating import round_queries, rounds
from pages.rating.new_round import draw_form
from pages.rating.rater.desk import LINK, RATE, VIEW, draw_desk, draw_open_rounds
from pages.rating.round import draw_round
from pages.rating.round_import import draw_import
from pages.shared.session import has_right, show_errors


def main() -> None:
    round_id = st.query_params.get(LINK, "")
    if round_id and (st.query_params.get(VIEW) == RATE or not has_right("look")):
        draw_desk(round_id)
    elif round_id:
        with show_errors():
            if not rounds.draw_preparing(round_id):
                draw_round(round_id)
    else:
        _draw_overview()


def _draw_overview() -> None:
    st.title("Rating", anchor=False)
    with show_errors():
        waiting = has_right("rate") and draw_open_rounds()
        if not has_right("look"):
            if not waiting:
                st.markdown("There is nothing to rate. Come back when a round is started.")
            return
        alive = rounds.draw_unfinished()
        listed = round_queries.list_rounds()
        if not listed and not alive:
            st.markdown(
                "No rating rounds yet. Choose models and prompts; raters compare the answers without "
                "knowing which model wrote them. The results come with confidence intervals and can "
                "become training data."
            )
        if has_right("work"):
            with st.expander("Create round", icon=":material/add:", expanded=not listed and not alive):
                draw_form()
            with st.expander("Import ratings from a file", icon=":material/upload_file:"):
                draw_import()
        if listed:
            rounds.draw_rounds(listed)


main()
