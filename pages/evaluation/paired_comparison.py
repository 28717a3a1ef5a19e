"""Paired comparison of two evaluations on their common rows: significant and inconclusive differences, and
the preferences of a judge with its position effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.evaluation.comparison import evaluation_text, row_scores
from engine.evaluation.comparison.row_scores import MetricDifferences
from pages.evaluation import evaluation_queries
from pages.evaluation.form import format_part
from pages.evaluation.results import TASK, draw_slices, format_metric_title, get_display_scale, show_row_text
from pages.shared import display
from pages.shared.job_progress import render_progress
from pages.shared.session import (
    escape_markdown,
    has_right,
    live,
    redraw,
    require_member,
    send_command,
    show_error,
)
from store.core import formatting
from store.core.documents import parse_document
from store.core.errors import ConfigError, QueryError
from store.core.figure_schemas import Difference, Figure
from store.core.job_kinds import ALIVE
from store.core.metric_options import CRITERIA, JudgeChoice, JudgePairs
from store.core.schemas import Job
from store.evaluation import evaluation_pairs
from store.evaluation.evaluation_pairs import EvaluationPair
from store.evaluation.forgetting_schemas import ChoiceForgetting, TextForgetting
from store.evaluation.schemas import Evaluation, JudgingResult


def draw_judging(first: Evaluation, second: Evaluation) -> None:
    """Draw finished and active judgings of the pair, and the form for another."""
    ids = first.evaluation_id, second.evaluation_id
    jobs = evaluation_queries.list_judgings(*ids)
    if any(job.status in ALIVE for job in jobs):
        _draw_live(*ids)
    for job in jobs:
        if job.status == "finished":
            _draw_result(job, turned=job.config["first"] != ids[0])
        elif job.status not in ALIVE:
            why = (job.error and job.error["message"]) or job.status
            st.error(
                escape_markdown(f"A judging has no result: {why}"),
                icon=":material/error:",
            )
    if not require_member("have a judge compare the two"):
        return
    with st.form(f"judging-{ids[0]}-{ids[1]}", border=False):
        fields = JudgeChoice.model_fields
        left, middle, right = st.columns(3)
        url = left.text_input("base_url", placeholder="https://HOST/v1", help=fields["base_url"].description)
        model = middle.text_input("model", placeholder="the judge's name")
        key = right.text_input("key_env", placeholder="no key", help=fields["key_env"].description)
        criteria = st.text_area("criteria", CRITERIA, height="content")
        most = st.number_input("max_rows", 1, None, 200, help="Size of the random sample of pairs")
        st.caption("Each pair is asked in both orders: two questions a pair.")
        pressed = st.form_submit_button("Ask the judge", icon=":material/gavel:")
    if pressed:
        _start_judging(
            ids, {"base_url": url, "model": model, "key_env": key, "criteria": criteria}, int(most)
        )


def _start_judging(ids: tuple[str, str], judge: dict[str, object], most: int) -> None:
    calls = {"max_calls": max(1_000, 2 * most)}
    body = {"first": ids[0], "second": ids[1], "judge": judge | calls, "max_rows": most}
    try:
        config = JudgePairs.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if send_command("judge", config.model_dump(exclude_none=True), "The judge is being asked.") is not None:
        st.rerun()


@live("1s")
def _draw_live(first: str, second: str) -> None:
    alive = [job for job in evaluation_queries.list_judgings(first, second) if job.status in ALIVE]
    if not alive:
        st.cache_data.clear()
        redraw()
    for job in alive:
        st.html(render_progress(job))
        if has_right("work") and st.button(
            "Cancel", key=f"judging-cancel-{job.job_id}", icon=":material/stop_circle:"
        ):
            send_command("cancel", {"job": job.job_id}, "The judging is being cancelled.")


def _draw_result(job: Job, *, turned: bool) -> None:
    judging = parse_document(JudgingResult, job.result)  # result of a judging job
    judge = job.config["judge"]
    sides = evaluation_text.ComparisonSides(turned=turned)
    with st.container(border=True):
        st.markdown(f"**{escape_markdown(evaluation_text.format_judging_headline(judging, sides))}**")
        by = f"Judged by {judge['model']}, {display.format_ago(job.ended_at)}; 95% intervals."
        st.caption(escape_markdown(" ".join([*evaluation_text.describe_judging(judging, sides), by])))
        pressed = has_right("work") and st.button(
            "Delete", key=f"judging-delete-{job.job_id}", icon=":material/delete:"
        )
    if pressed and send_command("delete", {"job": job.job_id}, "The judging is deleted.") is not None:
        st.rerun()


ROWS = 5


def draw_comparison(evaluation: Evaluation) -> None:
    """Draw the choice of the other evaluation, the differences, and the rows that differ most."""
    own = evaluation.evaluation_id
    others = {each.evaluation_id: each for each in evaluation_queries.list_comparable(own)}
    if not others:
        st.caption(
            "No other evaluation of this data set. Evaluate the base model on the same rows to compare the"
            " two row by row."
        )
        return
    chosen = st.selectbox(
        "Against",
        list(others),
        format_func=lambda key: f"{others[key].name} ({format_part(others[key])}, n {others[key].n:,})",
        key=f"evaluation-against-{own}",
    )
    other = evaluation_queries.read_evaluation(chosen)
    try:
        pair, compared = evaluation_queries.compare_evaluations(own, chosen)
    except QueryError:
        st.caption("The file with the rows of one of them no longer exists.")
        return
    _draw_unshared_rows(pair)
    if not compared.metrics:
        st.caption("The two have no row in common that both could score in the same metric.")
        return
    _draw_differences(evaluation, other, compared)
    with st.expander("Differences by label and length", icon=":material/pie_chart:"):
        draw_slices(evaluation, other)
    with st.expander("LLM judge", icon=":material/gavel:"):
        draw_judging(evaluation, other)
    _draw_differing_rows(own, chosen, compared.metrics, evaluation)


def _draw_differences(evaluation: Evaluation, other: Evaluation, compared: MetricDifferences) -> None:
    """Draw one line per metric, and per general probe measured in both evaluations."""
    figures = {figure.metric: figure for figure in evaluation.figures}
    lines = [
        _build_row(difference, figures[difference.metric], evaluation.config)
        for difference in compared.metrics
    ]
    ids = (evaluation.evaluation_id, other.evaluation_id)
    general = [_build_probe_row(probe) for probe in evaluation_queries.compare_general_probes(*ids)]
    lines += general
    st.dataframe(lines, hide_index=True, alt="Differences of the two evaluations, with intervals")
    st.caption(
        f"This evaluation minus {escape_markdown(other.name)}, paired over the rows that both"
        " have; shares in"
        f" points. {compared.sentence}{' General knowledge is at 95% on its own.' if general else ''}"
    )
    named = ((format_metric_title(each.metric, evaluation.config), each) for each in compared.metrics)
    if reasons := display.describe_missing_intervals(named):
        st.caption(escape_markdown(reasons))


def name_outcome(outcome: str) -> str:
    """Return the outcome for a table: "better", "worse" or "inconclusive"."""
    return outcome if outcome in ("better", "worse") else "inconclusive"


def _build_row(difference: Difference, figure: Figure, config: Mapping[str, Any]) -> dict[str, str | int]:
    times = get_display_scale(figure)
    counts = (difference.first_higher, difference.second_higher, difference.same)
    return {
        "Metric": format_metric_title(difference.metric, config),
        "Difference": (
            "–"
            if difference.value is None
            else display.format_estimate(difference, scale=times, reason=False)
        ),
        "Result": name_outcome(row_scores.describe_difference(difference, difference.better)),
        "n": difference.n,
        "Detectable from": display.format_detectable(difference.detectable, times),
        "Rows higher / lower / same": " / ".join(f"{count:,}" for count in counts),
    }


def _build_probe_row(probe: TextForgetting | ChoiceForgetting) -> dict[str, str | int]:
    shares, change = isinstance(probe, ChoiceForgetting), probe.change
    times, better = (100.0, "higher") if shares else (1.0, "lower")
    flips = f"{probe.won:,} / {probe.lost:,} / –" if isinstance(probe, ChoiceForgetting) and change else ""
    return {
        "Metric": "General questions right" if shares else "Loss on plain prose, nats a token",
        "Difference": display.format_estimate(change, scale=times),
        "Result": name_outcome(row_scores.describe_difference(change, better) if change else ""),
        "n": probe.n,
        "Detectable from": display.format_detectable(probe.detectable, times),
        "Rows higher / lower / same": flips,
    }


def _draw_unshared_rows(pair: EvaluationPair) -> None:
    """Draw differences of rows or prompting, with a button to evaluate on the same rows."""
    for notice in evaluation_text.describe_different_prompting(
        evaluation_pairs.describe_setting_differences(pair)
    ):
        st.warning(escape_markdown(notice), icon=":material/warning:")
    if pair.same_rows:
        return
    sentence = evaluation_text.describe_different_rows(pair.first.n, pair.second.n, pair.common)
    asked = evaluation_pairs.build_same_rows_config(pair)
    mover = pair.first if asked["rows_of"] == pair.second.evaluation_id else pair.second
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":orange[:material/warning:] {escape_markdown(sentence)}")
        st.code(evaluation_pairs.format_command(asked), language=None, wrap_lines=True)
        pressed = has_right("work") and st.button(
            f"Evaluate {escape_markdown(mover.name)} on the same rows",
            icon=":material/fact_check:",
            key=f"evaluation-same-{pair.first.evaluation_id}-{pair.second.evaluation_id}",
        )
    if pressed and send_command("evaluate", asked, "The evaluation is queued.") is not None:
        st.rerun()


def _draw_differing_rows(
    own: str, other: str, differences: Sequence[Difference], evaluation: Evaluation
) -> None:
    metrics = [
        difference.metric
        for difference in differences
        if difference.first_higher + difference.second_higher and not difference.metric.startswith(TASK)
    ]
    if not metrics:
        return
    config = evaluation.config
    metric = st.selectbox(
        "Rows that differ most in",
        metrics,
        format_func=lambda name: format_metric_title(name, config),
        key=f"evaluation-differing-{own}",
    )
    total, rows = evaluation_queries.read_shared_rows(own, other, metric, ROWS)
    st.caption(f"The first {len(rows)} of {formatting.plural(total, 'row')} in common.")
    for row in rows:
        with st.container(border=True, gap="xsmall"):
            st.caption(f":material/person: Prompt · row {row.row_id:,}")
            show_row_text(row.prompt)
            texts = {
                "Reference": row.reference,
                f"This one, {formatting.format_number(row.first_score, 2)}": row.first,
                f"The other, {formatting.format_number(row.second_score, 2)}": row.second,
            }
            for column, (name, text) in zip(st.columns(3, gap="medium"), texts.items(), strict=True):
                with column:
                    st.markdown(f"**{name}**")
                    show_row_text(text, nothing="(an empty answer)")
