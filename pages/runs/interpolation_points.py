"""Scored interpolations of a run: as points, as a plot of gain against forgetting, and as a table with
intervals and n. The figures are pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.verdicts import forgetting_tradeoff, paired_measurements
from pages.comparison.tradeoff_chart import add_error_bars, build_axes, format_interpolation_hover
from pages.comparison.tradeoff_points import (
    MEASURES,
    InterpolationPoint,
    convert_to_cost,
    find_measure,
    get_forgetting_figures,
)
from pages.shared import display
from pages.shared.palette import BASE, get_run_color
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import ChoiceForgetting, Forgetting, TextForgetting
from store.evaluation.verdict_schemas import RecommendedShare
from store.runs.schemas import MeasuredMix, Run, SavedVariant

DEFAULT_SHARES = (0.2, 0.4, 0.6, 0.8)
STEP = 0.05  # step between available shares
PASSES = ("held_out", "prose", "choices")  # passes measured for every share, as for the run's models
OWN_TEXTS = "own_samples"  # also measured if the run has them
LOADING_SECONDS = 10.0  # approximate seconds to load a job's model
BUSY_FACTOR = 1.25  # ratio of actual to estimated time from which on it is mentioned


@dataclass(frozen=True)
class ScoredShare:
    """A scored interpolation between the base model and a run.

    figures: by measure, named as in `tradeoff_points.find_measure`; None if it was not measured.
    """

    run_id: str
    number: int  # of the run, as is its name
    name: str
    alpha: float
    gain: Estimate | None
    figures: Mapping[str, Estimate | None]

    def cost(self, measure: str) -> Estimate | None:
        """The forgetting, more is worse; None if it was not measured."""
        return convert_to_cost(self.figures.get(measure), measure)


def build_scored_shares(run: Run, measured: Sequence[MeasuredMix]) -> list[ScoredShare]:
    """Build the scored shares; the tuned model is taken from the run's verdict if no job has measured it."""
    identity = (run.run_id, run.number, run.name)
    by_alpha = {
        row.alpha: ScoredShare(
            *identity,
            row.alpha,
            row.gain,
            get_forgetting_figures(row) | _get_probe_figures(row.named or ()),
        )
        for row in measured
    }
    verdict = run.verdict
    if verdict and verdict.gain:
        gain: Estimate = verdict.gain
        by_alpha.setdefault(1.0, ScoredShare(*identity, 1.0, gain, _get_tuned_figures(verdict.forgetting)))
    return [share for _, share in sorted(by_alpha.items()) if share.alpha > 0]


def _get_tuned_figures(forgetting: Forgetting | None) -> dict[str, Estimate | None]:
    """Return the forgetting of the tuned model by measure."""
    if not forgetting:
        return dict.fromkeys(MEASURES)
    texts = {text.probe: text.change for text in forgetting.texts}
    choices = {part.probe: part.change for part in forgetting.choices}
    divergence = {part.probe: part.kl for part in forgetting.divergence}
    figures = {
        "prose": texts.get(paired_measurements.PROSE),
        "answers": choices.get(paired_measurements.CHOICES),
        "kl": divergence.get(paired_measurements.OWN_SAMPLES),
    }
    parts: list[TextForgetting | ChoiceForgetting] = [*forgetting.texts, *forgetting.choices]
    # tasks are only measured at the end of a run, never for interpolations
    return figures | _get_probe_figures(
        [part for part in parts if part.probe.startswith(paired_measurements.DATA)]
    )


def _get_probe_figures(parts: Sequence[TextForgetting | ChoiceForgetting]) -> dict[str, Estimate | None]:
    """Return the forgetting on data sets used as probes, named as in `tradeoff_points.find_measure`."""
    return {
        f"{part.probe}/{'loss' if isinstance(part, TextForgetting) else 'accuracy'}": part.change
        for part in parts
    }


def list_measures(shares: Sequence[ScoredShare]) -> list[str]:
    """List the measures of forgetting: those of every run, then data sets used as probes."""
    named = dict.fromkeys(
        name for share in shares for name in share.figures if paired_measurements.is_users_probe(name)
    )
    return [*MEASURES, *named]


def build_points(shares: Sequence[ScoredShare], measure: str) -> list[InterpolationPoint]:
    """Build the points that have a figure on both axes, in order of the share."""
    drawable = []
    for share in shares:
        gain, cost = share.gain, share.cost(measure)
        if gain and cost:
            drawable.append(
                InterpolationPoint(share.run_id, share.number, share.name, share.alpha, gain, cost)
            )
    return drawable


def recommend_share(shares: Sequence[ScoredShare]) -> RecommendedShare:
    """Apply `engine.evaluation.verdicts.forgetting_tradeoff.recommend_share` to all scored shares."""
    gains = [
        forgetting_tradeoff.ShareGain(share.alpha, share.gain, share.figures.get("prose"))
        for share in shares
        if share.gain
    ]
    return forgetting_tradeoff.recommend_share(gains)


def list_available_shares() -> list[float]:
    """List the shares that can be scored, without both ends."""
    return [round(STEP * place, 2) for place in range(1, round(1 / STEP))]


@dataclass(frozen=True)
class ScoringTime:
    """Time to score one share in seconds, and the basis of the estimate in words."""

    low: float
    high: float
    basis: str

    def shares(self, count: int) -> str:
        """Describe the time to score this many shares."""
        low, high = (LOADING_SECONDS + each * count for each in (self.low, self.high))
        return (
            f"{display.format_duration_range(low, high)} for"
            f" {formatting.plural(count, 'share')}, {self.basis}"
        )


def estimate_scoring_time(run: Run, measured: Sequence[MeasuredMix]) -> ScoringTime | None:
    """Estimate the time from shares of this run scored before, or else from the same passes of the run's
    verdict.

    None if neither was timed. If the machine was busy during the run, the estimate is too long; the ratio of
    the run's time to its own estimate shows by how much.
    """
    if before := [row.seconds for row in measured if row.seconds]:
        counted = formatting.plural(len(before), "share")
        return ScoringTime(min(before), max(before), f"as {counted} of this run took before")
    facts = run.facts
    passes = facts.get("judged_seconds") or {}
    if not all(name in passes for name in PASSES):
        return None
    once = sum(passes.get(name, 0.0) for name in (*PASSES, OWN_TEXTS))
    whole, thought = facts.get("run_seconds"), facts.get("estimated_seconds")
    busy = max(1.0, whole / thought) if whole and thought else 1.0
    basis = "by the run's own evidence, measured once"
    if busy > BUSY_FACTOR:
        basis += f"; the run took {busy:.1f} times as long as estimated, perhaps as the machine was busy"
    return ScoringTime(once / busy, once, basis)


def find_neighbouring_shares(
    shares: Sequence[ScoredShare], alpha: float
) -> tuple[ScoredShare | None, ScoredShare | None]:
    """Return the scored shares below and above `alpha`, or None."""
    below = [share for share in shares if share.alpha < alpha]
    above = [share for share in shares if share.alpha > alpha]
    return (below[-1] if below else None), (above[0] if above else None)


MAX_NUMBERED_POINTS = 12  # with more shares labels are unreadable


def plot_interpolation(
    shares: Sequence[InterpolationPoint], measure: str, alpha: float, kept: Sequence[float] = ()
) -> go.Figure:
    """Plot a line from the base model through every scored share to the tuned model.

    `alpha`: the share marked with a ring; `kept`: shares saved as runs, drawn filled.
    """
    figure = build_axes(shares, measure, 460)
    if not shares:
        return figure
    ink = get_run_color(shares[0].number)
    x, y = [0.0, *(p.cost.value for p in shares)], [0.0, *(p.gain.value for p in shares)]
    line = {"color": ink, "width": 1.6, "dash": "solid" if len(shares) > 1 else "dot"}  # dotted: not scored
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, name="Way")
    )
    add_error_bars(figure, shares)
    _add_marks(figure, shares, measure, ink, kept)
    ringed = [p for p in shares if p.alpha == alpha]
    if ringed:
        ring = {"symbol": "circle-open", "size": 26, "color": ink, "line": {"width": 3}}
        at = {"x": [ringed[0].cost.value], "y": [ringed[0].gain.value]}
        figure.add_trace(
            go.Scatter(**at, mode="markers", marker=ring, hoverinfo="skip", showlegend=False, name="Chosen")
        )
    return figure


def _add_marks(
    figure: go.Figure, shares: Sequence[InterpolationPoint], measure: str, ink: str, kept: Sequence[float]
) -> None:
    numbered = len(shares) <= MAX_NUMBERED_POINTS
    farthest = max(shares, key=lambda point: point.cost.value)
    whole = [p.alpha in (1.0, *kept) for p in shares]
    symbols = [
        "circle" if p.alpha == 1 else "diamond" if full else "diamond-open"
        for p, full in zip(shares, whole, strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=[p.cost.value for p in shares],
            y=[p.gain.value for p in shares],
            mode="markers+text" if numbered else "markers",
            text=[f"α {p.alpha:g}" for p in shares] if numbered else None,
            # the last point is at the right edge, where a label on its right would be cut off
            textposition=["bottom right" if p is not farthest else "bottom left" for p in shares],
            textfont={"size": 12, "color": BASE},
            marker={"size": 12, "color": ink, "symbol": symbols, "line": {"width": 2, "color": ink}},
            customdata=[[p.alpha] for p in shares],
            hovertext=[format_interpolation_hover(p, measure) for p in shares],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name="Shares",
            unselected={"marker": {"opacity": 1}},
        )
    )


def draw_table(shares: Sequence[ScoredShare], kept: Mapping[float, SavedVariant]) -> None:
    """Draw a table with one line per share."""
    if shares:
        # a measure that no share has would be an empty column
        measures = [name for name in list_measures(shares) if any(share.cost(name) for share in shares)]
        st.dataframe(
            [build_row(share, kept, measures) for share in shares],
            hide_index=True,
            alt="Gain and forgetting by share",
        )


def build_row(
    share: ScoredShare, kept: Mapping[float, SavedVariant], measures: Sequence[str]
) -> dict[str, str | int | None]:
    """Build the table row of one share."""
    cells: dict[str, str | int | None] = {
        "α": f"{share.alpha:g}",
        "Gain ↑ (nats a token)": display.format_estimate(share.gain),
        "n (rows)": share.gain.n if share.gain else None,
    }
    for name in measures:
        what, cost = find_measure(name), share.cost(name)
        cells[f"{what.title} ↓ ({what.unit})"] = display.format_estimate(cost) if cost else "–"
        counted = f"n ({what.items}s)" if name in MEASURES else f"n ({what.items}s of {what.title})"
        cells[counted] = cost.n if cost else None
    run = kept.get(share.alpha)
    cells["Saved as"] = f"#{run.number} {run.name}" if run else "–"
    return cells
