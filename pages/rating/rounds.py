"""The list of rounds and of those being created, and their entries on the pages of runs, comparisons and data
sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import streamlit as st

from pages.rating import round_queries
from pages.rating.rater.desk import LINK
from pages.rating.round_queries import format_headline
from pages.shared import display
from pages.shared.job_progress import render_progress, show_active_jobs, show_failed_jobs, show_progress
from pages.shared.layout import draw_link
from pages.shared.session import escape_markdown, show_errors
from store.core import formatting
from store.core.job_kinds import ALIVE
from store.core.rating_schemas import RoundSummary
from store.core.schemas import Job
from store.data.cleaning_text import describe_filter
from store.data.filters import Filter
from store.data.schemas import Dataset
from store.rating.templates import PROTOCOL_TITLES

BAD_ENDS = 3


def draw_rounds(listed: list[RoundSummary]) -> None:
    """Draw every round whose answers are complete, as links."""
    st.subheader("All rounds", anchor=False)
    for round in listed:
        link = {LINK: round.round_id}
        draw_link(
            "pages/rating/rating.py", round.name, link, format_summary(round), format_state_badge(round)
        )


def format_state_badge(round: RoundSummary) -> str:
    """Format open or closed as inline Markdown."""
    if round.state == "open":
        return ":blue-badge[:material/how_to_vote: Open]"
    return ":green-badge[:material/check_circle: Closed]"


def format_summary(round: RoundSummary) -> str:
    """Summarize a round in one line; the compared models are named only once it is closed."""
    systems = " against ".join(escape_markdown(system.name) for system in round.systems[:3])
    more = f" and {len(round.systems) - 3} more" if len(round.systems) > 3 else ""
    names = systems + more if round.state == "closed" else formatting.plural(len(round.systems), "model")
    parts = [
        PROTOCOL_TITLES[round.protocol],
        names,
        escape_markdown(describe_prompts(round)),
        f"{formatting.plural(round.rated, 'rating')} by {format_people_count(round.raters)}",
        display.format_ago(round.created_at),
    ]
    return " · ".join(parts)


def describe_prompts(round: RoundSummary) -> str:
    """Describe the number of prompts, and their filter or file.

    For example "40 prompts where the language is German", "12 prompts from asked.jsonl".
    """
    count, config = formatting.plural(round.item_count, "prompt"), round.config
    if file := config.get("prompts_file"):
        return f"{count} from {PurePath(file.get('upload') or file['path']).name}"
    own = [config["where"]] if config.get("where") else []
    filters = round.details.filters or own  # including filters of evaluations
    return count + ", and".join(f" where {describe_filter(Filter.parse(each))}" for each in filters)


def format_people_count(count: int) -> str:
    """Format as "1 person", "3 people"."""
    return "1 person" if count == 1 else f"{count:,} people"


def draw_preparing(round_id: str) -> bool:
    """Draw a round whose answers are not complete yet; return whether it is one."""
    if all(job.job_id != round_id for job in round_queries.list_unfinished()):
        return False
    st.title("Creating the round", anchor=False)
    draw_unfinished()
    return True


def draw_unfinished() -> bool:
    """Draw rounds being prepared and those that failed; return whether some are being prepared."""
    jobs = round_queries.list_unfinished()
    alive = [job.job_id for job in jobs if job.status in ALIVE]
    if alive:
        show_active_jobs(round_queries.list_unfinished, alive, "round", show=_show_preparing)
    show_failed_jobs([job for job in jobs if job.job_id not in alive], "round", BAD_ENDS)
    return bool(alive)


def _show_preparing(job: Job) -> None:
    if job.status == "queued" and job.after_jobs:
        _draw_answer_jobs(job.after_jobs)
    else:
        show_progress(job)


def _draw_answer_jobs(job_ids: list[str]) -> None:
    """Draw each model's progress with the answers that the round waits for."""
    st.caption("The models generate answers first.")
    for answering in round_queries.list_jobs_by_id(tuple(job_ids)):
        if answering.status in ALIVE:
            st.markdown(escape_markdown(answering.title))
            st.html(render_progress(answering))
        else:
            st.markdown(f":material/check: {escape_markdown(answering.title)}: {answering.status}")


MAX_RUNS = 5  # rounds shown for compared runs


def draw_run_rounds(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        listed = round_queries.list_run_rounds(run_id)
        if not listed:
            st.markdown(
                "No ratings of this run's answers yet. Create a round, in which raters compare answers "
                "without knowing which model wrote them."
            )
        for round in listed:
            _draw_round(round)
        st.page_link(
            "pages/rating/rating.py",
            label="Create round with this run" if not listed else "Create another round",
            icon=":material/rate_review:",
            query_params={"run": run_id},
        )


def draw_rounds_between(run_ids: Sequence[str]) -> None:
    """Draw rounds in which at least two of these runs were rated; nothing if there are none."""
    if len(run_ids) < 2:
        return
    with show_errors():
        of_first = {
            round.round_id: round for run_id in run_ids for round in round_queries.list_run_rounds(run_id)
        }
        between = [
            round
            for round in of_first.values()
            if len({system.run_id for system in round.systems} & set(run_ids)) > 1
        ]
        if not between:
            return
        st.subheader("Rater preferences", anchor=False)
        for round in between[:MAX_RUNS]:
            _draw_round(round)
        if len(between) > MAX_RUNS:
            st.caption(f"{MAX_RUNS} of {len(between)} rounds.")


def draw_dataset_origin(dataset: Dataset) -> None:
    """Draw the round that a data set was created from, and the raters excluded from it."""
    source = dataset.source
    if "round" not in source or "round_ratings" not in source:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(escape_markdown(f"Made from a rating round: {source['round_ratings']}."), width="content")
        st.page_link(
            "pages/rating/rating.py",
            label="Open round",
            icon=":material/rate_review:",
            query_params={"round": source["round"]},
        )


def _draw_round(round: RoundSummary) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width="stretch"):
                st.page_link(
                    "pages/rating/rating.py",
                    label=f"**{escape_markdown(round.name)}**",
                    query_params={LINK: round.round_id},
                )
            st.markdown(format_state_badge(round), width="content")
        if round.state == "closed" and (sentence := format_headline(round)):
            st.markdown(sentence)
        st.caption(format_summary(round))
