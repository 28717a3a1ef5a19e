"""Forgetting over the steps of a run: when it began, and what went when.

Every checkpoint is held against the base model on the same items, in pairs. That a threshold is passed is
said at a confidence widened for the number of checkpoints (Bonferroni), and only from the step on from
which every later checkpoint is surely above it too: a single bad checkpoint is no beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.forgetting.forgetting import NOT_RATED, THRESHOLDS
from engine.diagnostics.forgetting.probe_scores import Paired
from engine.diagnostics.statistics.flips import holm, mcnemar, paired_change
from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from store.documents.verdicts.forgetting import CategoryCell, CategoryMatrix, CoursePoint, ForgettingCourse


def course(base: pa.Table, checkpoints: Mapping[int, pa.Table]) -> list[ForgettingCourse]:
    """Of each probe, above 0 where something was lost: nats a token, or the share of items by which accuracy
    fell. checkpoints: {step: rows}. Samples, whose divergence is not rated, have no threshold."""
    steps = sorted(checkpoints)
    measured = {step: probe_scores.pair(base, checkpoints[step]) for step in steps}
    names = list(dict.fromkeys(name for step in steps for name in measured[step]))
    return [
        _course({s: measured[s][name] for s in steps if name in measured[s]}, name, len(steps))
        for name in names
    ]


def _course(by_step: Mapping[int, Paired], name: str, looks: int) -> ForgettingCourse:
    choice = next((p.is_choice for p in by_step.values() if p.items), name == probe_scores.CHOICES)
    kind: Literal["text", "choices", "divergence"] = "choices" if choice else "text"
    if name in NOT_RATED:
        kind = "divergence"
    limits = THRESHOLDS["share" if choice else "nats"]
    sure = {step: _loss(probe, 1 - 0.05 / looks) for step, probe in by_step.items()}
    rated = kind != "divergence"
    return {
        "probe": name,
        "kind": kind,
        "unit": "share of items" if choice else "nats a token",
        "points": [_point(step, probe) for step, probe in by_step.items()],
        "amber_since": _since(sure, limits["amber"]) if rated else None,
        "red_since": _since(sure, limits["red"]) if rated else None,
    }


def _point(step: int, probe: Paired) -> CoursePoint:
    loss = _loss(probe, 0.95)
    if loss is None:
        return {"step": step, "value": None, "low": None, "high": None, "n": 0, "broken": probe.broken}
    return {"step": step, **loss.to_dict(), "broken": probe.broken}


def _loss(probe: Paired, confidence: float) -> Interval | None:
    if not probe.items:
        return None
    before, after = probe.base, probe.tuned
    if not probe.is_choice:
        return ratio_interval(after["loss_sum"] - before["loss_sum"], before["tokens"], confidence=confidence)
    lost, won = _counts(probe, probe.options > 0)
    return paired_change(won, lost, len(probe.items), confidence=confidence)  # the other way round: a loss


def _counts(probe: Paired, chosen: NDArray[np.bool_]) -> tuple[int, int]:
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
) -> CategoryMatrix:
    """Category by checkpoint. totals: the same of all items at each step.

    Raises ValueError for a probe of texts, or one that was not measured.
    """
    cells: list[CategoryCell] = []
    totals: list[CategoryCell] = []
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
        for cell, p in zip(family, holm([c["p_holm"] for c in family]), strict=True):
            cell["p_holm"] = p
    categories = sorted({cell["category"] for cell in cells})
    return {
        "probe": probe,
        "steps": sorted(checkpoints),
        "categories": categories,
        "cells": cells,
        "totals": totals,
    }


def _cell(category: str, step: int, paired: Paired, chosen: NDArray[np.bool_]) -> CategoryCell:
    lost, won = _counts(paired, chosen)
    n = int(chosen.sum())
    change = paired_change(lost, won, n).to_dict()
    return {
        "category": category,
        "step": step,
        "n": n,
        "change": change,
        "lost": lost,
        "won": won,
        "p_holm": mcnemar(lost, won),
    }
