"""One evaluation against another on the rows that both have: differences that can be told, and that can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison import evaluation_words, score_table
from engine.diagnostics.comparison.score_table import Differences
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_figures import TASK, scale, title
from pages.evaluations.evaluation_form import part_title
from pages.evaluations.evaluation_judging import draw_judging
from pages.evaluations.evaluation_rows import show_row_text
from pages.evaluations.evaluation_slices import draw_slices
from pages.shared import wording
from pages.shared.session import act, may, plain
from store.contract.errors import QueryError
from store.documents.evaluations.evaluation import Evaluation
from store.documents.figures.figure import Difference, Figure
from store.documents.verdicts.forgetting import ForgottenChoices, ForgottenText
from store.queries.evaluations import evaluation_pairs
from store.queries.evaluations.evaluation_pairs import EvaluationPair

ROWS = 5


def draw_comparison(evaluation: Evaluation) -> None:
    """The choice of the other one, the differences, and rows on which the two differ most."""
    own = evaluation["evaluation_id"]
    others = {each["evaluation_id"]: each for each in evaluation_reads.comparable(own)}
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
    other = evaluation_reads.evaluation(chosen)
    try:
        pair, compared = evaluation_reads.compared(own, chosen)
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
    general = [_general(probe) for probe in evaluation_reads.general_change(*ids)]
    lines += general
    st.dataframe(lines, hide_index=True, alt="Differences of the two evaluations, with intervals")
    st.caption(
        f"This evaluation minus {plain(other['name'])}, paired over the rows that both have; shares in"
        f" points. {compared.sentence}{' General knowledge is at 95% on its own.' if general else ''}"
    )
    named = ((title(each["metric"], evaluation["config"]), each) for each in compared.metrics)
    if reasons := wording.missing_intervals(named):
        st.caption(plain(reasons))


def _line(difference: Difference, figure: Figure, config: Mapping[str, Any]) -> dict[str, str | int]:
    times = scale(figure)
    counts = (difference["first_higher"], difference["second_higher"], difference["same"])
    return {
        "Metric": title(difference["metric"], config),
        "Difference": (
            "–" if difference["value"] is None else wording.estimate(difference, scale=times, reason=False)
        ),
        "Told apart": score_table.comparison_word(difference, difference["better"]),
        "n": difference["n"],
        "Would be seen from": wording.detectable(difference["detectable"], times),
        "Rows higher / lower / same": " / ".join(f"{count:,}" for count in counts),
    }


def _general(probe: ForgottenText | ForgottenChoices) -> dict[str, str | int]:
    shares = "categories" in probe
    times, better = (100.0, "higher") if shares else (1.0, "lower")
    change = probe["change"]
    flips = f"{probe['won']:,} / {probe['lost']:,} / –" if "categories" in probe and change else ""
    return {
        "Metric": "General questions right" if shares else "Loss on plain prose, nats a token",
        "Difference": wording.estimate(change, scale=times),
        "Told apart": score_table.comparison_word(change, better) if change else "can't be told",
        "n": probe["n"],
        "Would be seen from": wording.detectable(probe["detectable"], times),
        "Rows higher / lower / same": flips,
    }


def _draw_rows_apart(pair: EvaluationPair) -> None:
    """What is not of both, or was asked in another way, and a button for the same rows."""
    for notice in evaluation_words.asked_unlike(evaluation_pairs.unlike(pair)):
        st.warning(plain(notice), icon=":material/warning:")
    if pair.same_rows:
        return
    sentence = evaluation_words.rows_apart(pair.first["n"], pair.second["n"], pair.common)
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
        format_func=lambda name: title(name, config),
        key=f"evaluation-differing-{own}",
    )
    total, rows = evaluation_reads.shared(own, other, metric, ROWS)
    st.caption(f"The first {len(rows)} of {phrasing.plural(total, 'row')} in common.")
    for row in rows:
        with st.container(border=True, gap="xsmall"):
            st.caption(f":material/person: Prompt · row {row['row_id']:,}")
            show_row_text(row["prompt"])
            texts = {
                "Reference": row["reference"],
                f"This one, {phrasing.number(row['first_score'], 2)}": row["first"],
                f"The other, {phrasing.number(row['second_score'], 2)}": row["second"],
            }
            for column, (name, text) in zip(st.columns(3, gap="medium"), texts.items(), strict=True):
                with column:
                    st.markdown(f"**{name}**")
                    show_row_text(text, nothing="(an empty answer)")
