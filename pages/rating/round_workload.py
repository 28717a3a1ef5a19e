"""How the work of an open round is shared: who has rated how much, what lies with whom, and who may rate."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.rating import round_reads
from pages.rating.starting.round_people import draw_naming_fields, people_who_rate
from pages.shared import quantities
from pages.shared.session import act, plain
from store.documents.rating.round import RoundLine
from store.documents.rating.workload import RaterWorkload, Workload
from store.words.workload_words import left_words, rater_words

P = "round-work."


def draw_workload(round: RoundLine) -> None:
    """For whoever leads the round."""
    work = round_reads.workload(round["round_id"])
    st.subheader("Who rates", anchor=False)
    st.markdown(plain(" ".join(left_words(work))))
    if not work["raters"]:
        st.markdown("Nobody has rated yet. Send the link of this page to those who should.")
    for rater in work["raters"]:
        _draw_rater(round, work, rater)
    with st.expander("Name the people who rate this round", icon=":material/assignment_ind:"):
        _draw_naming(round, work)


def _draw_rater(round: RoundLine, work: Workload, rater: RaterWorkload) -> None:
    person_id = rater["person_id"]
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{plain(rater['person_name'])}**")
            last = quantities.ago(rater["last_active"]) if rater["last_active"] else "has rated nothing yet"
            each = rater["median_seconds"]
            pace = f" · {quantities.span(each)} for one" if each is not None else ""
            st.caption(f"{plain(rater_words(rater))}{pace} · {last}")
        if rater["held"] and st.button(
            "Release", icon=":material/assignment_return:", key=f"{P}release.{person_id}"
        ):
            _confirm_release(round, rater)
        if not rater["assigned"]:
            return
        if st.button("Reassign", icon=":material/swap_horiz:", key=f"{P}reassign.{person_id}"):
            _confirm_reassign(round, work, rater)
        others = sum(other["assigned"] for other in work["raters"]) > 1
        if others and st.button("Take off", icon=":material/person_remove:", key=f"{P}off.{person_id}"):
            _confirm_off(round, work, rater)


@st.dialog("Release what lies with this rater?")
def _confirm_release(round: RoundLine, rater: RaterWorkload) -> None:
    name = plain(rater["person_name"])
    st.markdown(
        f"{plural(rater['held'], 'task')} go to whoever asks next. What {name} is rating just now is still"
        " taken, unless somebody else rates it first."
    )
    if st.button("Release", type="primary", key=f"{P}release-sure"):
        body = {"round": round["round_id"], "person": rater["person_id"]}
        if act("release_round", body, f"What lay with {name} is free.") is not None:
            st.rerun()


@st.dialog("Take this rater off?")
def _confirm_off(round: RoundLine, work: Workload, rater: RaterWorkload) -> None:
    name = plain(rater["person_name"])
    st.markdown(f"{name} gets no more of this round. What {name} has rated stays and counts.")
    if st.button("Take off", type="primary", key=f"{P}off-sure"):
        _assign(round, _named(work, without=rater), f"{name} is taken off.")


@st.dialog("Have somebody else go on?")
def _confirm_reassign(round: RoundLine, work: Workload, rater: RaterWorkload) -> None:
    name = plain(rater["person_name"])
    people = {
        each["person_id"]: each["name"]
        for each in people_who_rate()
        if each["person_id"] != rater["person_id"]
    }
    if not people:
        st.markdown("Nobody else may rate. An admin can invite people on the page Team.")
        return
    to = st.selectbox("To", list(people), format_func=people.__getitem__, key=f"{P}reassign-to")
    left = f" the {rater['left']:,} that are left of the quota of {name}" if rater["left"] else ""
    st.markdown(f"{plain(people[to])} gets{left or ' what is left'}, and {name} no more of this round.")
    if st.button("Reassign", type="primary", key=f"{P}reassign-sure"):
        named = _named(work, without=rater)
        _hand_over(named, to, rater["left"])
        _assign(round, named, f"{plain(people[to])} goes on.")


def _hand_over(named: list[dict[str, Any]], to: str, left: int | None) -> None:
    """Have a person rate so many more; one without a quota rates what there is anyway."""
    for each in named:
        if each["person"] == to:
            if each.get("quota") is not None:
                each["quota"] = each["quota"] + left if left is not None else None
            return
    if left != 0:
        named.append({"person": to, "quota": left})


def _draw_naming(round: RoundLine, work: Workload) -> None:
    """Who rates the round from now on; everybody who may where nobody is chosen."""
    people = {each["person_id"]: each["name"] for each in people_who_rate()}
    if not people:
        st.markdown("Without a team there is nobody to name.")
        return
    quotas = {rater["person_id"]: rater["quota"] for rater in work["raters"] if rater["assigned"]}
    named = draw_naming_fields(people, quotas, f"{P}{round['round_id']}")
    if st.button("Save", key=f"{P}save", icon=":material/check:"):
        _assign(round, named, "Saved who rates it.")


def _named(work: Workload, without: RaterWorkload) -> list[dict[str, Any]]:
    """Those who are named, but one."""
    return [
        {"person": rater["person_id"], "quota": rater["quota"]}
        for rater in work["raters"]
        if rater["assigned"] and rater["person_id"] != without["person_id"]
    ]


def _assign(round: RoundLine, named: list[dict[str, Any]], done: str) -> None:
    body: dict[str, Any] = {"round": round["round_id"]}
    body |= {"raters": named} if named else {"everybody": True}
    if act("assign_round", body, done) is not None:
        st.rerun()
