"""Whether a model can be asked which rows it was trained on: membership inference with a placebo.

Members are a probe of training rows, others are held-out rows. Scores, higher for a member: minus the loss a
token; the loss under the base model minus that loss (calibrated); Min-K%, the mean of the lowest 20% of the
log-probabilities of a row's tokens; of pairs of answers, whose loss is that of the chosen one, their margin.
Rows of two groups may differ before any training, so the same area under the base model is a placebo, and
what counts is the excess over it, in pairs (over one half for the calibrated score, which the base model
has no say in). States, after Holm over the scores:
  remembers  an excess is surely above 0, and reaches MATERIAL;
  none       no excess reaches MATERIAL, by its whole interval;
  unclear    otherwise: so few rows can't tell, and the sentence says what they could have seen.
Pure: arrays in, a JSON document out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics import phrasing
from engine.diagnostics.flips import holm
from engine.diagnostics.roc import Caught, Placements, auc, auc_difference, caught_at, placements
from engine.diagnostics.statistics import Interval

MATERIAL = 0.05  # of excess area
FALSE_ALARMS = 0.01
TITLES = {
    "loss": "the loss",
    "calibrated": "the loss against the base model's",
    "min_k": "Min-K%",
    "margin": "the margin between both answers",
}

Floats = NDArray[np.float64]
Document = dict[str, Any]


class Scores(TypedDict):
    """Of each row the loss a token in nats, and where known the Min-K% value, of a pair of answers the margin
    (0 under the base model); in the same order for both models."""

    loss: ArrayLike
    min_k: NotRequired[ArrayLike]
    margin: NotRequired[ArrayLike]


class Group(TypedDict):
    """The same rows under the two models."""

    base: Scores
    tuned: Scores


def assess(members: Group, others: Group) -> Document:
    """The `membership` part of a verdict.

    Answers state, sentence, members and others (rows), unscored, material, best (the score with the largest
    excess) and scores {name: {auc, placebo (null for the calibrated one), excess: each {value, low, high, n},
    detectable, p_holm, tpr: {value, low, high, n, false_alarms, allowed, finest}}}.
    """
    inside, lost = _scored(members)
    outside, missing = _scored(others)
    counts = {"members": len(inside["loss"]), "others": len(outside["loss"]), "unscored": lost + missing}
    if min(counts["members"], counts["others"]) < 2:
        sentence = (
            "Whether it remembers its training rows can't be told: two rows of each kind are the least."
        )
        none: Document = {"best": None, "scores": {}}
        return {"state": "unclear", "sentence": sentence, **counts, "material": MATERIAL, **none}
    names = [name for name in TITLES if name in inside and name in outside]
    found, excesses = {}, []
    for name in names:
        document, excess = _score(name, inside, outside)
        found[name] = document
        excesses.append(excess)
    for name, p in zip(names, holm([_p(excess) for excess in excesses]), strict=True):
        found[name]["p_holm"] = p
    best = max(names, key=lambda name: found[name]["excess"]["value"])
    state = _state(found)
    sentence = _sentence(state, found, best, counts)
    return {
        "state": state, "sentence": sentence, **counts, "material": MATERIAL, "best": best, "scores": found,
    }  # fmt: skip


def by_checkpoint(
    members: Mapping[int, Group], others: Mapping[int, Group], score: str = "loss"
) -> list[Document]:
    """Of each step in order {step, auc, placebo, excess} of one score."""
    found = []
    for step in sorted(set(members) & set(others)):
        inside, outside = _scored(members[step])[0], _scored(others[step])[0]
        if min(len(inside["loss"]), len(outside["loss"])) < 2 or score not in inside:
            continue
        document, _ = _score(score, inside, outside)
        found.append({"step": step, **{key: document[key] for key in ("auc", "placebo", "excess")}})
    return found


def _scored(group: Group) -> tuple[dict[str, Floats], int]:
    """Scores of rows that both models could score, those of the base model under `base/NAME`; and how many
    rows they could not."""
    tuned, base = group["tuned"], group["base"]
    found = {
        "loss": -np.asarray(tuned["loss"], np.float64),
        "base/loss": -np.asarray(base["loss"], np.float64),
    }
    found["calibrated"] = found["loss"] - found["base/loss"]
    if "min_k" in tuned and "min_k" in base:
        found["min_k"] = np.asarray(tuned["min_k"], np.float64)
        found["base/min_k"] = np.asarray(base["min_k"], np.float64)
    if "margin" in tuned:
        found["margin"] = np.asarray(tuned["margin"], np.float64)
    good = np.all([np.isfinite(values) for values in found.values()], axis=0)
    return {name: values[good] for name, values in found.items()}, int((~good).sum())


def _score(name: str, inside: dict[str, Floats], outside: dict[str, Floats]) -> tuple[Document, Interval]:
    area = auc(inside[name], outside[name])
    placed = placements(inside[name], outside[name])
    placebo = None
    if f"base/{name}" in inside:
        before, after = inside[f"base/{name}"], outside[f"base/{name}"]
        placebo = auc(before, after)
        excess = auc_difference(placed, placements(before, after))
    else:
        excess = _over_half(area, placed)
    caught = caught_at(inside[name], outside[name], FALSE_ALARMS)
    return {
        "auc": area.to_dict(),
        "placebo": placebo and placebo.to_dict(),
        "excess": excess.to_dict(),
        "detectable": excess.detectable,
        "tpr": _tpr(caught),
    }, excess


def _over_half(area: Interval, placed: Placements) -> Interval:
    """The excess over a coin; one half is what every row's score being 0 would give."""
    if area.low is None or area.high is None:
        return Interval(area.value - 0.5, None, None, area.n)
    if not placed.variance and placed.area == 0.5:  # nothing moved
        return Interval(0.0, 0.0, 0.0, area.n, 0.0, 0.0)
    return Interval(area.value - 0.5, area.low - 0.5, area.high - 0.5, area.n, area.se, area.detectable)


def _tpr(caught: Caught) -> Document:
    return {
        **caught.share.to_dict(),
        "false_alarms": FALSE_ALARMS,
        "allowed": caught.allowed,
        "finest": caught.finest,
    }


def _p(excess: Interval) -> float:
    """One-sided doubled: the excess against 0, by its interval where there is no standard error."""
    if excess.low is None or excess.high is None or excess.high == excess.low:
        return 1.0
    error = excess.se or (excess.high - excess.low) / (2 * 1.96)
    return float(min(1.0, 2 * special.ndtr(-abs(excess.value) / error)))


def _state(found: Mapping[str, Document]) -> str:
    for document in found.values():
        excess = document["excess"]
        if document["p_holm"] < 0.05 and excess["value"] > 0 and excess["high"] >= MATERIAL:
            return "remembers"
    if all(document["excess"]["high"] < MATERIAL for document in found.values()):
        return "none"
    return "unclear"


def _sentence(state: str, found: Mapping[str, Document], best: str, counts: Document) -> str:
    shown = found[best]
    rows = f"{counts['members']:,} training and {phrasing.plural(counts['others'], 'held-out row')}"
    area, excess = shown["auc"], shown["excess"]
    places = min(3, phrasing.decimals(area["low"], area["high"]))
    seen = f"by {TITLES[best]} it tells {rows} apart with an AUC of {_shown(area, places)}"
    if shown["placebo"]:
        seen += f", the base model with {_shown(shown['placebo'], places)}"
    if state == "remembers":
        return f"It remembers its training rows: {seen}. {_resolution(shown['tpr'])}"
    if state == "none":
        limit = f"{MATERIAL:g} above the base model's" if shown["placebo"] else f"{0.5 + MATERIAL:g}"
        return f"It does not show which rows it was trained on: {seen}; an AUC {limit} is ruled out."
    over = phrasing.interval(excess["low"], excess["high"])
    least = ""
    if shown["detectable"]:
        smallest = phrasing.setting(phrasing.significant(shown["detectable"]))
        least = f"; an excess under {smallest} can't be seen with {rows}"
    return f"Can't tell whether it remembers its training rows: {seen} (excess {over}){least}."


def _resolution(tpr: Document) -> str:
    share = f"{phrasing.number(100 * tpr['value'], 0)}%"
    bounds = phrasing.interval(100 * tpr["low"], 100 * tpr["high"], 0)
    if tpr["allowed"]:
        return f"At 1% false alarms {share} of the training rows are found ({bounds}%, n {tpr['n']:,})."
    finest = phrasing.number(100 * tpr["finest"], 1)
    return (
        f"Above every held-out row lie {share} of the training rows ({bounds}%, n {tpr['n']:,}); so few"
        f" held-out rows can't resolve false alarms under {finest}%."
    )


def _shown(area: Document, places: int) -> str:
    bounds = phrasing.interval(area["low"], area["high"], places)
    return f"{phrasing.number(area['value'], places)} ({bounds})"
