"""Rows of probes, paired by item between two models.

A probe is a named set of items measured on a model at a step; one row an item, whatever the kind: `probe`,
`item`, `category`, `loss_sum` (nats), `tokens`, `correct`, `options` (0 for a text) and `chosen`. Both models
saw the same items, so that everything is paired; items that one of them lacks, or that have no number, are
left out and counted, never passed over in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CHOICES, PROSE, OWN_SAMPLES, TASK_SAMPLES = "choices", "prose", "own_samples", "task_samples"
REQUESTS = "requests"  # of which `correct` says whether it was refused
DATA, TASK = "data/", "task/"  # what the user named: data sets, and tasks of lm-evaluation-harness
OPEN = 2**31 - 1  # options of an item whose answer is written freely: none is right by luck
NAMES = {CHOICES: "questions", PROSE: "plain prose"}
FIGURES = ("loss_sum", "tokens", "correct")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """One probe of both models; arrays have one entry an item.

    base and tuned: {loss_sum, tokens, correct}. unpaired: items that one model alone has. unscored: items
    whose loss is not a number, texts of no token and questions of one option, which are left out; broken:
    those of them that the base model could score.
    """

    name: str
    items: list[str]
    category: NDArray[np.str_]
    options: NDArray[np.int64]
    base: dict[str, Floats]
    tuned: dict[str, Floats]
    unpaired: int
    unscored: int
    broken: int

    @property
    def is_choice(self) -> bool:
        """Items with options to choose from, rather than texts."""
        return bool(self.options.any()) if len(self.options) else self.name == CHOICES

    def of(self, category: str) -> NDArray[np.bool_]:
        """Which items are of that category."""
        chosen: NDArray[np.bool_] = self.category == category
        return chosen


def users(probe: str) -> bool:
    """Whether it is one that the user named, rather than a part of the suite."""
    return probe.startswith((DATA, TASK))


def named(probe: str) -> str:
    """What a sentence calls it."""
    return NAMES.get(probe, probe.removeprefix(DATA).removeprefix(TASK))


def unit(probe: str) -> str:
    """What its items are called."""
    if probe.startswith(TASK):
        return "item"
    if probe.startswith(DATA):
        return "row"
    return "question" if probe == CHOICES else "passage"


def pair(base: pa.Table, tuned: pa.Table) -> dict[str, Paired]:
    """Every probe that both tables have, by name, in the order of the base model's rows."""
    names = list(dict.fromkeys(base["probe"].to_pylist()))
    there = set(tuned["probe"].to_pylist())
    return {name: _pair(name, _rows(base, name), _rows(tuned, name)) for name in names if name in there}


def _rows(table: pa.Table, probe: str) -> dict[str, list[Any]]:
    chosen = np.asarray(table["probe"].to_pylist(), dtype=str) == probe
    return {name: table[name].filter(pa.array(chosen)).to_pylist() for name in table.column_names}


def _pair(name: str, base: dict[str, list[Any]], tuned: dict[str, list[Any]]) -> Paired:
    first = {item: place for place, item in enumerate(base["item"])}
    second = {item: place for place, item in enumerate(tuned["item"])}
    items = [item for item in first if item in second]
    here, there = [first[i] for i in items], [second[i] for i in items]
    figures = [
        {key: np.asarray([rows[key][p] for p in places], np.float64) for key in FIGURES}
        for rows, places in ((base, here), (tuned, there))
    ]
    if not np.array_equal(figures[0]["tokens"], figures[1]["tokens"]):
        raise ValueError(f"Items of the probe {name} have other tokens under the two models.")
    options = np.asarray([base["options"][p] or 0 for p in here], np.int64)
    asked = options >= 2 if options.any() else options == 0
    scored = asked & np.isfinite(figures[0]["loss_sum"]) & (figures[0]["tokens"] > 0)
    good = scored & np.isfinite(figures[1]["loss_sum"])
    return Paired(
        name,
        [item for item, ok in zip(items, good, strict=True) if ok],
        np.asarray([base["category"][p] or "" for p in here], dtype=str)[good],
        options[good],
        {key: values[good] for key, values in figures[0].items()},
        {key: values[good] for key, values in figures[1].items()},
        len(set(first) ^ set(second)),
        int((~good).sum()),
        int((scored & ~good).sum()),
    )
