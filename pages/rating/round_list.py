"""All rounds, and those that are being made, for whoever may look."""

from __future__ import annotations

from pathlib import PurePath

import streamlit as st

from engine.diagnostics import phrasing
from pages.rating import round_reads
from pages.rating.rater.to_rate import LINK
from pages.shared import quantities
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, guarded, live, plain, redraw, watch_engine
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.config.data.filters import Filter
from store.contract.states import ALIVE
from store.documents.rating.round import RoundLine
from store.documents.tables.job import Job
from store.words.recipe_words import words

BAD_ENDS = 3


def draw_rounds(listed: list[RoundLine]) -> None:
    """Every round whose answers are gathered, as links."""
    st.subheader("All rounds", anchor=False)
    for round in listed:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None, width="stretch"):
                st.page_link(
                    "pages/rating/rating.py",
                    label=f"**{plain(round['name'])}**",
                    query_params={LINK: round["round_id"]},
                )
                st.caption(summary(round))
            st.markdown(state_badge(round), width="content")


def state_badge(round: RoundLine) -> str:
    """Open or closed, as inline Markdown."""
    if round["state"] == "open":
        return ":blue-badge[:material/how_to_vote: Open]"
    return ":green-badge[:material/check_circle: Closed]"


def summary(round: RoundLine) -> str:
    """What it is and how far, in a line; who is compared is told once it is closed."""
    systems = " against ".join(plain(system["name"]) for system in round["systems"][:3])
    more = f" and {len(round['systems']) - 3} more" if len(round["systems"]) > 3 else ""
    names = systems + more if round["state"] == "closed" else phrasing.plural(len(round["systems"]), "model")
    parts = [
        PROTOCOL_TITLES[round["protocol"]],
        names,
        plain(prompts_words(round)),
        f"{phrasing.plural(round['rated'], 'rating')} by {people(round['raters'])}",
        quantities.ago(round["created_at"]),
    ]
    return " · ".join(parts)


def prompts_words(round: RoundLine) -> str:
    """How many prompts, and of which rows or file where they are not of a whole part: "40 prompts where the
    language is German", "12 prompts from asked.jsonl"."""
    count, config = phrasing.plural(round["item_count"], "prompt"), round["config"]
    if file := config.get("prompts_file"):
        return f"{count} from {PurePath(file.get('upload') or file['path']).name}"
    own = [config["where"]] if config.get("where") else []
    filters = round["details"].get("filters", own)  # of evaluations too
    return count + ", and".join(f" where {words(Filter.parse(each))}" for each in filters)


def people(count: int) -> str:
    """ "1 person", "3 people"."""
    return "1 person" if count == 1 else f"{count:,} people"


def draw_making(round_id: str) -> bool:
    """A round whose answers are still being gathered, or could not be; whether this one is."""
    if all(job["job_id"] != round_id for job in round_reads.unfinished()):
        return False
    st.title("The round is being made", anchor=False)
    draw_unfinished()
    return True


def draw_unfinished() -> bool:
    """Rounds whose answers are being gathered, and those that could not be; whether some are under way."""
    jobs = round_reads.unfinished()
    alive = tuple(job["job_id"] for job in jobs if job["status"] in ALIVE)
    if alive:
        _live(alive)
    for job in [job for job in jobs if job["status"] not in ALIVE][::-1][:BAD_ENDS]:
        _bad_end(job)
    return bool(alive)


@live("1s")
def _live(drawn: tuple[str, ...]) -> None:
    with guarded():
        watch_engine()
        jobs = [job for job in round_reads.unfinished() if job["status"] in ALIVE]
        if tuple(job["job_id"] for job in jobs) != drawn:
            st.cache_data.clear()
            redraw()
        for job in jobs:
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{plain(job['title'])}**", width="stretch")
                    key = f"round-cancel-{job['job_id']}"
                    if st.button("Cancel", key=key, icon=":material/stop_circle:"):
                        act("cancel", {"job": job["job_id"]}, "The round is being cancelled.")
                if job["status"] == "queued" and job["after_jobs"]:
                    _draw_answering(job["after_jobs"])
                else:
                    st.html(progress_block(job))


def _draw_answering(job_ids: list[str]) -> None:
    """How far each model is with the answers that the round waits for."""
    st.caption("The models answer the prompts first.")
    for answering in round_reads.jobs_by_id(tuple(job_ids)):
        if answering["status"] in ALIVE:
            st.markdown(plain(answering["title"]))
            st.html(progress_block(answering))
        else:
            st.markdown(f":material/check: {plain(answering['title'])}: {answering['status']}")


def _bad_end(job: Job) -> None:
    error = job["error"]
    why = f"{error['message']} {error.get('fix') or ''}" if error else f"It was {job['status']}."
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":red[:material/error:] **{plain(job['title'])}**")
        st.caption(plain(why.strip()))
        with st.container(horizontal=True):
            for label, command, done in (
                ("Try it again", "resume", "The round is queued."),
                ("Delete it", "delete", "The round is deleted."),
            ):
                pressed = st.button(label, key=f"round-{command}-{job['job_id']}")
                if pressed and act(command, {"job": job["job_id"]}, done) is not None:
                    st.rerun()
