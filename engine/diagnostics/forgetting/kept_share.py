"""Which part of the way from base to tuned model to go: what each α gains on the task and costs elsewhere.

Pure: tables and losses in, a JSON document out. Every α is held against α = 0, row by row and item by item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from engine.diagnostics import phrasing
from engine.diagnostics.forgetting import forgetting, probe_scores
from engine.diagnostics.statistics.statistics import ratio_interval

KEPT = 0.9  # of the gain, that a recommended α keeps
Document = dict[str, Any]


def point(
    alpha: float, tokens: np.ndarray, base: np.ndarray, losses: np.ndarray, before: pa.Table, now: pa.Table
) -> Document:
    """One α: {alpha, loss, gain (nats a token below α = 0, on the held-out rows, its
    interval that of the verdict), text and choices (as in a
    verdict's `forgetting`), kl (on the base model's own texts; null where it has none), named (the same of
    what the user named), state}. base, losses: summed nats of each held-out row; before, now: items of the
    probes."""
    found = forgetting.assess(before, now)
    return {
        "alpha": alpha,
        "loss": asdict(ratio_interval(losses, tokens)),
        "gain": asdict(ratio_interval(base - losses, tokens)),
        "text": found["texts"][0] if found["texts"] else None,
        "choices": found["choices"][0] if found["choices"] else None,
        "named": [part for part in [*found["texts"], *found["choices"]] if probe_scores.users(part["probe"])],
        "kl": found["divergence"][0]["kl"] if found["divergence"] else None,
        "state": found["state"],
    }


def recommend(points: Sequence[Document]) -> Document:
    """{recommended, sentence}: the smallest share of the way that keeps 90% of the best gain; null where none
    gained surely."""
    whole = max(points, key=lambda each: each["gain"]["value"])
    best = whole["gain"]
    if best["low"] is None or best["low"] <= 0:
        return {"recommended": None, "sentence": "No share of the way gains surely on the held-out rows."}
    chosen = min(
        (each for each in points if each["gain"]["value"] >= KEPT * best["value"]), key=lambda p: p["alpha"]
    )
    tuned = max(points, key=lambda each: each["alpha"])
    gain, text = chosen["gain"], chosen["text"]
    kept = 100 * gain["value"] / best["value"]
    rows = phrasing.plural(gain["n"], "row")
    words = f"α {chosen['alpha']:g} keeps {kept:.0f}% of the best gain: {_nats(gain)} on {rows}"
    if text and tuned["text"]:
        now, then = text["change"], tuned["text"]["change"]
        words += f"; the loss on prose changes by {_nats(now)}"
        if chosen is not tuned:
            words += f", and at α {tuned['alpha']:g} by {_nats(then)}"
        words += f", on {phrasing.plural(now['n'], 'passage')}"
    return {"recommended": chosen["alpha"], "sentence": words + "."}


def _nats(interval: Document) -> str:
    if interval["low"] is None:
        return f"{phrasing.alone(interval['value'])} nats a token (no interval: {interval['why']})"
    low, high = interval["low"], interval["high"]
    value = phrasing.number(interval["value"], phrasing.decimals(low, high))
    if low == high:
        return f"{value} nats a token on each row"
    return f"{value} ({phrasing.interval(low, high)}) nats a token"
