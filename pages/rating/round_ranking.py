"""The models of a round, the strongest first: a chart for any number of them, which rank each may have, and
pairs, of many the nearest ones or those of one model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go
import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.systems.comparing import MAX_PAIRS, RankedSystem
from engine.diagnostics.rating.systems.strengths import StrengthDifference, Strengths
from engine.diagnostics.rating.words.rating_words import rank_text, share_text
from pages.shared.charts import empty_figure
from pages.shared.palette import BASE, run_color
from pages.shared.session import plain

ROW = 22  # pixels of a model
MAX_LABEL = 22  # characters, of which a phone has room for as many again
VERDICTS = {"better": "better", "worse": "worse", "unclear": "can't be told apart", "none": "not compared"}
NEIGHBOURS = "Neighbours in the ranking"


def draw_ranking(ranked: Sequence[RankedSystem], fitted: Strengths) -> None:
    """The chart, the table behind it, and pairs."""
    best = ranked[0]
    level = [each for each in ranked if each.best == 1]
    if len(level) > 1:
        st.markdown(
            f"**{plural(len(level), 'model')} may be the best one**: none of the others is surely better than"
            " any of them. They are the coloured ones."
        )
    st.plotly_chart(
        _chart(ranked),
        key="round-strengths",
        config={"displayModeBar": False},
        alt=f"Share of decided ratings that each of {len(ranked)} models would win against the average of"
        f" all, with 95% intervals, from {best.name} down",
    )
    with st.expander("The ranking as a table"):
        st.dataframe(
            [
                {
                    "Rank": rank_text(each),
                    "Model": each.name,
                    "Wins against the average": share_text(each.share),
                    "Ratings": each.n,
                }
                for each in ranked
            ],
            hide_index=True,
            alt="Rank, share of decided ratings won against the average, and ratings of each model",
        )
        st.caption(
            "A rank is a range: so many others are surely better, and so many surely worse. All ranges hold"
            " at once, in 95 of 100 rounds."
        )
    _draw_pairs(ranked, fitted)


def _chart(ranked: Sequence[RankedSystem]) -> go.Figure:
    """One row a model, the strongest at the top; those that may be the best have a colour."""
    axis = "Decided ratings won against the average (%)"
    figure = empty_figure("", "", 70 + ROW * len(ranked), x_title=axis)
    for first in (True, False):
        rows = [(place, each) for place, each in enumerate(ranked) if (each.best == 1) is first]
        color = run_color(1) if first else BASE
        ends = [_percents(each) for _, each in rows]
        figure.add_trace(
            go.Scatter(
                x=[value for _, value, _ in ends],
                y=[place for place, _ in rows],
                error_x={
                    "type": "data", "symmetric": False, "thickness": 2.5, "width": 0, "color": color,
                    "array": [high - value for _, value, high in ends],
                    "arrayminus": [value - low for low, value, _ in ends],
                },
                customdata=[[each.name, share_text(each.share), rank_text(each)] for _, each in rows],
                hovertemplate="%{customdata[0]}: %{customdata[1]}, rank %{customdata[2]}<extra></extra>",
                mode="markers", marker={"size": 8, "color": color}, showlegend=False,
            )
        )  # fmt: skip
    labels = [f"{_short(each.name)} · {rank_text(each).replace(' to ', '–')}" for each in ranked]
    figure.add_vline(x=50, line={"dash": "dash", "color": BASE, "width": 1.5})
    figure.update_yaxes(
        showgrid=False, automargin=True, title=None, zeroline=False, tickvals=list(range(len(ranked))),
        ticktext=labels, range=[len(ranked) - 0.5, -0.5],
    )  # fmt: skip
    figure.update_layout(hovermode="closest", margin={"l": 12, "t": 8, "b": 44})
    return figure


def _percents(ranked: RankedSystem) -> tuple[float, float, float]:
    """low, value and high; the value alone where there is no interval."""
    at = ranked.share
    ends = (at.value if end is None else end for end in (at.low, at.value, at.high))
    low, value, high = (100 * end for end in ends)
    return low, value, high


def _short(name: str) -> str:
    return name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…"


def _draw_pairs(ranked: Sequence[RankedSystem], fitted: Strengths) -> None:
    """A few pairs of many, counted; all of one model on request."""
    names = [each.name for each in ranked]
    with st.expander("Pairs of models", on_change="rerun", key="round-pairs-open") as box:
        if not box.open:
            return
        chosen = st.selectbox("Pairs", [NEIGHBOURS, *names], key="round-pairs", format_func=plain)
        if chosen in names:
            pairs = [fitted.difference(chosen, other) for other in names if other != chosen]
        else:
            pairs = [fitted.difference(*pair) for pair in pairwise(names)][:MAX_PAIRS]
        st.dataframe([_pair_row(pair) for pair in pairs], hide_index=True, alt="Pairs of models")
        st.caption(
            f"{len(pairs)} of {plural(len(fitted.differences), 'pair')}, corrected for the choice among all."
        )


def _pair_row(pair: StrengthDifference) -> dict[str, str | int]:
    comparable = pair.verdict != "none"
    return {
        "Model": pair.first,
        "is": VERDICTS[pair.verdict],
        "than or from": pair.second,
        "It would win": share_text(pair.share) if comparable else f"can't be told: {pair.interval.why}",
        "Compared directly": pair.direct,
    }
