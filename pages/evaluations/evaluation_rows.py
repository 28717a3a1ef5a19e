"""The rows of one evaluation: prompt, reference, answer and scores, a page at a time, the worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_figures import TASK, scale, title
from pages.shared.conversation import show_text
from pages.shared.session import plain
from store.contract.errors import QueryError
from store.documents.evaluations.evaluation import EvaluatedRow, Evaluation, RowScore
from store.documents.figures.figure import Figure

PAGE = 10
SHOWN = 600  # characters of a text


def draw_rows(evaluation: Evaluation) -> None:
    """Rows in the order of one metric; those that it could not score come first."""
    config, own = evaluation["config"], evaluation["evaluation_id"]
    scored = {f["metric"]: f for f in evaluation["figures"] if _of_rows(f)}
    if not scored:
        st.caption("No metric has scores of rows.")
        return
    metric = st.selectbox(
        "Order by",
        list(scored),
        format_func=lambda name: f"{title(name, config)}, the worst first",
        key=f"evaluation-order-{own}",
        label_visibility="collapsed",
    )
    chosen = scored[metric]
    pages = max(1, -(-evaluation["n"] // PAGE))
    number = st.pagination(pages, key=f"evaluation-page-{own}-{metric}") if pages > 1 else 1
    try:
        total, rows = evaluation_reads.page(own, metric, chosen["better"], PAGE, (number - 1) * PAGE)
    except QueryError:
        st.caption("The file with its rows is gone.")
        return
    st.caption(f"{phrasing.plural(total, 'row')}; those that it could not score stand at the top.")
    for row in rows:
        _draw_row(row, scored, config)


def _of_rows(figure: Figure) -> bool:
    """It has a score for each row; a task of the harness has items of its own."""
    return figure["estimator"] != "whole" and not figure["failed"] and not figure["metric"].startswith(TASK)


def _draw_row(row: EvaluatedRow, scored: dict[str, Figure], config: Mapping[str, Any]) -> None:
    with st.container(border=True, gap="xsmall"):
        st.caption(f":material/person: Prompt · row {row['row_id']:,}")
        show_row_text(row["prompt"])
        left, right = st.columns(2, gap="medium")
        with left:
            st.markdown("**Reference**")
            show_row_text(row["reference"])
        with right:
            sure = f" ({row['probability']:.0%})" if row.get("probability") is not None else ""
            st.markdown(f"**Answer**{sure}")
            show_row_text(row["prediction"], nothing="(an empty answer)")
        scores = [
            f"{plain(title(name, config))} {score_text(row['scores'].get(name), figure)}"
            for name, figure in scored.items()
        ]
        st.markdown(f":gray[{' · '.join(scores)}]")


def show_row_text(text: str | None, nothing: str = "(nothing)") -> None:
    """Draw a text of a row; a dash where there is none."""
    show_text("–" if text is None else text, SHOWN, nothing)


def score_text(score: RowScore | None, figure: Figure) -> str:
    """One row's score, or why there is none."""
    if score is None:
        return "–"
    if score["score"] is None:
        return f"– ({plain(score['reason'])})" if score["reason"] else "–"
    whole = scale(figure) == 100 and score["score"] in (0.0, 1.0)
    return phrasing.number(score["score"], 0 if whole else 2)
