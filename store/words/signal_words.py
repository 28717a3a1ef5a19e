"""Figures of signals and their healthy bands in words, for data cards and the command line."""

from __future__ import annotations

from store.catalog.signals import Signal
from store.documents.data.signal_figures import SignalFigure


def figure_words(signal: Signal, figure: SignalFigure) -> str:
    """The figure of a signal (docs/architecture.md): "12 of 340 rows (3.53%)", "median 14 words"."""
    n = figure["n"]
    if not n:
        return "not measured"
    if "flagged" in figure:
        return f"{figure['flagged']:,} of {n:,} rows ({figure['flagged'] / n:.2%})"
    if "extra" in figure:
        return (
            f"{figure['extra']:,} of {n:,} rows beyond the first of their group ({figure['extra'] / n:.2%})"
        )
    if "distinct" in figure:
        most = [f"{value or '(none)'} {count:,}" for value, count in list(figure["values"].items())[:5]]
        return f"{figure['distinct']:,} values; {', '.join(most)}"
    if "value" in figure:
        return number_words(figure["value"])
    if signal.unit == "found":
        return f"in {figure['positive']:,} of {n:,} rows ({figure['positive'] / n:.2%})"
    middle, high = number_words(figure["median"]), number_words(figure["p95"])
    return f"median {middle}, 95% at most {high} {signal.unit}".rstrip()


def band_words(signal: Signal) -> str:
    """The healthy band: "at most 1.00%", "none", empty where there is no opinion."""
    if signal.healthy is None:
        return ""
    low, high = signal.healthy
    if high == 0:
        return "none"
    show = number_words if signal.type in ("number",) and signal.unit != "found" else _share
    if low is None:
        return f"at most {show(high)}" if high is not None else ""
    return f"at least {show(low)}" if high is None else f"{show(low)} to {show(high)}"


def _share(value: float) -> str:
    return f"{value:.2%}"


def number_words(value: float | None) -> str:
    """Four digits, whole numbers as they are."""
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
