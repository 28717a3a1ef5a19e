"""The figures of a data set's card that have a healthy band, and which of them lies outside of it.

Pure functions over what was counted at the import and measured since; no row is read. Whether a figure is
outside its band is decided in one place, `engine.diagnostics.data.findings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.diagnostics.data.findings import findings
from engine.diagnostics.phrasing import number, percent, percent_beside, plural
from pages.shared.quantities import share
from store.catalog.signals import GROUPS, Signal
from store.config.data.filters import Condition, Filter
from store.documents.data.signal_figures import SignalFigure
from store.documents.tables.dataset import Dataset, SignalRow

LARGEST, MOST = 0.8, 0.5  # share of the rows that one of two labels, and one of more, may have
STATES = {"serious": "bad", "notable": "warn", "minor": "warn", "look": "warn"}

Measurements = Mapping[str, SignalRow]  # by group of signals


@dataclass(frozen=True)
class Tile:
    """One tile. state: "" (no band), good, warn, bad. where: the rows that it speaks of; rows: how many."""

    title: str
    value: str
    note: str
    band: str = ""
    state: str = ""
    means: str = ""
    where: Filter | None = None
    rows: int | None = None


def judged(dataset: Dataset, measured: Measurements) -> list[Tile]:
    """Every measured signal that has a healthy band: those outside first, the worst at the top."""
    dataset_findings = findings(dataset, measured, GROUPS)
    outside = {finding.column: finding for finding in dataset_findings}
    tiles = []
    for finding in dataset_findings:
        signal = _signal(finding.column)
        tiles.append(
            Tile(
                signal.title,
                _value(signal, _figures(measured, finding.column)),
                finding.measure
                if finding.share is None
                else f"{finding.rows:,} of {_rows_of(finding.measure)}",
                band(signal),
                STATES[finding.severity],
                finding.why,
                Filter.parse(finding.where),
                _filter_rows(signal, _figures(measured, finding.column)),
            )
        )
    if labels := _labels(dataset):
        tiles.append(labels)
    for name in GROUPS:
        for signal in GROUPS[name].signals if name in measured else ():
            figures = measured[name]["figures"].get(signal.column)
            if signal.healthy and figures and figures["n"] and signal.column not in outside:
                note = f"of {plural(figures['n'], 'row')}"
                tiles.append(
                    Tile(signal.title, _value(signal, figures), note, band(signal), "good", signal.means)
                )
    return sorted(tiles, key=lambda tile: ["bad", "warn", "good"].index(tile.state))


def _rows_of(measure: str) -> str:
    """ "2,211 rows" of "25% of 2,211 rows", with what follows."""
    return measure.split(" of ", 1)[1]


def _signal(column: str) -> Signal:
    return next(s for group in GROUPS.values() for s in group.signals if s.column == column)


def figure_of(measured: Measurements, group: str, column: str) -> SignalFigure | None:
    """The figure of a column, where its group was measured and has one."""
    return measured[group]["figures"].get(column) if group in measured else None


def _figures(measured: Measurements, column: str) -> SignalFigure:
    return next(m["figures"][column] for m in measured.values() if column in m["figures"])


def _value(signal: Signal, figure: SignalFigure) -> str:
    """The share of the rows that it found, or the median."""
    found_count = found_rows(signal, figure)
    limit = (signal.healthy or (None, None))[1]
    if found_count is not None:
        return percent_beside(found_count / figure["n"], limit)
    if "median" not in figure or figure["median"] is None:
        return "–"
    if signal.unit == "share":
        return percent_beside(figure["median"], limit)
    return number(figure["median"], 2)


def found_rows(signal: Signal, figure: SignalFigure) -> int | None:
    """Rows that a signal found (of a group: beyond the first); None for a number judged by its median."""
    if "flagged" in figure:
        return figure["flagged"]
    if "extra" in figure:
        return figure["extra"]
    return figure["positive"] if signal.unit == "found" and "positive" in figure else None


def _filter_rows(signal: Signal, figure: SignalFigure) -> int | None:
    """Rows that the filter of a finding shows: of a group all of its rows, the first too."""
    return figure["rows"] if "rows" in figure else found_rows(signal, figure)


def band(signal: Signal) -> str:
    """The healthy band in words that no one takes for the value: "at most 10% is healthy"."""
    low, high = signal.healthy or (None, None)
    if high == 0:
        return "none is healthy"
    counted = signal.type in ("flag", "group") or signal.unit in ("found", "share")
    ends = [None if x is None else percent(x) if counted else f"{x:g}" for x in (low, high)]
    what = "" if signal.type in ("flag", "group") or signal.unit == "found" else "a median of "
    if ends[0] is not None and ends[1] is not None:
        return f"{what}{ends[0]} to {ends[1]} is healthy"
    return f"{what}{'at least' if ends[1] is None else 'at most'} {ends[0] or ends[1]} is healthy"


def _labels(dataset: Dataset) -> Tile | None:
    """How evenly the rows are spread over the labels."""
    stats = dataset["stats"]
    distinct, total = stats.get("label_count") or 0, dataset["row_count"]
    if distinct < 2 or not stats.get("labels"):
        return None
    name, rows = next(iter(stats["labels"].items()))
    most = LARGEST if distinct == 2 else MOST
    return Tile(
        "Largest label",
        share(rows, total),
        f"{rows:,} of {plural(total, 'row')}: {name[:60]}",
        f"at most {most:.0%} is healthy",
        "warn" if rows / total > most else "good",
        "Most of what is learned is this one label; accuracy alone will look better than the model is.",
        Filter(conditions=[Condition(column="label", op="is", value=name)]),
        rows,
    )
