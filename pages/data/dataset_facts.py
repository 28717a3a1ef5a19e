"""The line of figures over all tabs of a data set: rows, format, length, labels, and where it is from."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.shared import figures, quantities
from pages.shared.conversation import shortened_middle
from store.catalog.formats import FORMATS

NAMED = 22  # characters of a label that fit under a figure


def show_facts(dataset: dict[str, Any]) -> None:
    """Everything here is known from the import or the cleaning; nothing is read."""
    st.html(figures.heading(facts(dataset)))


def facts(dataset: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(title, value, note) of each figure."""
    stats, rows = dataset["stats"], dataset["row_count"]
    repeated = dataset["duplicate_count"]
    shown = [
        ("Rows", f"{rows:,}", _whence(dataset)),
        ("Repeated rows", f"{repeated:,}", repeats_words(dataset)),
        ("Format", FORMATS[dataset["format"]].title, quantities.size(dataset["source_bytes"])),
    ]
    if characters := stats.get("characters"):
        note = f"median; 5% are over {characters['p95']:,.0f}"
        shown.append(("Length of a row", f"{characters['median']:,.0f} characters", note))
    if stats.get("labels"):
        first, most = next(iter(stats["labels"].items()))
        note = f"most: {shortened_middle(first, NAMED)} ({quantities.share(most, rows)})"
        shown.append(("Labels", f"{stats['label_count']:,}", note))
    made = "Made" if dataset["fates"] else "Imported"
    version = f"version {dataset['fingerprint'][:8]}"
    return [*shown, (made, quantities.ago(dataset["created_at"]), version)]


def repeats_words(dataset: dict[str, Any]) -> str:
    """What the number of repeated rows counts: exactly equal ones, in data sets of earlier imports equal ones
    but for case and spacing."""
    counted = dataset["stats"].get("duplicates")
    if counted is None:
        return "same as an earlier row but for case and spacing" if dataset["duplicate_count"] else "none"
    more = counted["folded"] - counted["exact"]
    alike = f"{more:,} more but for case and spacing" if more else ""
    same = "exactly as an earlier row" if counted["exact"] else "none exactly" if more else "none"
    return f"{same}; {alike}" if alike else same


def _whence(dataset: dict[str, Any]) -> str:
    """How many rows there were in the file, or in the version that a recipe cleaned."""
    if fates := dataset["fates"]:
        old = sum(fates[fate] for fate in ("kept", "changed", "dropped"))
        added = f", {fates['added']:,} added" if fates["added"] else ""
        return f"{dataset['row_count'] - fates['added']:,} of {old:,} in the version before{added}"
    skipped = dataset["skipped_count"]
    of = f"{dataset['row_count'] + skipped:,} in the file"
    return f"of {of}, {skipped:,} skipped" if skipped else "every row of the file"
