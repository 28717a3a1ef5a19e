"""Raters of a round: distribution of work while it is open, and the consistency, speed and bias of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from engine.rating import raters_text
from engine.rating.analysis.rater_checks import RaterChecks, find_unqualified_raters
from engine.rating.analysis.rater_reliability import (
    RaterProfile,
    Reliabilities,
    estimate_reliabilities,
    profile_raters,
)
from engine.rating.analysis.round_ratings import index_raters_by_name
from engine.rating.raters_text import describe_rater_checks
from engine.rating.results_text import format_share
from pages.evaluation import evaluation_queries
from pages.rating import round_queries
from pages.rating.round_settings import draw_rater_fields, list_raters
from pages.shared import display
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.formatting import plural
from store.core.rating_schemas import RaterCounts, RoundSummary
from store.rating.config import AssignedRater
from store.rating.schemas import RaterWorkload, Workload
from store.rating.workload import describe_rater_progress, describe_remaining

MAX_PEOPLE = 12  # raters drawn in full


def draw_raters(round: RoundSummary) -> None:
    """Draw the raters of a closed round; for an open one, those who failed the qualification."""
    counts = round_queries.list_rater_counts(round.round_id)
    open_now = round.state == "open"
    if not counts:
        if not open_now:
            st.markdown("No ratings yet. Send raters the link to this page.")
        return
    names = {person_id: name for name, person_id in index_raters_by_name(counts).items()}
    _draw_failed(round, names)
    if open_now:
        return
    checks = {each.person_id: each for each in round_queries.compute_rater_checks(round)}
    figured = _compute_profiles(round_queries.build_stamp(round), round)
    _draw_table(counts, names, {figured.people[each.rater]: each for each in figured.profiles})
    _draw_judges(round, names)
    left_out = {
        rater.person_id: rater.by_name for rater in round_queries.list_excluded_raters(round.round_id)
    }
    _draw_people(round, figured, names, left_out, checks)
    if figured.profiles:
        lines = raters_text.describe_reliabilities(figured.reliable)
        st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))


class _RaterProfiles(NamedTuple):
    """people: rater name -> id; profiles: of raters who compared answers."""

    people: Mapping[str, str]
    profiles: list[RaterProfile]
    reliable: Reliabilities


@st.cache_data(ttl=600, max_entries=16, show_spinner="Computing rater statistics")
def _compute_profiles(stamped: tuple[str, ...], _round: RoundSummary) -> _RaterProfiles:
    """Compute the profiles of all raters, excluded ones too."""
    ratings = round_queries.build_all_ratings(_round)
    if ratings.comparisons is None or not len(ratings.comparisons):
        return _RaterProfiles(ratings.people, [], Reliabilities(()))
    return _RaterProfiles(
        ratings.people, profile_raters(ratings.comparisons), estimate_reliabilities(ratings.comparisons)
    )


def _draw_table(
    counts: Sequence[RaterCounts], names: Mapping[str, str], profiled: Mapping[str, RaterProfile]
) -> None:
    """Draw all raters: those to review first, then by start."""
    lines = []
    for each in sorted(counts, key=lambda each: not _describe_doubts(profiled.get(each.person_id))):
        line = {
            "Name": names[each.person_id],
            "Rated": each.rated,
            "Skipped": each.skipped,
            "Time per item": "–" if each.seconds is None else display.format_duration(each.seconds),
            "Last active": display.format_ago(each.last_at),
        }
        if profile := profiled.get(each.person_id):
            line["Others agree"] = format_share(profile.agreement) if profile.agreement.n else "–"
            line["Reason to review"] = _describe_doubts(profile)
        lines.append(line)
    st.dataframe(lines, hide_index=True, alt="Ratings per rater")


def _describe_doubts(profile: RaterProfile | None) -> str:
    return "" if profile is None else "; ".join(raters_text.list_doubts(profile))


def _draw_people(
    round: RoundSummary, figured: _RaterProfiles, names: Mapping[str, str], left_out: Mapping[str, str],
    checks: Mapping[str, RaterChecks],
) -> None:  # fmt: skip
    """Draw each rater with the available actions.

    If there are many, only raters to review, excluded ones, and a selected one.
    """
    lines = {figured.people[each.rater]: raters_text.describe_rater(each) for each in figured.profiles}
    for person_id, checked in checks.items():
        lines[person_id] = [*lines.get(person_id, []), *describe_rater_checks(checked)]
    person_ids = list(names)
    if len(names) > MAX_PEOPLE:
        doubted = [figured.people[each.rater] for each in figured.profiles if each.suspect]
        doubted += [person_id for person_id, checked in checks.items() if checked.flags]
        looked_at = list(dict.fromkeys([*left_out, *doubted]))
        chosen = st.selectbox(
            "Select a rater",
            names,
            index=None,
            format_func=lambda person_id: escape_markdown(names[person_id]),
            placeholder=f"One of {len(names)} raters",
            key="round-rater",
        )
        person_ids = list(dict.fromkeys([*([chosen] if chosen else []), *looked_at[:MAX_PEOPLE]]))
        if len(looked_at) > MAX_PEOPLE:
            st.caption(f"{MAX_PEOPLE} of {len(looked_at)} raters to review or excluded.")
    for person_id in person_ids:
        _draw_person(round, names.get(person_id, person_id), person_id, lines.get(person_id, []), left_out)


def _draw_judges(round: RoundSummary, names: Mapping[str, str]) -> None:
    """Offer to add a language model that judged the same answers as a rater."""
    ids = [system.evaluation_id for system in round.systems]
    if round.protocol != "pairwise" or len(ids) != 2 or not all(ids) or not has_right("work"):
        return
    for job in evaluation_queries.list_judgings(str(ids[0]), str(ids[1])):
        if job.status != "finished" or f"judge:{job.job_id}" in names:
            continue
        model = escape_markdown(job.config["judge"]["model"])
        if st.button(f"Add {model} as a rater", icon=":material/gavel:", key=f"judge-{job.job_id}"):
            body = {"round": round.round_id, "judging": job.job_id}
            if send_command("judge_rates", body, f"{model} is one of the raters.") is not None:
                st.rerun()


def _draw_failed(round: RoundSummary, names: Mapping[str, str]) -> None:
    """Draw raters who failed the qualification and get no more items, with a button that admits them."""
    let_in = {
        rater.person_id: rater.by_name for rater in round_queries.list_readmitted_raters(round.round_id)
    }
    for person_id in find_unqualified_raters(round, *round_queries.list_checks(round.round_id)):
        name = escape_markdown(names[person_id])
        if person_id in let_in:
            st.caption(
                f"{name} failed the qualification and was admitted by {escape_markdown(let_in[person_id])}."
            )
            continue
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{name} failed the qualification and gets no more items.", width="stretch")
            body = {"round": round.round_id, "person": person_id}
            pressed = has_right("work") and st.button("Admit rater", key=f"rater-let-in-{person_id}")
            if pressed and send_command("let_rater_in", body, f"{name} can continue rating.") is not None:
                st.rerun()


def _draw_person(
    round: RoundSummary, name: str, person_id: str, lines: list[str], left_out: Mapping[str, str]
) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{escape_markdown(name)}**", width="stretch")
            out = person_id in left_out
            if has_right("work"):
                label, command = ("Include", "take_rater_in") if out else ("Exclude", "leave_rater_out")
                body = {"round": round.round_id, "person": person_id}
                pressed = st.button(label, key=f"rater-{command}-{person_id}")
                if pressed and send_command(command, body) is not None:
                    st.rerun()
        if out:
            st.caption(
                f"Excluded by {escape_markdown(left_out[person_id])}. The ratings are kept but not counted."
            )
        if lines:
            st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))


P = "round-work."


def draw_workload(round: RoundSummary) -> None:
    """Draw the raters' workload for those who manage the round."""
    work = round_queries.read_workload(round.round_id)
    st.subheader("Raters", anchor=False)
    st.markdown(escape_markdown(" ".join(describe_remaining(work))))
    if not work.raters:
        st.markdown("No ratings yet. Send raters the link to this page.")
    for rater in work.raters:
        _draw_rater(round, work, rater)
    with st.expander("Assign raters", icon=":material/assignment_ind:"):
        _draw_rater_assignment(round, work)


def _draw_rater(round: RoundSummary, work: Workload, rater: RaterWorkload) -> None:
    person_id = rater.person_id
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{escape_markdown(rater.person_name)}**")
            last = display.format_ago(rater.last_active) if rater.last_active else "no ratings yet"
            each = rater.median_seconds
            pace = f" · {display.format_duration(each)} per item" if each is not None else ""
            st.caption(f"{escape_markdown(describe_rater_progress(rater))}{pace} · {last}")
        if rater.held and st.button(
            "Release", icon=":material/assignment_return:", key=f"{P}release.{person_id}"
        ):
            _confirm_release(round, rater)
        if not rater.assigned:
            return
        if st.button("Reassign", icon=":material/swap_horiz:", key=f"{P}reassign.{person_id}"):
            _confirm_reassign(round, work, rater)
        others = sum(other.assigned for other in work.raters) > 1
        if others and st.button("Remove rater", icon=":material/person_remove:", key=f"{P}off.{person_id}"):
            _confirm_removal(round, work, rater)


@st.dialog("Release this rater's tasks?")
def _confirm_release(round: RoundSummary, rater: RaterWorkload) -> None:
    name = escape_markdown(rater.person_name)
    st.markdown(
        f"{plural(rater.held, 'task')} go to the next rater who asks. The item that {name} is rating now "
        "is still accepted, unless another rater finishes it first."
    )
    if st.button("Release", type="primary", key=f"{P}release-sure"):
        body = {"round": round.round_id, "person": rater.person_id}
        if send_command("release_round", body, f"Tasks of {name} are released.") is not None:
            st.rerun()


@st.dialog("Remove this rater?")
def _confirm_removal(round: RoundSummary, work: Workload, rater: RaterWorkload) -> None:
    name = escape_markdown(rater.person_name)
    st.markdown(f"{name} gets no more tasks in this round. Existing ratings of {name} are kept and counted.")
    if st.button("Remove rater", type="primary", key=f"{P}off-sure"):
        _assign(round, _list_assigned_raters(work, without=rater), f"{name} is removed.")


@st.dialog("Reassign to another rater?")
def _confirm_reassign(round: RoundSummary, work: Workload, rater: RaterWorkload) -> None:
    name = escape_markdown(rater.person_name)
    people = {each.person_id: each.name for each in list_raters() if each.person_id != rater.person_id}
    if not people:
        st.markdown("Nobody else can rate. An admin can invite people on the Team page.")
        return
    to = st.selectbox("To", list(people), format_func=people.__getitem__, key=f"{P}reassign-to")
    left = f" the {rater.left:,} remaining tasks in the quota of {name}" if rater.left else ""
    st.markdown(
        f"{escape_markdown(people[to])} gets{left or ' the remaining tasks'}. {name} gets no more tasks "
        "in this round."
    )
    if st.button("Reassign", type="primary", key=f"{P}reassign-sure"):
        named = _list_assigned_raters(work, without=rater)
        _assign(round, _reassign(named, to, rater.left), f"Reassigned to {escape_markdown(people[to])}.")


def _reassign(named: list[AssignedRater], to: str, left: int | None) -> list[AssignedRater]:
    """Return the assigned raters, with `left` more tasks for one person.

    A person without a quota is not limited and stays so.
    """
    if all(each.person != to for each in named):
        return named if left == 0 else [*named, AssignedRater(person=to, quota=left)]
    return [
        each.model_copy(update={"quota": each.quota + left if left is not None else None})
        if each.person == to and each.quota is not None
        else each
        for each in named
    ]


def _draw_rater_assignment(round: RoundSummary, work: Workload) -> None:
    """Draw the choice of the raters from now on; without a choice, everyone who may rate."""
    people = {each.person_id: each.name for each in list_raters()}
    if not people:
        st.markdown("Raters can only be assigned in a team. Turn on sign-in with `tunebench up --team`.")
        return
    quotas = {rater.person_id: rater.quota for rater in work.raters if rater.assigned}
    named = draw_rater_fields(people, quotas, f"{P}{round.round_id}")
    if st.button("Save", key=f"{P}save", icon=":material/check:"):
        _assign(round, named, "Raters saved.")


def _list_assigned_raters(work: Workload, without: RaterWorkload) -> list[AssignedRater]:
    """Return the assigned raters without one."""
    return [
        AssignedRater(person=rater.person_id, quota=rater.quota)
        for rater in work.raters
        if rater.assigned and rater.person_id != without.person_id
    ]


def _assign(round: RoundSummary, named: list[AssignedRater], done: str) -> None:
    raters = {"raters": [each.model_dump() for each in named]} if named else {"everybody": True}
    if send_command("assign_round", {"round": round.round_id, **raters}, done) is not None:
        st.rerun()
