"""One round: how far it is, what it came to, who rated how, what was rated, and what can be made of it."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.rating import round_reads
from pages.rating.rater.to_rate import LINK, RATE, VIEW
from pages.rating.round_answers import draw_answers
from pages.rating.round_figures import enough_is_known
from pages.rating.round_list import people, state_badge, summary
from pages.rating.round_raters import draw_raters
from pages.rating.round_results import draw_results
from pages.rating.round_train import draw_train
from pages.rating.round_workload import draw_workload
from pages.shared.session import act, may, plain
from pages.shared.tabs import Tab, open_tab
from store.documents.rating.round import RoundLine, is_from_elsewhere


def draw_round(round_id: str) -> None:
    """The page of a round for whoever may look. Raises NotFoundError."""
    round = round_reads.round_line(round_id)
    _header(round)
    if round["state"] == "open":
        _draw_open(round)
        return
    tabs = {
        "results": Tab("Results", lambda: draw_results(round)),
        "raters": Tab("People", lambda: draw_raters(round)),
        "answers": Tab("Answers", lambda: draw_answers(round)),
        "train": Tab("Train on it", lambda: draw_train(round)),
    }
    tab, place = open_tab(tabs, "round-tab", subject={LINK: round_id})
    with place:
        tab.draw()


def _header(round: RoundLine) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(plain(round["name"]), anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            _actions(round)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All rounds", type="tertiary", icon=":material/arrow_back:", key="rounds-back"):
            st.query_params.clear()
            st.rerun()
        by = f"started by {plain(round['created_by_name'])}"
        st.markdown(f"{state_badge(round)} :gray[{summary(round)} · {by}]", width="content")
    if round["notes"]:
        st.caption(plain(round["notes"]))
    if round["state"] == "closed" and round["details"]["notices"]:
        st.caption(plain(" ".join(round["details"]["notices"])))


def _actions(round: RoundLine) -> None:
    round_id = round["round_id"]
    open_now = round["state"] == "open"
    if (
        open_now
        and may("rate")
        and st.button("Rate", type="primary", icon=":material/rate_review:", key="round-rate")
    ):
        st.query_params.from_dict({LINK: round_id, VIEW: RATE})
        st.rerun()
    if not may("work"):
        return
    if (
        open_now
        and st.button("Close", icon=":material/check_circle:", key="round-close")
        and act("close_round", {"round": round_id}, "The round is closed.") is not None
    ):
        st.rerun()
    if (
        not open_now
        and not is_from_elsewhere(round)
        and st.button("Open again", icon=":material/lock_open:", key="round-open")
        and act("open_round", {"round": round_id}, "The round is open.") is not None
    ):
        st.rerun()
    if st.button("Delete", icon=":material/delete:", key="round-delete"):
        _confirm_delete(round)


@st.dialog("Delete this round?")
def _confirm_delete(round: RoundLine) -> None:
    st.markdown(
        f"**{plain(round['name'])}** goes for good, with {plural(round['rated'], 'rating')} by"
        f" {people(round['raters'])}. Data sets that were made of it stay."
    )
    sure = st.button("Delete for good", type="primary", icon=":material/delete:", key="round-delete-sure")
    if sure and act("delete", {"job": round["round_id"]}, "Deleted") is not None:
        st.query_params.clear()
        st.rerun()


def _draw_open(round: RoundLine) -> None:
    """How far it is, and whether enough is known: not who is ahead, which would sway those who rate."""
    rated = round["rated"] - round["extra"]
    share = min(1.0, float(rated / round["wanted"])) if round["wanted"] else 0.0
    extra = f" and {round['extra']:,} for checking" if round["extra"] else ""
    st.progress(share, f"{rated:,} of {round['wanted']:,} ratings{extra}, by {people(round['raters'])}")
    if round["protocol"] in ("pairwise", "rank"):
        st.markdown(enough_is_known(round))
    st.caption("What people said is shown once the round is closed, so that nobody rates by it.")
    details = round["details"]
    notes = [
        *details["notices"],
        *([f"To {plural(details['named'], 'prompt')} an answer names a model."] if details["named"] else []),
        *([f"{plural(details['empty'], 'answer')} are empty."] if details["empty"] else []),
        *(
            [f"To {plural(details['same'], 'prompt')} two models gave the same answer."]
            if details["same"]
            else []
        ),
    ]
    if notes:
        st.markdown("\n".join(f"- {plain(note)}" for note in notes))
    if may("work"):
        draw_workload(round)
        draw_raters(round)
