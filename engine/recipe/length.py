"""The step cap_length: rows that are too long are dropped, or their last answer is cut at the end of a word.

Tokens are those of the row as the model sees it, chat template and closing tokens included. Of a preference
row the preferred answer is what counts and what is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.convert.convert import Canonical
from engine.data.convert.turns import RowSkipped
from engine.recipe.recipe_rows import canonicals, changed_batch, spoken
from engine.recipe.working import BatchChange, Working
from store.config.data.recipe import CapLength
from store.contract.errors import ConfigError

_WORD = re.compile(r"\S+")

LengthMeasure = Callable[[Sequence[Canonical]], np.ndarray]


def run(work: Working, step: CapLength, index: int) -> None:
    """Drop or cut the rows above `most`. Raises ConfigError without a model for tokens, ModelError."""
    measure = _words if step.unit == "words" else _tokens(work, step.model)
    unit = step.unit

    def change(batch: pa.RecordBatch) -> BatchChange | None:
        rows = list(canonicals(batch))
        lengths = measure(rows)
        made: dict[int, Canonical] = {}
        dropped: dict[int, str] = {}
        for at in np.flatnonzero(lengths > step.most):
            shorter = _shortened(rows[at], step.most, measure) if step.action == "cut" else None
            if shorter is not None:
                made[int(at)] = shorter
            else:
                why = ", and no shorter answer would fit" if step.action == "cut" else ""
                dropped[int(at)] = f"longer than {step.most:,} {unit}: {lengths[at]:,}{why}"
        return changed_batch(batch, made, dropped)

    work.rewrite(index, change)


def _words(rows: Sequence[Canonical]) -> np.ndarray:
    return np.fromiter((len(row.text.split()) for row in rows), np.int64, len(rows))


def _tokens(work: Working, model: str) -> LengthMeasure:
    """Counts tokens by the model's tokenizer and chat template."""
    if not model:
        raise ConfigError(
            "Tokens are those of a model, and none is named.",
            fix="Name the model, or count words.",
            field="model",
        )
    from engine.models import models
    from engine.models.bundled import ensure
    from engine.rows.render import render  # torch is slow to import, and most recipes don't need it

    if model in models.BUNDLED:
        ensure(model, work.home)
    tokenizer = models.load_tokenizer(models.resolve(model, work.home))

    def measure(rows: Sequence[Canonical]) -> np.ndarray:
        return render(tokenizer, np.arange(len(rows)), [_rendered(row) for row in rows]).lengths

    return measure


def _rendered(row: Canonical) -> Any:
    if row.roles is None:
        return row.text
    return [{"role": role, "content": content} for role, content in zip(row.roles, row.contents, strict=True)]


def _shortened(row: Canonical, most: int, measure: LengthMeasure) -> Canonical | None:
    """The row with as many words of its last answer as fit; None where not one does.

    A search for the number of words, first by doubling, then by halves, so that of a very long answer little
    more than what fits is measured: more words never make fewer tokens, but for rare merges.
    """
    answer = row.text if row.roles is None else row.contents[-1]
    ends = [word.end() for word in _WORD.finditer(answer)]
    low, high, best = 1, len(ends) - 1, None
    doubling = True
    while low <= high:
        middle = min(2 * low, high) if doubling else (low + high) // 2
        try:
            candidate = _with_answer(row, answer[: ends[middle - 1]])
        except RowSkipped:
            return None
        if int(measure([candidate])[0]) <= most:
            best, low = candidate, middle + 1
        else:
            high, doubling = middle - 1, False
    return best


def _with_answer(row: Canonical, answer: str) -> Canonical:
    if row.roles is None:
        return spoken(row, (), answer, None)
    return spoken(row, (*row.contents[:-1], answer), row.text, row.rejected)
