"""Figures as agents read them: a sentence each, with interval, n and what can be told."""

from __future__ import annotations

import math

from store.documents.figures.figure import Figure
from store.documents.runs.bundle import RunFigure

CHANGES = ("gain", "accuracy_gain", "text.", "choices.", "requests.", "extraction.", "classes.over_prompted")


def interval_words(low: float | None, high: float | None, n: int) -> str:
    """ "95% interval 0.25 to 0.37, n 120", or that there is none."""
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return f"no interval, n {n:,}"
    return f"95% interval {low:.4g} to {high:.4g}, n {n:,}"


def run_figure_words(figure: RunFigure) -> str:
    """A figure of a run: "gain: 0.31 nats a token (95% interval 0.25 to 0.37, n 120); surely above 0"."""
    low, high = figure["low"], figure["high"]
    words = interval_words(low, high, figure["n"])
    verdict = ""
    if low is not None and high is not None and figure["key"].startswith(CHANGES):
        surely = "above" if low > 0 else "below"
        verdict = "; can't be told from 0" if low <= 0 <= high else f"; surely {surely} 0"
    return f"{figure['title']}: {figure['value']:.4g} {figure['unit']} ({words}){verdict}"


def metric_words(figure: Figure) -> str:
    """A figure of an evaluation."""
    name, value = figure["metric"].removeprefix("eval/"), figure["value"]
    if value is None:
        return f"{name}: nothing could be scored ({figure['failed'] or 'no usable row'})"
    words = interval_words(figure["low"], figure["high"], figure["n"])
    return f"{name}: {value:.4g} {figure['unit']} ({words}; {figure['better']} is better)"
