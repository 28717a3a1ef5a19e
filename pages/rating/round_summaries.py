"""Rounds as other pages show them: on a run's, those of its answers; beside compared runs, those of both."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.rating import round_reads
from pages.rating.rater.to_rate import LINK
from pages.rating.round_figures import headline
from pages.rating.round_list import state_badge, summary
from pages.shared.session import guarded, plain
from store.documents.rating.round import RoundLine

MOST = 5  # beside compared runs


def draw_run_rounds(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        listed = round_reads.of_run(run_id)
        if not listed:
            st.markdown(
                "People have not rated this run's answers yet. In a round they say which answers are better,"
                " without knowing who wrote them."
            )
        for round in listed:
            _draw_round(round)
        st.page_link(
            "pages/rating/rating.py",
            label="Start a round with this run" if not listed else "Start another round",
            icon=":material/rate_review:",
            query_params={"run": run_id},
        )


def draw_rounds_between(run_ids: Sequence[str]) -> None:
    """Rounds in which two or more of these runs were rated; nothing where there is none."""
    if len(run_ids) < 2:
        return
    with guarded():
        of_first = {round["round_id"]: round for run_id in run_ids for round in round_reads.of_run(run_id)}
        between = [
            round
            for round in of_first.values()
            if len({system["run_id"] for system in round["systems"]} & set(run_ids)) > 1
        ]
        if not between:
            return
        st.subheader("What people prefer", anchor=False)
        for round in between[:MOST]:
            _draw_round(round)
        if len(between) > MOST:
            st.caption(f"{MOST} of {len(between)} rounds.")


def _draw_round(round: RoundLine) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width="stretch"):
                st.page_link(
                    "pages/rating/rating.py",
                    label=f"**{plain(round['name'])}**",
                    query_params={LINK: round["round_id"]},
                )
            st.markdown(state_badge(round), width="content")
        if round["state"] == "closed" and (sentence := headline(round)):
            st.markdown(sentence)
        st.caption(summary(round))
