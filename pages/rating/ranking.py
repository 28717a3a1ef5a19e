"""Ranking of a round's models, and cheap measures (metrics, a judge) compared with the human ratings.

A measure that agrees with people as often as they agree with each other can replace them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine.rating import raters_text
from engine.rating.analysis.agreement import measure_human_agreement
from engine.rating.analysis.comparisons import Comparisons
from engine.rating.analysis.judge_correction import correct_judge
from engine.rating.analysis.model_comparison import MAX_PAIRS, RankedSystem
from engine.rating.analysis.strengths import StrengthDifference, Strengths
from engine.rating.results_text import format_rank, format_share
from pages.evaluation import evaluation_queries
from pages.rating import round_queries
from pages.shared.charts import build_empty_figure
from pages.shared.palette import BASE, get_run_color
from pages.shared.session import escape_markdown, get_client
from store.core.errors import QueryError
from store.core.formatting import plural
from store.core.rating_schemas import RoundSummary
from store.core.schemas import Job
from store.evaluation import evaluation_pairs, evaluations

ROW = 22  # pixels per model
MAX_LABEL = 22  # characters; a phone has room for twice as many
VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "show no clear difference",
    "none": "not compared",
}
NEIGHBOURS = "Neighbours in the ranking"


def draw_ranking(ranked: Sequence[RankedSystem], fitted: Strengths) -> None:
    """Draw the ranking as chart and table, and pairs of models."""
    best = ranked[0]
    level = [each for each in ranked if each.best == 1]
    if len(level) > 1:
        st.markdown(
            f"**{plural(len(level), 'model')} may be the best**: no other model is significantly better "
            "than any of them. They are shown in color."
        )
    st.plotly_chart(
        _plot_ranking(ranked),
        key="round-strengths",
        config={"displayModeBar": False},
        alt=f"Share of decided ratings that each of {len(ranked)} models would win against the average of"
        f" all, with 95% intervals, from {best.name} down",
    )
    with st.expander("Ranking table"):
        st.dataframe(
            [
                {
                    "Rank": format_rank(each),
                    "Model": each.name,
                    "Wins against the average": format_share(each.share),
                    "Ratings": each.n,
                }
                for each in ranked
            ],
            hide_index=True,
            alt="Rank, share of decided ratings won against the average, and ratings of each model",
        )
        st.caption(
            "A rank is a range: it counts the models that are significantly better and significantly "
            "worse. All ranges hold at once, in 95 of 100 rounds."
        )
    _draw_pairs(ranked, fitted)


def _plot_ranking(ranked: Sequence[RankedSystem]) -> go.Figure:
    """Plot one row per model, strongest on top; models that may be the best are coloured."""
    axis = "Decided ratings won against the average (%)"
    figure = build_empty_figure("", "", 70 + ROW * len(ranked), x_title=axis)
    for first in (True, False):
        rows = [(place, each) for place, each in enumerate(ranked) if (each.best == 1) is first]
        color = get_run_color(1) if first else BASE
        ends = [_compute_percents(each) for _, each in rows]
        figure.add_trace(
            go.Scatter(
                x=[value for _, value, _ in ends],
                y=[place for place, _ in rows],
                error_x={
                    "type": "data", "symmetric": False, "thickness": 2.5, "width": 0, "color": color,
                    "array": [high - value for _, value, high in ends],
                    "arrayminus": [value - low for low, value, _ in ends],
                },
                customdata=[[each.name, format_share(each.share), format_rank(each)] for _, each in rows],
                hovertemplate="%{customdata[0]}: %{customdata[1]}, rank %{customdata[2]}<extra></extra>",
                mode="markers", marker={"size": 8, "color": color}, showlegend=False,
            )
        )  # fmt: skip
    names = [
        each.name if len(each.name) <= MAX_LABEL else f"{each.name[: MAX_LABEL - 1]}…" for each in ranked
    ]
    labels = [
        f"{name} · {format_rank(each).replace(' to ', '–')}" for name, each in zip(names, ranked, strict=True)
    ]
    figure.add_vline(x=50, line={"dash": "dash", "color": BASE, "width": 1.5})
    figure.update_yaxes(
        showgrid=False, automargin=True, title=None, zeroline=False, tickvals=list(range(len(ranked))),
        ticktext=labels, range=[len(ranked) - 0.5, -0.5],
    )  # fmt: skip
    figure.update_layout(hovermode="closest", margin={"l": 12, "t": 8, "b": 44})
    return figure


def _compute_percents(ranked: RankedSystem) -> tuple[float, float, float]:
    """Return low, value and high in per cent; without an interval all equal the value."""
    at = ranked.share
    ends = (at.value if end is None else end for end in (at.low, at.value, at.high))
    low, value, high = (100 * end for end in ends)
    return low, value, high


def _draw_pairs(ranked: Sequence[RankedSystem], fitted: Strengths) -> None:
    """Draw a few neighbouring pairs, or all pairs of a selected model."""
    names = [each.name for each in ranked]
    with st.expander("Pairs of models", on_change="rerun", key="round-pairs-open") as box:
        if not box.open:
            return
        chosen = st.selectbox("Pairs", [NEIGHBOURS, *names], key="round-pairs", format_func=escape_markdown)
        if chosen in names:
            pairs = [fitted.difference(chosen, other) for other in names if other != chosen]
        else:
            pairs = [fitted.difference(*pair) for pair in pairwise(names)][:MAX_PAIRS]
        st.dataframe([_build_pair_row(pair) for pair in pairs], hide_index=True, alt="Pairs of models")
        st.caption(
            f"{len(pairs)} of {plural(len(fitted.differences), 'pair')}, corrected for the choice among all."
        )


def _build_pair_row(pair: StrengthDifference) -> dict[str, str | int]:
    comparable = pair.verdict != "none"
    return {
        "Model": pair.first,
        "is": VERDICTS[pair.verdict],
        "Compared with": pair.second,
        "Would win": format_share(pair.share) if comparable else f"can't be determined: {pair.interval.why}",
        "Compared directly": pair.direct,
    }


Prefers = Callable[[str, str, str], float | None]


def draw_judges(round: RoundSummary, comparisons: Comparisons) -> None:
    """Draw the agreement of metrics and judges with people, or why there is none.

    A judge's result on all rows is corrected with the rows that people rated.
    """
    if not all(system.evaluation_id for system in round.systems):
        st.caption(
            "No metric or judge can be compared with raters here: they score evaluations, but these answers"
            " come from none."
        )
        return
    lines = _describe_metrics(round, comparisons) + _describe_judges(round, comparisons)
    st.subheader("Agreement with metrics and judges", anchor=False)
    if lines:
        st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))
    else:
        st.caption(
            "No metric scored the answers of all these models. Evaluate them with metrics, or run a "
            "judge on the Evaluations page, to compare it with raters here."
        )


def _describe_metrics(round: RoundSummary, comparisons: Comparisons) -> list[str]:
    """Describe how well each metric that scored all models' answers agrees with people."""
    rows = {str(item.item_id): item.row_id for item in round_queries.list_items(round.round_id)}
    names = comparisons.systems
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for name, system in zip(names, round.systems, strict=True):
        for metric, by_row in _read_scores(str(system.evaluation_id)).items():
            scores.setdefault(metric, {})[name] = by_row
    lines = []
    for metric, by_system in sorted(scores.items()):
        if len(by_system) < len(names):
            continue
        evaluation = evaluation_queries.read_evaluation(str(round.systems[0].evaluation_id))
        figure = next((each for each in evaluation.figures if each.metric == metric), None)
        sign = -1.0 if figure is not None and figure.better == "lower" else 1.0
        measured = measure_human_agreement(
            metric.removeprefix("eval/"), comparisons, _build_preference(by_system, rows, sign)
        )
        if measured.n:
            lines.append(raters_text.describe_human_agreement(measured))
    return lines


def _build_preference(
    by_system: dict[str, dict[int, float]], rows: dict[str, int | None], sign: float
) -> Prefers:
    def prefers(item: str, first: str, second: str) -> float | None:
        row = rows[item]
        if row is None:
            return None
        one_score, other = by_system[first].get(row), by_system[second].get(row)
        return None if one_score is None or other is None else sign * (one_score - other)

    return prefers


@st.cache_data(ttl=60, max_entries=32, show_spinner=False)
def _read_scores(evaluation_id: str) -> dict[str, dict[int, float]]:
    """Return metric -> row id -> score; empty if the evaluation no longer exists."""
    try:
        table = evaluations.scores(get_client(), evaluation_id)
    except QueryError:
        return {}
    by_metric: dict[str, dict[int, float]] = defaultdict(dict)
    for row in table.select(["row_id", "metric", "score"]).to_pylist():
        if row["score"] is not None:
            by_metric[row["metric"]][row["row_id"]] = row["score"]
    return dict(by_metric)


def _describe_judges(round: RoundSummary, comparisons: Comparisons) -> list[str]:
    """Describe how well each judge agrees with people, and its result on all rows, corrected by them."""
    if len(round.systems) != 2:
        return []
    first, second = (str(system.evaluation_id) for system in round.systems)
    lines = []
    for job in evaluation_queries.list_judgings(first, second):
        if job.status != "finished":
            continue
        by_row = _read_judged_preferences(job, turned=job.config["first"] != first)
        rows = {str(item.item_id): item.row_id for item in round_queries.list_items(round.round_id)}
        name = f"the judge {job.config['judge']['model']}"

        def prefers(
            item: str,
            first: str,
            second: str,
            rows: dict[str, int | None] = rows,
            by_row: dict[int, float] = by_row,
        ) -> float | None:
            row = rows[item]
            sign = 1.0 if first == comparisons.systems[0] else -1.0
            return None if row is None or row not in by_row else sign * by_row[row]

        measured = measure_human_agreement(name, comparisons, prefers)
        if measured.n:
            lines.append(raters_text.describe_human_agreement(measured))
            ours, theirs = comparisons.systems
            what = f"Preference for {ours} over {theirs} (1 is always, −1 never)"
            people, weights = _compute_human_preferences(comparisons, rows), _compute_weights(round)
            whole = correct_judge(
                list(by_row.values()),
                [people.get(row, math.nan) for row in by_row],
                weights=[weights.get(row, 1.0) for row in by_row],
            )
            lines.append(raters_text.describe_corrected_estimate(whole, what))
    return lines


def _read_judged_preferences(job: Job, *, turned: bool) -> dict[int, float]:
    """Return row id -> 1 if the first model's answer is preferred, -1 for the second's, 0 for a tie."""
    try:
        table = evaluation_pairs.judgements(get_client(), job.job_id)
    except QueryError:
        return {}
    sign = -1.0 if turned else 1.0
    rows = table.to_pylist()
    return {row["row_id"]: sign * (2 * row["score"] - 1) for row in rows if row["score"] is not None}


def _compute_weights(round: RoundSummary) -> dict[int, float]:
    """Return row id -> 1 / the probability that its prompt was selected."""
    items = round_queries.list_items(round.round_id)
    return {item.row_id: item.weight for item in items if item.row_id is not None}


def _compute_human_preferences(comparisons: Comparisons, rows: dict[str, int | None]) -> dict[int, float]:
    """Return row id -> mean preference of people for the first model."""
    counted = comparisons.take(comparisons.counted)
    toward_first = np.where(counted.left == 0, counted.signs, -counted.signs)
    by_row: dict[int, list[float]] = defaultdict(list)
    for item, preference in zip(counted.item, toward_first, strict=True):
        row = rows[counted.items[item]]
        if row is not None:
            by_row[row].append(float(preference))
    return {row: float(np.mean(preferences)) for row, preferences in by_row.items()}
