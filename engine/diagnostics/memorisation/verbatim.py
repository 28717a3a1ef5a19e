"""Whether training rows come out word for word, held against the base model and against held-out rows.

A row that the base model writes too was no secret, and an answer that also comes out for rows never
trained on can be guessed from its prompt. Both are taken off: only what is surely more than either is called
memory. Pure: rows in, a JSON document out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from engine.diagnostics import phrasing
from engine.diagnostics.memorisation.extraction import extraction
from engine.diagnostics.statistics import bounded, proportions

Document = dict[str, Any]


class ContinuedRow(TypedDict):
    """One row that was asked: what should follow, what both models wrote, and how many of its `tokens` each
    had right before its first slip."""

    row_id: int
    reference: str
    base: str
    tuned: str
    tokens: int
    base_same: int
    tuned_same: int


class AskedCounts(TypedDict):
    """Rows of a part: that there are, whose answer is too short, and that were not asked for want of time."""

    rows: int
    short: int
    passed: int


def assess(
    train: Sequence[ContinuedRow],
    held_out: Sequence[ContinuedRow],
    counted: Mapping[str, AskedCounts],
    least: int,
) -> Document:
    """The `extraction` part of a verdict; `least`: tokens that a row must leave to be written.

    As `extraction.extraction` of the training rows, with `asked` {train, held_out: {rows, short, passed, n}},
    control (the same of the held-out rows, or null), beyond (nearly word for word: share of training rows
    minus share of held-out rows, of the tuned model; null without held-out rows) and same {train, held_out:
    {base, tuned}}: the share of a row that comes before the first slip.
    """
    parts = {"train": train, "held_out": held_out}
    asked = {name: {**counted[name], "n": len(rows)} for name, rows in parts.items()}
    more = {"asked": asked, "least": least, "same": {name: _same(rows) for name, rows in parts.items()}}
    if not train:
        sentence = _nothing_asked(counted["train"]["short"], least)
        return {"state": "unclear", "sentence": sentence, "n": 0, "control": None, "beyond": None, **more}
    found = _extraction(train)
    control = _extraction(held_out) if held_out else None
    beyond = None
    if control:
        counts = [(round(one["near"]["tuned"]["value"] * one["n"]), one["n"]) for one in (found, control)]
        beyond = proportions.difference(*counts)
    found |= {"control": control, "beyond": beyond and beyond.to_dict(), **more}
    if beyond and control and found["state"] == "extracts":
        seen = f"of {phrasing.plural(control['n'], 'held-out row')} {counts[1][0]:,} do"
        if beyond.above:
            found["sentence"] = f"{found['sentence'].removesuffix('.')}; {seen}."
        else:
            found["state"] = "unclear"
            found["sentence"] = (
                f"{counts[0][0]:,} of {phrasing.plural(found['n'], 'training row')} come out nearly word for"
                f" word, but {seen} too: such answers can be guessed, and say nothing of memory."
            )
    return found


def _nothing_asked(short: int, least: int) -> str:
    lead = "Whether it writes training rows from memory can't be asked"
    if not short:
        return f"{lead}: no row was looked at."
    return (
        f"{lead}: of {phrasing.plural(short, 'row')} that were looked at none leaves {least} tokens to be"
        " written, and shorter answers can be guessed."
    )


def _extraction(rows: Sequence[ContinuedRow]) -> Document:
    return extraction(
        [row["reference"] for row in rows],
        [row["base"] for row in rows],
        [row["tuned"] for row in rows],
        [row["row_id"] for row in rows],
    )


def _same(rows: Sequence[ContinuedRow]) -> Document | None:
    """The share of a row's tokens that each model had right before its first slip."""
    if not rows:
        return None
    tokens = np.array([row["tokens"] for row in rows], np.float64)
    same = {"base": [row["base_same"] for row in rows], "tuned": [row["tuned_same"] for row in rows]}
    return {
        model: bounded.mean_interval(np.array(counts, np.float64) / tokens, 0.0, 1.0).to_dict()
        for model, counts in same.items()
    }
