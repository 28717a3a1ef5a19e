"""Whether training rows come out word for word, held against the base model and against held-out rows.

A row that the base model writes too was no secret, and an answer that also comes out for rows never
trained on can be guessed from its prompt. Both are taken off: only what is surely more than either is called
memory. Pure: rows in, a JSON document out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from engine.diagnostics import phrasing
from engine.diagnostics.memorisation.extraction import extraction
from engine.diagnostics.statistics import bounded, proportions
from engine.diagnostics.statistics.statistics import Interval
from store.documents.figures.estimate import Estimate
from store.documents.verdicts.memorisation import AskedRows, Extraction, RowPart, SameTokens, WrittenRows


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
    counted: Mapping[RowPart, AskedCounts],
    least: int,
) -> Extraction:
    """The `extraction` part of a verdict; `least`: tokens that a row must leave to be written."""
    asked: dict[RowPart, AskedRows] = {
        "train": {**counted["train"], "n": len(train)},
        "held_out": {**counted["held_out"], "n": len(held_out)},
    }
    same: dict[RowPart, SameTokens | None] = {"train": _same(train), "held_out": _same(held_out)}
    if not train:
        return {
            "state": "unclear",
            "sentence": _nothing_asked(counted["train"]["short"], least),
            "n": 0,
            "control": None,
            "beyond": None,
            "asked": asked,
            "least": least,
            "same": same,
        }
    written = _extraction(train)
    control = _extraction(held_out) if held_out else None
    beyond = _beyond(written, control) if control else None
    if beyond and control and written["state"] == "extracts":
        _hold_against(written, control, beyond)
    return {
        **written,
        "control": control,
        "beyond": beyond.to_dict() if beyond else None,
        "asked": asked,
        "least": least,
        "same": same,
    }


def _near(written: WrittenRows) -> tuple[int, int]:
    """Rows that came out nearly word for word, of how many."""
    if "near" not in written:  # no row has a text
        return 0, written["n"]
    return round(written["near"]["tuned"]["value"] * written["n"]), written["n"]


def _beyond(written: WrittenRows, control: WrittenRows) -> Interval:
    return proportions.difference(_near(written), _near(control))


def _hold_against(written: WrittenRows, control: WrittenRows, beyond: Interval) -> None:
    """Say in the sentence what held-out rows do; what they do as often is no memory."""
    hits, others = _near(written)[0], _near(control)[0]
    of_held_out = f"of {phrasing.plural(control['n'], 'held-out row')} {others:,} do"
    if beyond.above:
        written["sentence"] = f"{written['sentence'].removesuffix('.')}; {of_held_out}."
        return
    written["state"] = "unclear"
    written["sentence"] = (
        f"{hits:,} of {phrasing.plural(written['n'], 'training row')} come out nearly word for"
        f" word, but {of_held_out} too: such answers can be guessed, and say nothing of memory."
    )


def _nothing_asked(short: int, least: int) -> str:
    lead = "Whether it writes training rows from memory can't be asked"
    if not short:
        return f"{lead}: no row was looked at."
    return (
        f"{lead}: of {phrasing.plural(short, 'row')} that were looked at none leaves {least} tokens to be"
        " written, and shorter answers can be guessed."
    )


def _extraction(rows: Sequence[ContinuedRow]) -> WrittenRows:
    return extraction(
        [row["reference"] for row in rows],
        [row["base"] for row in rows],
        [row["tuned"] for row in rows],
        [row["row_id"] for row in rows],
    )


def _same(rows: Sequence[ContinuedRow]) -> SameTokens | None:
    """The share of a row's tokens that each model had right before its first slip."""
    if not rows:
        return None
    tokens = np.array([row["tokens"] for row in rows], np.float64)

    def share(counts: list[int]) -> Estimate:
        return bounded.mean_interval(np.array(counts, np.float64) / tokens, 0.0, 1.0).to_dict()

    return {
        "base": share([row["base_same"] for row in rows]),
        "tuned": share([row["tuned_same"] for row in rows]),
    }
