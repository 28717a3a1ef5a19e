"""The charts of what a run knows by heart, as pure functions: verdict documents in, figures out."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.shared import wording
from pages.shared.charts import IntervalRow, interval_chart
from pages.shared.palette import BAD, BASE, VALIDATION
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.memorisation import CanaryExposure, Extraction, RepeatedGains


def extraction_chart(extraction: Extraction) -> go.Figure:
    """Rows that come out nearly word for word: of training rows and of held-out ones, of each model."""
    rows = []
    for title, part in (("Training rows", extraction), ("Held-out rows", extraction["control"])):
        if not part:
            continue
        named = f"{title} ({part['n']:,})"
        ink = BAD if part is extraction and extraction["state"] == "extracts" else VALIDATION
        rows.append(_percent(f"{named}, tuned", part["near"]["tuned"], ink))
        rows.append(_percent(f"{named}, base", part["near"]["base"], BASE))
    return interval_chart(rows, "Rows written nearly word for word (%)")


def canary_chart(canaries: CanaryExposure) -> go.Figure:
    """Exposure by how often a canary was planted, against one that never was."""
    names = {0: "Never planted", 1: "Once", 4: "4 times", 16: "16 times"}
    rows = [
        IntervalRow(
            f"{names[part['insertions']]} ({part['n']})",
            part["exposure"]["value"],
            part["exposure"]["low"],
            part["exposure"]["high"],
            BASE if not part["insertions"] else BAD if part["exposed"] else VALIDATION,
        )
        for part in canaries["groups"]
    ]
    return interval_chart(rows, "Exposure (bits); dashed: never seen", level=canaries["unseen"])


def leak_chart(leaks: RepeatedGains) -> go.Figure:
    """The gain on all held-out rows, on those that training doesn't repeat, and on the repeated ones."""
    gains = (
        ("All held-out rows", leaks["whole"], BASE),
        ("Not in training", leaks["clean"], VALIDATION),
        ("Repeated in training", leaks["repeated"], BAD),
    )
    rows = [
        IntervalRow(f"{title} ({gain['n']:,})", gain["value"], gain["low"], gain["high"], ink)
        for title, gain, ink in gains
        if gain
    ]
    return interval_chart(rows, "Gain (nats a token)")


def _percent(name: str, share: Estimate, ink: str) -> IntervalRow:
    return IntervalRow(name, 100 * share["value"], *wording.ends(share, 100), ink)
