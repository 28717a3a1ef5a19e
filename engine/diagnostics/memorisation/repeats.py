"""What duplicates did: held-out rows that training repeats, and training rows that occur more than once.

The gain with and without the repeated rows says how much of it they made. Of the training rows that were
measured, those that occur more than once are held against the others: how far their loss fell, how well they
are told from held-out rows, and how often they come out word for word. Pure: arrays in, JSON documents out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics import phrasing
from engine.diagnostics.statistics import combined, proportions
from engine.diagnostics.statistics.roc import auc
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

LEAST = 2  # rows of a kind, to compare it
TINY = 1e-5  # nats a token, under which nothing is shown

Document = dict[str, Any]
KINDS = {"exact": "word for word", "near": "nearly", "same_prompt": "by their prompt"}


def leaks(
    base: ArrayLike, tuned: ArrayLike, tokens: ArrayLike, kinds: Mapping[str, NDArray[np.bool_]], near: bool
) -> Document:
    """Held-out rows: summed losses, tokens, and of each kind which of them training repeats; near: whether
    near duplicates were looked at.

    Answers {rows, n, kinds: {kind: rows}, checked_near, whole, clean, repeated, difference: gains in nats a
    token {value, low, high, n} or null, sentence}; difference: of repeated rows minus that of the others.
    """
    saved = np.asarray(base, np.float64) - np.asarray(tuned, np.float64)
    weights = np.asarray(tokens, np.float64)
    good = np.isfinite(saved) & (weights > 0)
    hit = np.any([*kinds.values(), np.zeros(len(saved), bool)], axis=0)
    found: Document = {
        "rows": int(hit.sum()),
        "n": len(saved),
        "kinds": {kind: int(mask.sum()) for kind, mask in kinds.items()},
        "checked_near": near,
    }
    parts = {"whole": good, "clean": good & ~hit, "repeated": good & hit}
    gains = {name: fallen(saved[mask], weights[mask]) for name, mask in parts.items()}
    change = apart(gains["repeated"], gains["clean"])
    found |= {name: gain and gain.to_dict() for name, gain in gains.items()}
    found["difference"] = change and change.to_dict()
    return found | {"sentence": _leak_sentence(found, gains, change)}


def _leak_sentence(found: Document, gains: Mapping[str, Interval | None], change: Interval | None) -> str:
    rows = phrasing.plural(found["n"], "held-out row")
    if not found["n"]:
        return "There is no held-out row that training could repeat."
    if not found["rows"]:
        also = "" if found["checked_near"] else "; near duplicates were not looked for"
        return f"None of {rows} stands in the training rows too{also}."
    how = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in found["kinds"].items() if count)
    said = (
        f"{found['rows']:,} of {rows} {'repeats' if found['rows'] == 1 else 'repeat'} a training row ({how})."
    )
    clean, whole = gains["clean"], gains["whole"]
    if clean is None or whole is None:
        return f"{said} Too few others are left to say what that did."
    said += f" Without them the gain is {_shown(clean)} nats a token, with them {_shown(whole)}."
    if change is None:
        return said
    if _nothing(change):
        return f"{said} On the repeated ones it is the same."
    if change.above:
        return f"{said} On the repeated ones it is {_shown(change)} more: they flatter the gain."
    if change.below:
        return f"{said} On the repeated ones it is {_shown(_reversed(change))} less."
    return f"{said} That they gained more than the others can't be told from noise ({_bounds(change)})."


def training(
    times: ArrayLike,
    base: ArrayLike,
    tuned: ArrayLike,
    tokens: ArrayLike,
    others: ArrayLike,
    written: Mapping[int, bool],
    row_ids: ArrayLike,
    counts: tuple[int, int],
) -> Document:
    """Measured training rows: how often each occurs in training, its summed losses, tokens; others: loss a
    token of held-out rows under the tuned model; written: of the rows that were asked from memory, whether
    they came out; counts: all training rows, and those of them that occur more than once.

    Answers {rows, repeated_rows, repeated, once: measured rows, drop, auc, written: {repeated, once,
    difference}, each null where a kind has too few rows, sentence}.
    """
    often = np.asarray(times) > 1
    saved = np.asarray(base, np.float64) - np.asarray(tuned, np.float64)
    weights, last = np.asarray(tokens, np.float64), np.asarray(tuned, np.float64)
    good = np.isfinite(saved) & (weights > 0)
    found: Document = {
        "rows": counts[0], "repeated_rows": counts[1], "repeated": int((good & often).sum()),
        "once": int((good & ~often).sum()), "drop": None, "auc": None, "written": None,
    }  # fmt: skip
    masks = {"repeated": good & often, "once": good & ~often}
    if min(mask.sum() for mask in masks.values()) < LEAST:
        return found | {"sentence": _few(found)}
    drop = {name: fallen(saved[mask], weights[mask]) for name, mask in masks.items()}
    change = apart(drop["repeated"], drop["once"])
    held = -np.asarray(others, np.float64)
    held = held[np.isfinite(held)]
    if len(held) >= LEAST:
        areas = {name: auc(-last[mask] / weights[mask], held) for name, mask in masks.items()}
        found["auc"] = {name: area.to_dict() for name, area in areas.items()}
    found["drop"] = {name: gain and gain.to_dict() for name, gain in drop.items()}
    found["drop"]["difference"] = change and change.to_dict()
    found["written"] = _written(written, dict(zip(np.asarray(row_ids).tolist(), often.tolist(), strict=True)))
    return found | {"sentence": _training_sentence(found, change)}


def _written(written: Mapping[int, bool], often: Mapping[int, bool]) -> Document | None:
    groups = {
        name: [hit for row, hit in written.items() if often.get(row) is kind]
        for name, kind in (("repeated", True), ("once", False))
    }
    if min(len(group) for group in groups.values()) < LEAST:
        return None
    counted = {name: (sum(group), len(group)) for name, group in groups.items()}
    change = proportions.difference(counted["repeated"], counted["once"]).to_dict()
    return {name: {"rows": hits, "n": n} for name, (hits, n) in counted.items()} | {"difference": change}


def _few(found: Document) -> str:
    rows = phrasing.plural(found["rows"], "training row")
    if not found["rows"]:
        return "There is no training row to look at."
    if not found["repeated_rows"]:
        return f"Each of {rows} occurs once."
    return (
        f"{_more_than_once(found)}; of those that were measured"
        f" {found['repeated']:,} {'does' if found['repeated'] == 1 else 'do'}, too few to say what that did."
    )


def _more_than_once(found: Document) -> str:
    occur = "occurs" if found["repeated_rows"] == 1 else "occur"
    rows = phrasing.plural(found["rows"], "training row")
    return f"{found['repeated_rows']:,} of {rows} {occur} more than once"


def _training_sentence(found: Document, change: Interval | None) -> str:
    said = f"{_more_than_once(found)}."
    measured = f"({found['repeated']:,} against {found['once']:,} measured rows)"
    if change is None:
        return f"{said} They can't be compared with the others {measured}: {_open(found['drop'])}."
    if _nothing(change):
        return f"{said} Their loss fell as much as that of the others {measured}."
    way, fell = ("less", _reversed(change)) if change.below else ("more", change)
    if change.above or change.below:
        by = f"{_shown(fell)} nats a token {way} than that of the others"
        return f"{said} Their loss fell by {by} {measured}."
    return (
        f"{said} That their loss fell more than that of the others can't be told from noise"
        f" ({_bounds(change)} nats a token, {measured[1:]}."
    )


def _open(drop: Mapping[str, Document]) -> str:
    """Why one of the two kinds has no interval."""
    kinds = {"repeated": "those that occur more than once", "once": "the others"}
    reasons = (f"of {words}, {drop[kind]['why']}" for kind, words in kinds.items() if "why" in drop[kind])
    return next(reasons, "there is no interval")


def fallen(saved: ArrayLike, tokens: ArrayLike) -> Interval | None:
    """By how much the loss a token fell; None of fewer than LEAST rows."""
    return ratio_interval(saved, tokens) if np.sum(np.asarray(tokens) > 0) >= LEAST else None


def apart(first: Interval | None, second: Interval | None) -> Interval | None:
    """The first minus the second, of different rows; None where one of them has no interval."""
    if first is None or second is None or first.low is None or second.low is None:
        return None
    return combined.difference(first, second)


def _reversed(change: Interval) -> Interval:
    assert change.low is not None
    assert change.high is not None
    return Interval(-change.value, -change.high, -change.low, change.n)


def _nothing(change: Interval) -> bool:
    """Both limits lie so near 0 that no figure would show it."""
    assert change.low is not None
    assert change.high is not None
    return max(abs(change.low), abs(change.high)) < TINY


def _shown(interval: Interval) -> str:
    if interval.low is None:
        return f"{phrasing.number(interval.value, 2)} [no interval: {interval.why}]"
    if _nothing(interval):
        return "0"
    places = phrasing.decimals(interval.low, interval.high)
    ends = [phrasing.number(end, places) for end in (interval.low, interval.high) if end is not None]
    if ends[0] == ends[1]:
        return f"about {phrasing.number(interval.value, 2)}"
    return f"{phrasing.number(interval.value, places)} ({' to '.join(ends)})"


def _bounds(interval: Interval) -> str:
    return phrasing.interval(interval.low, interval.high)
