"""How much better a model is on rows it was trained on than on rows it never saw.

gap = validation loss - training loss, a token, of a fixed probe of training rows and of the validation rows,
both measured in evaluation mode. They are two independent samples, so their errors add up (Welch). They may
differ before any training: `growth` is the gap minus that of step 0, in pairs over the same rows, which
takes that off and is surer. The relative gap, gap / validation loss, is amber from .1 and red from .3 where
its whole interval lies above. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from engine.diagnostics import phrasing
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.statistics.statistics import Interval, limits, ratio_interval
from store.documents.verdicts.overfitting import GapLevel, GapPoint

RELATIVE = {"amber": 0.1, "red": 0.3}


def gaps(train: Sequence[Validation], validation: Sequence[Validation]) -> list[GapPoint]:
    """The gap at each step that both were measured at, green where it is surely under amber. Steps with a
    loss that is not a number are left out. Raises ValueError where the rows of one kind are not the same at
    every step."""
    seen = {int(v["step"]): v for v in validation if _finite(v)}
    pairs = [(t, seen[int(t["step"])]) for t in train if int(t["step"]) in seen and _finite(t)]
    points: list[GapPoint] = []
    for trained, held_out in pairs:
        inside, outside = _mean(trained), _mean(held_out)
        relative = _relative(inside, outside)
        growth = None
        if points:
            growth = _minus(_change(pairs[0][1], held_out), _change(pairs[0][0], trained)).to_dict()
        points.append(
            {
                "step": int(trained["step"]),
                "train": inside.to_dict(),
                "validation": outside.to_dict(),
                "gap": _minus(outside, inside).to_dict(),
                "relative": relative.to_dict(),
                "growth": growth,
                "level": _level(relative),
            }
        )
    return points


def sentence(points: Sequence[GapPoint], unit: str = "nats a token") -> str:
    """The last gap in words; empty where there is none."""
    if not points:
        return ""
    last = points[-1]
    gap, n, m = last["gap"], last["train"]["n"], last["validation"]["n"]
    rows = f"{phrasing.plural(n, 'training row')} and {phrasing.plural(m, 'validation row')}"
    if gap["low"] is None or gap["high"] is None:
        why = last["train"].get("why") or last["validation"].get("why")
        return f"The gap between {rows} has no interval{f': {why}' if why else ''}."
    if gap["low"] == gap["high"] == 0:
        return f"Loss on {rows} is the same."
    places = phrasing.decimals(gap["low"], gap["high"])
    bounds = phrasing.interval(gap["low"], gap["high"], places)
    amount = f"{phrasing.number(gap['value'], places)} {unit} ({bounds}; {rows})"
    if gap["low"] <= 0 <= gap["high"]:
        return f"A gap between training and validation loss can't be told from noise: {amount}."
    share = f"{phrasing.number(100 * last['relative']['value'], 0)}% of the validation loss"
    way = "higher" if gap["value"] > 0 else "lower"
    sentence = f"Validation loss is {way} than loss on training rows by {amount}, {share}"
    growth = limits(last["growth"]) if last["growth"] else None
    if growth and growth[0] <= 0 <= growth[1]:
        return f"{sentence}; it did not surely grow in training."
    return f"{sentence}."


def _finite(validation: Validation) -> bool:
    return bool(np.isfinite(np.asarray(validation["loss_sums"], np.float64)).all())


def _mean(validation: Validation) -> Interval:
    return ratio_interval(validation["loss_sums"], validation["tokens"])


def _change(first: Validation, later: Validation) -> Interval:
    if not np.array_equal(np.asarray(first["row_ids"]), np.asarray(later["row_ids"])):
        raise ValueError(f"Losses at steps {first['step']} and {later['step']} are of different rows.")
    rise = np.asarray(later["loss_sums"], np.float64) - np.asarray(first["loss_sums"], np.float64)
    return ratio_interval(rise, first["tokens"])


def _minus(first: Interval, second: Interval) -> Interval:
    """Of two independent estimates; degrees of freedom by Welch and Satterthwaite."""
    value, n = first.value - second.value, first.n + second.n
    if first.se is None or second.se is None:
        return Interval(value, None, None, n)
    parts = [(i.se or 0.0) ** 2 for i in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(value, value, value, n, 0.0, 0.0)
    degrees = sum(parts) ** 2 / sum(p**2 / (i.n - 1) for p, i in zip(parts, (first, second), strict=True))
    half = float(special.stdtrit(degrees, 0.975)) * error
    return Interval(value, value - half, value + half, n, error)


def _relative(inside: Interval, outside: Interval) -> Interval:
    """1 - training loss / validation loss, by the delta method."""
    if outside.value <= 0:
        return Interval(0.0, None, None, inside.n + outside.n)
    ratio = inside.value / outside.value
    if inside.se is None or outside.se is None:
        return Interval(1 - ratio, None, None, inside.n + outside.n)
    error = math.hypot(inside.se, ratio * outside.se) / outside.value
    half = float(special.stdtrit(max(1, min(inside.n, outside.n) - 1), 0.975)) * error
    return Interval(1 - ratio, 1 - ratio - half, 1 - ratio + half, inside.n + outside.n, error)


def _level(relative: Interval) -> GapLevel:
    if relative.low is None or relative.high is None:
        return "unclear"
    if relative.low > RELATIVE["amber"]:
        return "red" if relative.low > RELATIVE["red"] else "amber"
    return "green" if relative.high < RELATIVE["amber"] else "unclear"
