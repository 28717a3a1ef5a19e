"""Which part of the way from base to tuned model to go: what each α gains on the task and costs elsewhere.

Pure: tables and losses in, a JSON document out. Every α is held against α = 0, row by row and item by item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.diagnostics import phrasing
from engine.diagnostics.forgetting import forgetting, probe_scores
from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import BROKEN_ROW, Interval, allow_for_unseen, ratio_interval
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.interpolation import MeasuredEstimate, RecommendedShare, SharePoint

KEPT = 0.9  # of the gain, that a recommended α keeps


class ShareRows(NamedTuple):
    """A model at one share: summed nats of each held-out row, and the items of the probes."""

    losses: np.ndarray
    items: pa.Table


def point(alpha: float, tokens: np.ndarray, base: ShareRows, now: ShareRows) -> SharePoint:
    """One α against α = 0; tokens: of each held-out row."""
    lost = forgetting.assess(base.items, now.items)
    parts: list[forgetting.Forgotten] = [*lost["texts"], *lost["choices"]]
    return {
        "alpha": alpha,
        "loss": _measured(ratio_interval(now.losses, tokens)),
        "gain": _measured(allow_for_unseen(ratio_interval(base.losses - now.losses, tokens), BROKEN_ROW)),
        "text": lost["texts"][0] if lost["texts"] else None,
        "choices": lost["choices"][0] if lost["choices"] else None,
        "named": [part for part in parts if probe_scores.users(part["probe"])],
        "kl": lost["divergence"][0]["kl"] if lost["divergence"] else None,
        "state": lost["state"],
    }


def _measured(interval: Interval) -> MeasuredEstimate:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "se": interval.se,
        "detectable": interval.detectable,
        "why": interval.why,
    }


@dataclass(frozen=True)
class ShareGain:
    """What `recommend` reads of a point: its gain, and the change of the loss on prose where it was
    measured."""

    alpha: float
    gain: Estimate
    prose: Estimate | None

    @classmethod
    def of(cls, measured: SharePoint) -> ShareGain:
        """Of a point as the interpolate job leaves it."""
        text = measured["text"]
        return cls(measured["alpha"], measured["gain"], text["change"] if text else None)


def recommend(points: Sequence[ShareGain]) -> RecommendedShare:
    """The smallest share of the way that keeps 90% of the best gain; null where none gained surely.

    The best of several α is lucky too, so its interval is as wide as so many need, and so are those that are
    told (Bonferroni over the α that were tried).
    """
    tried = max(1, sum(each.alpha > 0 for each in points))
    best = combined.widened(max(points, key=lambda each: each.gain["value"]).gain, tried)
    if best["low"] is None or best["low"] <= 0:
        return {"recommended": None, "sentence": "No share of the way gains surely on the held-out rows."}
    chosen = min(
        (each for each in points if each.gain["value"] >= KEPT * best["value"]), key=lambda p: p.alpha
    )
    tuned = max(points, key=lambda each: each.alpha)
    kept = 100 * chosen.gain["value"] / best["value"]
    gain = combined.widened(chosen.gain, tried)
    rows = phrasing.plural(gain["n"], "row")
    words = f"α {chosen.alpha:g} keeps {kept:.0f}% of the best gain: {_nats(gain)} on {rows}"
    if chosen.prose and tuned.prose:
        words += f"; the loss on prose changes by {_nats(combined.widened(chosen.prose, tried))}"
        if chosen is not tuned:
            words += f", and at α {tuned.alpha:g} by {_nats(combined.widened(tuned.prose, tried))}"
        words += f", on {phrasing.plural(chosen.prose['n'], 'passage')}"
    if tried > 1:
        words += f". The intervals are as wide as {tried:,} α need"
    return {"recommended": chosen.alpha, "sentence": words + "."}


def _nats(estimate: Estimate) -> str:
    low, high = estimate["low"], estimate["high"]
    if low is None:
        return f"{phrasing.alone(estimate['value'])} nats a token (no interval: {estimate['why']})"
    value = phrasing.number(estimate["value"], phrasing.decimals(low, high))
    if low == high:
        return f"{value} nats a token on each row"
    return f"{value} ({phrasing.interval(low, high)}) nats a token"
