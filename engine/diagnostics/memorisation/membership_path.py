"""Membership while a run trains: the AUC by the loss, at every step at which training and validation rows
were both measured, with the base model's as a placebo; that it changed is told by the loss without what the
base model's explains (`membership.beyond_base`).

It rises with the gap: who loses less on the rows that it trains on can be asked which they were. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.diagnostics import phrasing
from engine.diagnostics.memorisation import membership

if TYPE_CHECKING:
    from engine.diagnostics.course.validation import Validation

Document = dict[str, Any]


def path(train_probe: Sequence[Validation], validations: Sequence[Validation]) -> list[Document]:
    """Of each step that both have, in order, {step, auc, placebo, excess: each {value, low, high, n}}; empty
    where step 0, the base model, is missing in either."""
    inside, outside = ({int(v["step"]): _losses(v) for v in part} for part in (train_probe, validations))
    if 0 not in inside or 0 not in outside:
        return []
    members, others = (
        {step: _group(losses[0], losses[step]) for step in losses} for losses in (inside, outside)
    )
    return membership.by_checkpoint(members, others)


def sentence(points: Sequence[Document]) -> str:
    """From the base model to the last step, as words; empty where there are fewer than two steps."""
    trained = [point for point in points if point["step"] > 0]
    if not trained:
        return ""
    last = trained[-1]
    places = min(3, phrasing.decimals(last["auc"]["low"], last["auc"]["high"]))
    shown = [
        f"{phrasing.number(area['value'], places)} ({phrasing.interval(area['low'], area['high'], places)})"
        for area in (last["placebo"], last["auc"])
    ]
    low, high = last["excess"]["low"], last["excess"]["high"]
    moved = last["auc"]["value"] - last["placebo"]["value"]
    way = "rose" if low is not None and low > 0 < moved else ""
    way = "fell" if high is not None and high < 0 > moved else way
    if not way:
        return (
            f"By their loss, training rows are told from validation rows with an AUC of {shown[1]} at step"
            f" {last['step']:,}, which is not surely more than the {shown[0]} under the base model."
        )
    return (
        f"By their loss, the AUC that tells training rows from validation rows {way} from {shown[0]} under"
        f" the base model to {shown[1]} at step {last['step']:,}."
    )


def _losses(validation: Validation) -> np.ndarray:
    tokens = np.asarray(validation["tokens"], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a row whose label training doesn't know
        return np.asarray(validation["loss_sums"], np.float64) / tokens


def _group(base: np.ndarray, tuned: np.ndarray) -> membership.Group:
    return {"base": {"loss": base}, "tuned": {"loss": tuned}}
