"""Training on ratings: a data set of preferences or corrections, and a run on it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import streamlit as st

from engine.rating.analysis.rater_checks import count_ratings
from engine.rating.exported_ratings import build_text_rows, format_json_lines, is_text_round
from engine.rating.raters_text import format_counted_ratings
from pages.rating import round_queries
from pages.shared import cached_queries, run_queries
from pages.shared.features import NewRows, list_parts
from pages.shared.session import escape_markdown, get_client, has_right, send_command, show_error
from store.core.errors import NotFoundError, TunebenchError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.rating_schemas import RoundSummary
from store.core.schemas import Job
from store.jobs import job_queue

POLL_SECONDS = 0.3
WAIT_SECONDS = 120.0
ROWS = {
    "pairwise": "Each pair where a majority of ratings prefers one answer becomes a row with prompt, "
    "chosen and rejected. Rows of one prompt stay in the same split.",
    "correction": "Raters' texts become training rows.",
    "free_text": "Raters' texts become training rows, as completions of the prompt, or, for questions "
    "about answers, of prompt, answer and question.",
    "label": "Each text where a majority of ratings gives one label becomes a row with text and label. "
    "Where the texts were selected as the most informative, train on these rows and evaluate on "
    "others.",
}
MAX_RUNS = 100  # offered if the authors of the answers are unknown


def draw_train(round: RoundSummary) -> None:
    """Draw the tab."""
    if is_text_round(round):
        _draw_lines(round)
        return
    if round.protocol not in ("pairwise", "rank", "correction", "label", "free_text"):
        st.markdown(
            "Scores and pass/fail ratings say how good answers are, not what a better answer looks like. "
            "To get training data, create a round that compares pairs (preferences) or in which raters "
            "rewrite answers."
        )
        return
    protocol = round.protocol
    st.markdown(ROWS.get(protocol, ROWS["pairwise"]))
    if not has_right("work"):
        return
    if protocol != "free_text":  # its texts are not better answers
        _draw_improve(round)
    body: dict[str, Any] = {"round": round.round_id} | _choose_raters(round)
    written = protocol in ("correction", "free_text")
    if not written:
        body |= _draw_agreement_option(round)
    if protocol == "label":
        if st.button("Create data set", type="primary", icon=":material/dataset:", key="round-rows"):
            _create_dataset(body)
        return
    base = _choose_base(round)
    label = "Launch an SFT run on it" if written else "Launch a DPO run on it"
    with st.container(horizontal=True):
        launched = st.button(label, type="primary", icon=":material/rocket_launch:", key="round-launch")
        made = st.button("Create data set only", icon=":material/dataset:", key="round-rows")
    if not launched and not made:
        return
    dataset = _create_dataset(body, say=not launched)
    if dataset and launched:
        _launch(round, dataset, base, "sft" if written else "dpo")


def _draw_lines(round: RoundSummary) -> None:
    """Draw the download of rows that cannot be used for training here, for other tools."""
    several = round.protocol == "label"
    what = (
        "the labels that more than half of its raters chose" if several else "the spans that one rater marked"
    )
    st.markdown(
        f"A row has a text and {what}. Training does not support "
        f"{'several labels' if several else 'spans'} yet, so download them as JSON lines for other tools."
    )
    if not has_right("work"):
        return
    limits = _choose_raters(round) | (_draw_agreement_option(round) if several else {})
    round_id = round.round_id
    tasks, items = round_queries.list_tasks(round_id), round_queries.list_items(round_id)
    by_hand = {rater.person_id for rater in round_queries.list_excluded_raters(round_id)}
    made, _ = build_text_rows(round, tasks, items, by_hand, **limits)
    st.download_button(
        f"Download {plural(len(made.rows), 'row')} (JSON lines)",
        format_json_lines(made),
        file_name=f"{''.join(c if c.isalnum() else '-' for c in round.name)[:60]}.jsonl",
        mime="application/jsonl",
        type="primary",
        icon=":material/data_object:",
        key="round-lines",
        on_click="ignore",
        disabled=not made.rows,
    )
    if made.left_out:
        left = "; ".join(f"{count:,} {reason}" for reason, count in made.left_out.items())
        st.caption(escape_markdown(f"Left out: {left}."))


def _create_dataset(body: dict[str, Any], *, say: bool = True) -> str:
    """Create the data set; return its name once it exists, or ""."""
    answer = send_command("rows_from_round", body)
    if answer is None:
        return ""
    left = ", ".join(f"{count:,} {reason}" for reason, count in answer["left_out"].items())
    rows = f"{plural(answer['rows'], 'row')} of {format_counted_ratings(answer['counted'])}."
    st.caption(escape_markdown(f"{rows}{f' No rows: {left}.' if left else ''}"))
    if not _wait_for_import(answer["job_id"], answer["dataset"]):
        return ""
    if say:
        st.success(f"The data set {escape_markdown(answer['dataset'])} is ready.", icon=":material/check:")
    return str(answer["dataset"])


def _draw_improve(round: RoundSummary) -> None:
    """Draw links to retrain a registered model whose answers were rated."""
    rows = NewRows(
        "Retrain {} on them and compare it with the version in use",
        [system.model for system in round.systems],
        [system.run_id for system in round.systems if system.run_id],
        {"round": round.round_id},
    )
    for draw in list_parts(lambda feature: feature.draw_row_use):
        draw(rows)


def _choose_raters(round: RoundSummary) -> dict[str, bool]:
    """Draw whose ratings count, with an option to include flagged raters."""
    checks = round_queries.compute_rater_checks(round)
    by_hand = {rater.person_id for rater in round_queries.list_excluded_raters(round.round_id)}
    flagged = any(each.flags and each.person_id not in by_hand for each in checks)
    included = flagged and st.toggle(
        "Include ratings of flagged raters",
        key="round-include-flagged",
        help="Raters who were too fast or failed check items; see the People tab",
    )
    counted = count_ratings(checks, by_hand, include_flagged=included)
    st.markdown(escape_markdown(f"Made from {format_counted_ratings(counted)}."))
    for each in counted["left_out"]:
        st.caption(escape_markdown(f"{each['rater']}: {plural(each['ratings'], 'rating')}, {each['reason']}"))
    return {"include_flagged": included}


def _draw_agreement_option(round: RoundSummary) -> dict[str, Any]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        share = st.slider(
            "Minimum agreement (%)",
            50,
            100,
            50,
            5,
            key="round-agreement",
            help="Share of the votes on a pair or a text that agree; always more than half",
        )
        votes = st.number_input("Minimum votes", 1, 20, 1, key="round-votes")
    return {"agreement": share / 100, "least_votes": int(votes)}


def _choose_base(round: RoundSummary) -> dict[str, str]:
    """Draw the choice of the model to continue from: a run of the round, or a base model."""
    options: dict[str, tuple[str, dict[str, str]]] = {}
    for system in round.systems:
        if system.run_id:
            with suppress(NotFoundError):  # the run was deleted meanwhile
                run = run_queries.read_current_run(system.run_id)
                options[f"r:{run.run_id}"] = f"The run {run.name}", {"init_from": run.run_id}
    for system in round.systems:
        if system.model:
            options.setdefault(f"m:{system.model}", (f"The model {system.model}", {"model": system.model}))
    if not options:  # the authors of the answers are unknown
        options = _list_bases()
    if not options:
        return {}
    chosen = st.selectbox(
        "Continue from", list(options), format_func=lambda key: options[key][0], key="round-base"
    )
    return options[chosen][1]


def _list_bases() -> dict[str, tuple[str, dict[str, str]]]:
    """List models by name, and finished runs."""
    names = [model.name for model in cached_queries.list_models()]
    options = {f"m:{name}": (f"The model {name}", {"model": name}) for name in names}
    for run in cached_queries.list_run_choices("", ("finished",), MAX_RUNS):
        if run.task != "classification":
            options[f"r:{run.run_id}"] = f"The run {run.name}", {"init_from": run.run_id}
    return options


def _wait_for_import(job_id: str, name: str) -> bool:
    """Wait until the data set exists, or show why it does not."""
    ends = time.monotonic() + WAIT_SECONDS
    with st.status(f"Creating the data set {escape_markdown(name)}") as status:
        job: Job = job_queue.get_job(get_client(), job_id)
        while job.status in ALIVE and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
            job = job_queue.get_job(get_client(), job_id)
        status.update(state="complete" if job.status == "finished" else "error")
    if job.status != "finished":
        why = (
            job.error["message"]
            if job.error
            else ("The data set is still being created. See the queue on the Overview page.")
        )
        st.error(escape_markdown(why), icon=":material/error:")
        return False
    st.cache_data.clear()
    return True


def _launch(round: RoundSummary, dataset: str, base: dict[str, str], task: str) -> None:
    """Launch a run with default settings and open its page; a refusal is shown with a link to the form."""
    config = {"name": f"{round.name[:80]}, {task.upper()}", "dataset": dataset, "task": task, **base}
    if run_id := base.get("init_from"):
        run = run_queries.read_current_run(run_id)
        config |= {"model": run.model, "method": run.method, "parent": run_id}
    try:
        answer = get_client().command("launch", config)
    except TunebenchError as error:
        show_error(error)
        st.page_link("pages/training/launch.py", label="Edit in the form", icon=":material/tune:",
                     query_params={"dataset": dataset, "task": task})  # fmt: skip
        return
    st.cache_data.clear()
    st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})
