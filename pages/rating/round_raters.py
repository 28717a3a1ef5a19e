"""Who rated a round, and how: consistency, speed, sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from engine.diagnostics.rating.raters.dawid_skene import Reliabilities, reliabilities
from engine.diagnostics.rating.raters.flagged import RaterChecks, failed_qualification
from engine.diagnostics.rating.raters.profiles import RaterProfile, profiles
from engine.diagnostics.rating.rows.of_round import names_apart
from engine.diagnostics.rating.words import agreement_words
from engine.diagnostics.rating.words.check_words import checks_lines
from engine.diagnostics.rating.words.rating_words import share_text
from pages.evaluations import evaluation_reads
from pages.rating import round_figures, round_reads
from pages.shared import quantities
from pages.shared.session import act, may, plain
from store.documents.rating.round import RaterCounts, RoundLine

MAX_PEOPLE = 12  # who have a part of the page each


def draw_raters(round: RoundLine) -> None:
    """The tab of a closed round; of an open one who failed its qualification, beside its workload."""
    counts = round_reads.rater_counts(round["round_id"])
    open_now = round["state"] == "open"
    if not counts:
        if not open_now:
            st.markdown("Nobody has rated it.")
        return
    names = {person_id: name for name, person_id in names_apart(counts).items()}
    _draw_failed(round, names)
    if open_now:
        return
    checks = {each.person_id: each for each in round_figures.checks_of(round)}
    figured = _profiles(round_figures.stamp(round), round)
    _table(counts, names, {figured.people[each.rater]: each for each in figured.profiles})
    _draw_judges(round, names)
    left_out = {rater["person_id"]: rater["by_name"] for rater in round_reads.left_out(round["round_id"])}
    _draw_people(round, figured, names, left_out, checks)
    if figured.profiles:
        lines = agreement_words.reliability_lines(figured.reliable)
        st.markdown("\n".join(f"- {plain(line)}" for line in lines))


class _Figured(NamedTuple):
    """people: name of a rater -> id; profiles: of those who compared."""

    people: Mapping[str, str]
    profiles: list[RaterProfile]
    reliable: Reliabilities


@st.cache_data(ttl=600, max_entries=16, show_spinner="Working out how people rated")
def _profiles(stamped: tuple[str, ...], _round: RoundLine) -> _Figured:
    """Of all who rated, left out or not."""
    ratings = round_figures.ratings_of_all(_round)
    if ratings.comparisons is None or not len(ratings.comparisons):
        return _Figured(ratings.people, [], Reliabilities(()))
    return _Figured(ratings.people, profiles(ratings.comparisons), reliabilities(ratings.comparisons))


def _table(
    counts: Sequence[RaterCounts], names: Mapping[str, str], profiled: Mapping[str, RaterProfile]
) -> None:
    """Of any number of raters: those to look at first, then as they began."""
    lines = []
    for each in sorted(counts, key=lambda each: not _doubts(profiled.get(each["person_id"]))):
        line = {
            "Name": names[each["person_id"]],
            "Rated": each["rated"],
            "Skipped": each["skipped"],
            "Time for one": "–" if each["seconds"] is None else quantities.span(each["seconds"]),
            "Last": quantities.ago(each["last_at"]),
        }
        if profile := profiled.get(each["person_id"]):
            line["Others agree"] = share_text(profile.agreement) if profile.agreement.n else "–"
            line["Look at"] = _doubts(profile)
        lines.append(line)
    st.dataframe(lines, hide_index=True, alt="Who rated how much")


def _doubts(profile: RaterProfile | None) -> str:
    return "" if profile is None else "; ".join(profile.reasons)


def _draw_people(
    round: RoundLine, figured: _Figured, names: Mapping[str, str], left_out: Mapping[str, str],
    checks: Mapping[str, RaterChecks],
) -> None:  # fmt: skip
    """Each rater with what may be done about them; of many those to look at, those left out, and one of
    choice."""
    lines = {figured.people[each.rater]: agreement_words.rater_lines(each) for each in figured.profiles}
    for person_id, checked in checks.items():
        lines[person_id] = [*lines.get(person_id, []), *checks_lines(checked)]
    person_ids = list(names)
    if len(names) > MAX_PEOPLE:
        doubted = [figured.people[each.rater] for each in figured.profiles if each.suspect]
        doubted += [person_id for person_id, checked in checks.items() if checked.flags]
        looked_at = list(dict.fromkeys([*left_out, *doubted]))
        chosen = st.selectbox(
            "Look at a rater",
            names,
            index=None,
            format_func=lambda person_id: plain(names[person_id]),
            placeholder=f"One of {len(names)} raters",
            key="round-rater",
        )
        person_ids = list(dict.fromkeys([*([chosen] if chosen else []), *looked_at[:MAX_PEOPLE]]))
        if len(looked_at) > MAX_PEOPLE:
            st.caption(f"{MAX_PEOPLE} of {len(looked_at)} raters to look at, or left out.")
    for person_id in person_ids:
        _draw_person(round, names.get(person_id, person_id), person_id, lines.get(person_id, []), left_out)


def _draw_judges(round: RoundLine, names: Mapping[str, str]) -> None:
    """A language model that compared the same answers can be one of the raters."""
    ids = [system["evaluation_id"] for system in round["systems"]]
    if round["protocol"] != "pairwise" or len(ids) != 2 or not all(ids) or not may("work"):
        return
    for job in evaluation_reads.judgings(str(ids[0]), str(ids[1])):
        if job["status"] != "finished" or f"judge:{job['job_id']}" in names:
            continue
        model = plain(job["config"]["judge"]["model"])
        if st.button(f"Count {model} as a rater", icon=":material/gavel:", key=f"judge-{job['job_id']}"):
            body = {"round": round["round_id"], "judging": job["job_id"]}
            if act("judge_rates", body, f"{model} is one of the raters.") is not None:
                st.rerun()


def _draw_failed(round: RoundLine, names: Mapping[str, str]) -> None:
    """Who failed the qualification and is given nothing more; whoever may, lets them in."""
    let_in = {rater["person_id"]: rater["by_name"] for rater in round_reads.let_in(round["round_id"])}
    for person_id in failed_qualification(round, *round_reads.checks(round["round_id"])):
        name = plain(names[person_id])
        if person_id in let_in:
            st.caption(f"{name} failed the qualification and was let in by {plain(let_in[person_id])}.")
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{name} failed the qualification and is given nothing more.", width="stretch")
            body = {"round": round["round_id"], "person": person_id}
            pressed = may("work") and st.button("Let in", key=f"rater-let-in-{person_id}")
            if pressed and act("let_rater_in", body, f"{name} goes on.") is not None:
                st.rerun()


def _draw_person(
    round: RoundLine, name: str, person_id: str, lines: list[str], left_out: Mapping[str, str]
) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(name)}**", width="stretch")
            out = person_id in left_out
            if may("work"):
                label, command = ("Count again", "take_rater_in") if out else ("Leave out", "leave_rater_out")
                body = {"round": round["round_id"], "person": person_id}
                pressed = st.button(label, key=f"rater-{command}-{person_id}")
                if pressed and act(command, body) is not None:
                    st.rerun()
        if out:
            st.caption(f"Left out by {plain(left_out[person_id])}: the ratings are kept and don't count.")
        if lines:
            st.markdown("\n".join(f"- {plain(line)}" for line in lines))
