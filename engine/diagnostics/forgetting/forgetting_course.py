"""Forgetting over the steps of a run: when it began, and what went when.

Every checkpoint is held against the base model on the same items, in pairs. That a threshold is passed is
said at a confidence widened for the number of checkpoints (Bonferroni), and only from the step on from
which every later checkpoint is surely above it too: a single bad checkpoint is no beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.forgetting.forgetting import NOT_RATED, THRESHOLDS
from engine.diagnostics.forgetting.probe_scores import Paired
from engine.diagnostics.statistics.flips import holm, mcnemar, paired_change
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

Document = dict[str, Any]


def course(base: pa.Table, checkpoints: Mapping[int, pa.Table]) -> list[Document]:
    """Of each probe {probe, kind, unit, points: [{step, value, low, high, n, broken}], amber_since,
    red_since}, above 0 where something was lost: nats a token, or the share of items by which accuracy fell.

    checkpoints: {step: rows}. The steps are null where a threshold is not surely passed, and for samples,
    whose divergence is not rated. A checkpoint that scored nothing has a point without a value.
    """
    steps = sorted(checkpoints)
    measured = {step: probe_scores.pair(base, checkpoints[step]) for step in steps}
    names = list(dict.fromkeys(name for step in steps for name in measured[step]))
    return [
        _course({s: measured[s][name] for s in steps if name in measured[s]}, name, len(steps))
        for name in names
    ]


def _course(by_step: Mapping[int, Paired], name: str, looks: int) -> Document:
    choice = next((p.is_choice for p in by_step.values() if p.items), name == probe_scores.CHOICES)
    kind = "divergence" if name in NOT_RATED else "choices" if choice else "text"
    points = [{"step": step, **_point(probe)} for step, probe in by_step.items()]
    limits = THRESHOLDS["share" if choice else "nats"]
    sure = {step: _loss(probe, 1 - 0.05 / looks) for step, probe in by_step.items()}
    rated = kind != "divergence"
    return {
        "probe": name,
        "kind": kind,
        "unit": "share of items" if choice else "nats a token",
        "points": points,
        **{f"{colour}_since": _since(sure, limit) if rated else None for colour, limit in limits.items()},
    }


def _point(probe: Paired) -> Document:
    found = _loss(probe, 0.95)
    none = {"value": None, "low": None, "high": None, "n": 0}
    return {**(found.to_dict() if found else none), "broken": probe.broken}


def _loss(probe: Paired, confidence: float) -> Interval | None:
    if not probe.items:
        return None
    before, after = probe.base, probe.tuned
    if not probe.is_choice:
        return ratio_interval(after["loss_sum"] - before["loss_sum"], before["tokens"], confidence=confidence)
    lost, won = _counts(probe, probe.options > 0)
    return paired_change(won, lost, len(probe.items), confidence=confidence)  # the other way round: a loss


def _counts(probe: Paired, chosen: Any) -> tuple[int, int]:
    before, after = probe.base["correct"][chosen], probe.tuned["correct"][chosen]
    return int((before > after).sum()), int((after > before).sum())


def _since(losses: Mapping[int, Interval | None], limit: float) -> int | None:
    """The first step from which every later one is surely above; one that scored nothing is beyond it all."""
    since = None
    for step, loss in reversed(list(losses.items())):
        if loss is not None and (loss.low is None or loss.low <= limit):
            break
        since = step
    return since


def matrix(
    base: pa.Table, checkpoints: Mapping[int, pa.Table], probe: str = probe_scores.CHOICES
) -> Document:
    """Category by checkpoint: {steps, categories, cells, totals}, a cell {category, step, n, change: {value,
    low, high, n}, lost, won, p_holm}. The change is that of accuracy, Holm's p over all cells. totals: the
    same of all items at each step, Holm's p over the steps.

    Raises ValueError for a probe of texts, or one that was not measured.
    """
    cells: list[Document] = []
    totals: list[Document] = []
    for step in sorted(checkpoints):
        paired = probe_scores.pair(base, checkpoints[step]).get(probe)
        if paired is None or not paired.is_choice:
            raise ValueError(f"At step {step} there is no probe {probe} of items with options.")
        if not paired.items:  # a model that scores nothing any more
            continue
        totals.append(_cell("", step, paired, np.ones(len(paired.items), bool)))
        names = sorted(set(paired.category.tolist()))
        cells += [_cell(name, step, paired, paired.of(name)) for name in names]
    for family in (cells, totals):
        for cell, p in zip(family, holm([mcnemar(c["lost"], c["won"]) for c in family]), strict=True):
            cell["p_holm"] = p
    categories = sorted({cell["category"] for cell in cells})
    return {
        "probe": probe,
        "steps": sorted(checkpoints),
        "categories": categories,
        "cells": cells,
        "totals": totals,
    }


def _cell(category: str, step: int, paired: Paired, chosen: Any) -> Document:
    lost, won = _counts(paired, chosen)
    n = int(chosen.sum())
    change = paired_change(lost, won, n).to_dict()
    return {"category": category, "step": step, "n": n, "change": change, "lost": lost, "won": won}
