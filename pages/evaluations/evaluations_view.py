"""The evaluations of one run: those at work, those that are there, one in depth, and how to start one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from engine.diagnostics import phrasing
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_detail import draw_delete, draw_detail
from pages.evaluations.evaluation_figures import estimate_text, title
from pages.evaluations.evaluation_form import MODELS, draw_form, part_title
from pages.run_parts import run_reads
from pages.shared import quantities, wording
from pages.shared.progress_bar import show_alive, show_ended
from pages.shared.session import guarded, plain
from store.contract.states import ALIVE
from store.documents.evaluations.evaluation import Evaluation, EvaluationLine

HEADLINES = 3  # metrics in the list
MAIN = "First figure"
BAD_ENDS = 5  # that are shown
LIVE = 4


def draw_evaluations(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        run = run_reads.run(run_id)
        if run["status"] in ALIVE:
            st.caption("Its model can be evaluated once the run has ended, on any data set.")
            return
        listed = evaluation_reads.of_run(run_id)
        alive = draw_unfinished(run_id)
        if not listed and not alive:
            st.markdown(
                "There is no evaluation of this run yet. Choose rows and metrics and press **Evaluate**: the"
                " model answers every row, and each figure comes with its interval. Evaluate the base model"
                " on the same rows, and the two are compared row by row."
            )
        with st.expander("Evaluate this run", icon=":material/add:", expanded=not listed and not alive):
            draw_form(run)
        if listed:
            _draw_list(listed)
            _draw_chosen(listed)


def draw_unfinished(run_id: str | None) -> bool:
    """Those of a run, or of all models, that work or ended badly; whether some still work."""
    unfinished = evaluation_reads.unfinished(run_id)
    alive = [job["job_id"] for job in unfinished if job["status"] in ALIVE]
    if alive:
        show_alive(lambda: evaluation_reads.unfinished(run_id), alive, "evaluation", most=LIVE)
    ended = [job for job in unfinished if job["job_id"] not in alive]
    if ended:  # closed: they must not hide what is there
        newest = ended[-1]
        head = f"{phrasing.plural(len(ended), 'evaluation')} without a result; the newest: {newest['title']}"
        with st.expander(plain(head), icon=":material/error:"):
            show_ended(ended, "evaluation", BAD_ENDS)
    return bool(alive)


def _draw_list(listed: list[Evaluation]) -> None:
    """A line an evaluation, a column for each of the first metrics that occur."""
    heads = headlines(listed)
    lines = [_summary(evaluation, heads) for evaluation in listed]
    st.dataframe(lines, hide_index=True, alt="Evaluations of this run, newest first")
    st.caption(f"{phrasing.plural(len(listed), 'evaluation')}, newest first; intervals in brackets.")


def headlines(listed: Sequence[Evaluation | EvaluationLine]) -> dict[str, str]:
    """metric -> head of its column, of the metrics that most of these have a value of."""
    heads: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for evaluation in listed:
        for figure in evaluation["figures"]:
            if figure["value"] is not None:
                counts[figure["metric"]] += 1
                name = f"{title(figure['metric'], evaluation['config'])} {wording.arrow(figure['better'])}"
                heads.setdefault(figure["metric"], name)
    return {metric: heads[metric] for metric, _ in counts.most_common(HEADLINES)}


def main_figure(evaluation: Evaluation | EvaluationLine) -> str:
    """The first figure that has a value, with its name: one is there whatever other evaluations measured."""
    figure = next((each for each in evaluation["figures"] if each["value"] is not None), None)
    if figure is None:
        return "no value"
    return f"{estimate_text(figure)} {title(figure['metric'], evaluation['config'])}"


def cells(evaluation: Evaluation | EvaluationLine, heads: dict[str, str]) -> dict[str, str]:
    """The figure of each of these metrics, with its interval; a dash where it was not measured."""
    figures = {figure["metric"]: figure for figure in evaluation["figures"]}
    return {
        head: estimate_text(figures[metric]) if metric in figures else "–" for metric, head in heads.items()
    }


def _summary(evaluation: Evaluation, heads: dict[str, str]) -> dict[str, str | int]:
    figures = cells(evaluation, heads)
    return {
        "Model": MODELS[evaluation["checkpoint"]],
        MAIN: main_figure(evaluation),
        "Data set": evaluation["dataset_name"],
        "Rows": part_title(evaluation),
        "n": evaluation["n"],
        **figures,
        "Evaluation": evaluation["name"],
        "When": quantities.ago(evaluation["created_at"]),
    }


def _draw_chosen(listed: list[Evaluation]) -> None:
    """The chosen evaluation."""
    by_id = {evaluation["evaluation_id"]: evaluation for evaluation in listed}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Evaluation",
            list(by_id),
            format_func=lambda own: f"{by_id[own]['name']}, {quantities.ago(by_id[own]['created_at'])}",
            key="evaluation-shown",
        )
        gone = draw_delete(by_id[chosen])
    if gone:
        st.rerun()
    draw_detail(by_id[chosen])
