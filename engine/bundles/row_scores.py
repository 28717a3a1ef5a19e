"""The losses of the rows that judged a run, and what they changed by when it was run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.bundles import archive
from engine.diagnostics.statistics.statistics import Interval
from engine.diagnostics.verdicts import run_figures
from engine.diagnostics.verdicts.run_figures import JudgedRows
from store.contract.errors import DataError

COLUMNS = ("row_id", "tokens", "base_loss", "tuned_loss", "base_correct", "tuned_correct")


def read(path: Path) -> JudgedRows:
    """Sorted by row id. Raises DataError for a file that is none of these."""
    try:
        table = archive.open_parquet(path).read(columns=list(COLUMNS)).sort_by("row_id")
        numbers = [table[name].to_numpy().astype(np.float64) for name in COLUMNS[1:]]
        return JudgedRows(table["row_id"].to_numpy().astype(np.int64), *numbers)
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path.name} has no losses of rows.", fix="Ask for the bundle again.") from error


def pairs(first: JudgedRows, second: JudgedRows, values: dict[str, float]) -> dict[str, Interval]:
    """Second minus first of each figure over the same rows, weighted by their tokens. values: the figures of
    the first run; one that its rows don't give is left out, and all are where other rows judged."""
    if not np.array_equal(first.row_ids, second.row_ids) or not np.array_equal(first.tokens, second.tokens):
        return {}
    changes: dict[str, Interval] = {}
    before, now = first.sums(), second.sums()
    for key in before:
        own = run_figures.interval(first, key)
        change = run_figures.interval(first, key, now[key] - before[key])
        if own and change and key in values and run_figures.same_value(own.value, values[key]):
            changes[key] = change
    return changes
