"""One evaluation against another on the rows that both have: differences that can be told, and that can't;
and which of both a language model prefers, with how often the order in which they were shown decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import streamlit as st

from engine.evaluation.comparison import evaluation_text, row_scores
from engine.evaluation.comparison.row_scores import Differences
from pages.evaluation import evaluation_queries
from pages.evaluation.form import part_title
from pages.evaluation.results import TASK, draw_slices, evaluation_title, scale, show_row_text
from pages.shared import display
from pages.shared.job_progress import progress_block
from pages.shared.session import act, is_for_members, live, may, plain, redraw, show_error
from store.core import formatting
from store.core.errors import ConfigError, QueryError
from store.core.figure_schemas import Difference, Figure
from store.core.job_kinds import ALIVE
from store.core.metric_options import CRITERIA, JudgeChoice, JudgePairs
from store.core.schemas import Job
from store.evaluation import evaluation_pairs
from store.evaluation.evaluation_pairs import EvaluationPair
from store.evaluation.forgetting_schemas import ForgottenChoices, ForgottenText
from store.evaluation.schemas import Evaluation, JudgingResult


def draw_judging(first: Evaluation, second: Evaluation) -> None:
    """Judgings of the pair that are there or at work, and the form for another."""
    ids = first["evaluation_id"], second["evaluation_id"]
    jobs = evaluation_queries.judgings(*ids)
    if any(job["status"] in ALIVE for job in jobs):
        _live(*ids)
    for job in jobs:
        if job["status"] == "finished":
            _draw_result(job, turned=job["config"]["first"] != ids[0])
        elif job["status"] not in ALIVE:
            why = (job["error"] and job["error"]["message"]) or job["status"]
            st.error(
                plain(f"A judging has no result: {why}"),
                icon=":material/error:",
            )
    if not is_for_members("have a judge compare the two"):
        return
    with st.form(f"judging-{ids[0]}-{ids[1]}", border=False):
        fields = JudgeChoice.model_fields
        left, middle, right = st.columns(3)
        url = left.text_input("base_url", placeholder="https://HOST/v1", help=fields["base_url"].description)
        model = middle.text_input("model", placeholder="the judge's name")
        key = right.text_input("key_env", placeholder="no key", help=fields["key_env"].description)
        criteria = st.text_area("criteria", CRITERIA, height="content")
        most = st.number_input("max_rows", 1, None, 200, help="A random sample of so many pairs")
        st.caption("Each pair is asked in both orders: two questions a pair.")
        pressed = st.form_submit_button("Ask the judge", icon=":material/gavel:")
    if pressed:
        _start(ids, {"base_url": url, "model": model, "key_env": key, "criteria": criteria}, int(most))


def _start(ids: tuple[str, str], judge: dict[str, Any], most: int) -> None:
    calls = {"max_calls": max(1_000, 2 * most)}
    body = {"first": ids[0], "second": ids[1], "judge": judge | calls, "max_rows": most}
    try:
        config = JudgePairs.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if act("judge", config.model_dump(exclude_none=True), "The judge is being asked.") is not None:
        st.rerun()


@live("1s")
def _live(first: str, second: str) -> None:
    alive = [job for job in evaluation_queries.judgings(first, second) if job["status"] in ALIVE]
    if not alive:
        st.cache_data.clear()
        redraw()
    for job in alive:
        st.html(progress_block(job))
        if may("work") and st.button(
            "Cancel", key=f"judging-cancel-{job['job_id']}", icon=":material/stop_circle:"
        ):
            act("cancel", {"job": job["job_id"]}, "The judging is being cancelled.")


def _draw_result(job: Job, *, turned: bool) -> None:
    judging = cast("JudgingResult", job["result"])  # what a job of this kind leaves
    judge = job["config"]["judge"]
    sides = evaluation_text.Sides(turned=turned)
    with st.container(border=True):
        st.markdown(f"**{plain(evaluation_text.judging_headline(judging, sides))}**")
        by = f"Judged by {judge['model']}, {display.ago(job['ended_at'])}; 95% intervals."
        st.caption(plain(" ".join([*evaluation_text.judging_sentences(judging, sides), by])))
        pressed = may("work") and st.button(
            "Delete", key=f"judging-delete-{job['job_id']}", icon=":material/delete:"
        )
    if pressed and act("delete", {"job": job["job_id"]}, "The judging is deleted.") is not None:
        st.rerun()


ROWS = 5


def draw_comparison(evaluation: Evaluation) -> None:
    """The choice of the other one, the differences, and rows on which the two differ most."""
    own = evaluation["evaluation_id"]
    others = {each["evaluation_id"]: each for each in evaluation_queries.comparable(own)}
    if not others:
        st.caption(
            "There is no other evaluation of this data set. Evaluate the base model on the same rows, and the"
            " two can be compared row by row."
        )
        return
    chosen = st.selectbox(
        "Against",
        list(others),
        format_func=lambda key: f"{others[key]['name']} ({part_title(others[key])}, n {others[key]['n']:,})",
        key=f"evaluation-against-{own}",
    )
    other = evaluation_queries.evaluation(chosen)
    try:
        pair, compared = evaluation_queries.compared(own, chosen)
    except QueryError:
        st.caption("The file with the rows of one of them is gone.")
        return
    _draw_rows_apart(pair)
    if not compared.metrics:
        st.caption("The two have no row in common that both could score in the same metric.")
        return
    _draw_differences(evaluation, other, compared)
    with st.expander("Where the two differ: by label and length", icon=":material/pie_chart:"):
        draw_slices(evaluation, other)
    with st.expander("Which answers a language model prefers", icon=":material/gavel:"):
        draw_judging(evaluation, other)
    _draw_differing(own, chosen, compared.metrics, evaluation)


def _draw_differences(evaluation: Evaluation, other: Evaluation, compared: Differences) -> None:
    """A line for each metric, and for what both know of general questions and prose."""
    figures = {figure["metric"]: figure for figure in evaluation["figures"]}
    lines = [
        _line(difference, figures[difference["metric"]], evaluation["config"])
        for difference in compared.metrics
    ]
    ids = (evaluation["evaluation_id"], other["evaluation_id"])
    general = [_general(probe) for probe in evaluation_queries.general_change(*ids)]
    lines += general
    st.dataframe(lines, hide_index=True, alt="Differences of the two evaluations, with intervals")
    st.caption(
        f"This evaluation minus {plain(other['name'])}, paired over the rows that both have; shares in"
        f" points. {compared.sentence}{' General knowledge is at 95% on its own.' if general else ''}"
    )
    named = ((evaluation_title(each["metric"], evaluation["config"]), each) for each in compared.metrics)
    if reasons := display.missing_intervals(named):
        st.caption(plain(reasons))


def _line(difference: Difference, figure: Figure, config: Mapping[str, Any]) -> dict[str, str | int]:
    times = scale(figure)
    counts = (difference["first_higher"], difference["second_higher"], difference["same"])
    return {
        "Metric": evaluation_title(difference["metric"], config),
        "Difference": (
            "–" if difference["value"] is None else display.estimate(difference, scale=times, reason=False)
        ),
        "Told apart": row_scores.comparison_word(difference, difference["better"]),
        "n": difference["n"],
        "Would be seen from": display.detectable(difference["detectable"], times),
        "Rows higher / lower / same": " / ".join(f"{count:,}" for count in counts),
    }


def _general(probe: ForgottenText | ForgottenChoices) -> dict[str, str | int]:
    shares = "categories" in probe
    times, better = (100.0, "higher") if shares else (1.0, "lower")
    change = probe["change"]
    flips = f"{probe['won']:,} / {probe['lost']:,} / –" if "categories" in probe and change else ""
    return {
        "Metric": "General questions right" if shares else "Loss on plain prose, nats a token",
        "Difference": display.estimate(change, scale=times),
        "Told apart": row_scores.comparison_word(change, better) if change else "can't be told",
        "n": probe["n"],
        "Would be seen from": display.detectable(probe["detectable"], times),
        "Rows higher / lower / same": flips,
    }


def _draw_rows_apart(pair: EvaluationPair) -> None:
    """What is not of both, or was asked in another way, and a button for the same rows."""
    for notice in evaluation_text.asked_unlike(evaluation_pairs.unlike(pair)):
        st.warning(plain(notice), icon=":material/warning:")
    if pair.same_rows:
        return
    sentence = evaluation_text.rows_apart(pair.first["n"], pair.second["n"], pair.common)
    asked = evaluation_pairs.again_on_the_same_rows(pair)
    mover = pair.first if asked["rows_of"] == pair.second["evaluation_id"] else pair.second
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":orange[:material/warning:] {plain(sentence)}")
        st.code(evaluation_pairs.command(asked), language=None, wrap_lines=True)
        pressed = may("work") and st.button(
            f"Evaluate {plain(mover['name'])} on the same rows",
            icon=":material/fact_check:",
            key=f"evaluation-same-{pair.first['evaluation_id']}-{pair.second['evaluation_id']}",
        )
    if pressed and act("evaluate", asked, "The evaluation is queued.") is not None:
        st.rerun()


def _draw_differing(own: str, other: str, differences: Sequence[Difference], evaluation: Evaluation) -> None:
    metrics = [
        difference["metric"]
        for difference in differences
        if difference["first_higher"] + difference["second_higher"]
        and not difference["metric"].startswith(TASK)
    ]
    if not metrics:
        return
    config = evaluation["config"]
    metric = st.selectbox(
        "Rows that differ most in",
        metrics,
        format_func=lambda name: evaluation_title(name, config),
        key=f"evaluation-differing-{own}",
    )
    total, rows = evaluation_queries.shared(own, other, metric, ROWS)
    st.caption(f"The first {len(rows)} of {formatting.plural(total, 'row')} in common.")
    for row in rows:
        with st.container(border=True, gap="xsmall"):
            st.caption(f":material/person: Prompt · row {row['row_id']:,}")
            show_row_text(row["prompt"])
            texts = {
                "Reference": row["reference"],
                f"This one, {formatting.number(row['first_score'], 2)}": row["first"],
                f"The other, {formatting.number(row['second_score'], 2)}": row["second"],
            }
            for column, (name, text) in zip(st.columns(3, gap="medium"), texts.items(), strict=True):
                with column:
                    st.markdown(f"**{name}**")
                    show_row_text(text, nothing="(an empty answer)")
