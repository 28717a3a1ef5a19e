"""Who rated a round, and how: consistency, speed, sides."""

from __future__ import annotations

import math

import streamlit as st

from engine.diagnostics.rating.raters.dawid_skene import Reliabilities, reliabilities
from engine.diagnostics.rating.raters.flagged import failed_qualification
from engine.diagnostics.rating.raters.profiles import profiles
from engine.diagnostics.rating.rows.of_round import answer_of, of_round, rater_names
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.words import agreement_words
from engine.diagnostics.rating.words.check_words import checks_lines
from pages.evaluations import evaluation_reads
from pages.rating import round_figures, round_reads
from pages.shared import quantities
from pages.shared.session import act, may, plain
from store.documents.rating.round import DealtTask, RoundLine


def draw_raters(round: RoundLine) -> None:
    """The tab of a closed round; of an open one who failed its qualification, beside its workload."""
    tasks = round_reads.tasks(round["round_id"])
    names = rater_names(tasks)
    open_now = round["state"] == "open"
    if not names:
        if not open_now:
            st.markdown("Nobody has rated it.")
        return
    _draw_failed(round, tasks, names)
    if open_now:
        return
    checks = {each.person_id: each for each in round_figures.checks_of(round)}
    _table(tasks, names)
    _draw_judges(round, names)
    everybody = of_round(round, tasks, round_reads.items(round["round_id"])).comparisons
    by_name = {name: person_id for person_id, name in names.items()}
    left_out = {rater["person_id"]: rater["by_name"] for rater in round_reads.left_out(round["round_id"])}
    if everybody is None or not len(everybody):
        for person_id, name in names.items():
            _draw_person(round, name, person_id, checks_lines(checks[person_id]), left_out)
        return
    for profile in profiles(everybody):
        lines = [*agreement_words.rater_lines(profile), *checks_lines(checks[by_name[profile.rater]])]
        _draw_person(round, profile.rater, by_name[profile.rater], lines, left_out)
    lines = agreement_words.reliability_lines(_reliable(round_figures.stamp(round), everybody))
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out who is reliable")
def _reliable(stamped: tuple[str, ...], _everybody: Comparisons) -> Reliabilities:
    return reliabilities(_everybody)


def _table(tasks: list[DealtTask], names: dict[str, str]) -> None:
    lines = []
    for person_id, name in names.items():
        own = [task for task in tasks if task["person_id"] == person_id]
        rated = [task for task in own if task["rated_at"]]
        paces = sorted(
            task["seconds"] for task in rated if task["seconds"] and not math.isnan(task["seconds"])
        )
        lines.append(
            {
                "Name": name,
                "Rated": len(rated),
                "Skipped": sum("skipped" in answer_of(task) for task in rated),
                "Time for one": quantities.span(paces[len(paces) // 2]) if paces else "–",
                "Last": quantities.ago(
                    max((task["rated_at"] for task in rated if task["rated_at"]), default=None)
                ),
            }
        )
    st.dataframe(lines, hide_index=True, alt="Who rated how much")


def _draw_judges(round: RoundLine, names: dict[str, str]) -> None:
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


def _draw_failed(round: RoundLine, tasks: list[DealtTask], names: dict[str, str]) -> None:
    """Who failed the qualification and is given nothing more; whoever may, lets them in."""
    let_in = {rater["person_id"]: rater["by_name"] for rater in round_reads.let_in(round["round_id"])}
    for person_id in failed_qualification(round, tasks, round_reads.items(round["round_id"])):
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
    round: RoundLine, name: str, person_id: str, lines: list[str], left_out: dict[str, str]
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
