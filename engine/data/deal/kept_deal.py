"""The deal of a run that has ended, for work that must not train on what judged it.

What the run wrote down counts, as more is known of duplicates by now and a deal made anew may be another.
Rows that it did not take (`max_train_rows`, `max_eval_rows`) are held out where the deal holds them out, and
else in no part: it never trained on them.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from engine.data.deal.dealing import deal_rows
from engine.data.deal.split import PARTS
from engine.rows.dataset import open_rows
from store.config.training.train_config import Split
from store.contract.errors import DataError
from store.contract.home import Home
from store.contract.jobdir import JobDir, read_json


def parts_of_run(home: Home, fingerprint: str, run_id: str) -> np.ndarray:
    """Of each row of the run's data set the name of its part, or None: object, by row id. Raises DataError
    where the run is gone, or was of other rows."""
    folder = JobDir(home.jobs / run_id)
    order = read_json(folder.config)
    if order is None or not folder.split.exists():
        raise DataError(
            f"How the run {run_id} dealt its rows is gone, and with it which of them have judged it.",
            fix="Name another run.",
            field="run",
        )
    table = pq.read_table(folder.split, columns=["row_id", "split"])
    count = open_rows(home, fingerprint).metadata.num_rows
    row_ids = table["row_id"].to_numpy()
    if order["dataset"]["fingerprint"] != fingerprint or (len(row_ids) and row_ids.max() >= count):
        raise DataError(
            f"The run {run_id} was of other rows than these.",
            fix="Name its own data set.",
            field="run",
        )
    parts = np.full(count, None, object)
    parts[row_ids] = table["split"].to_numpy(zero_copy_only=False)
    if any(part is None for part in parts):
        codes = deal_rows(home, fingerprint, Split.parse(order["split"])).codes
        held = (codes > 0) & np.array([part is None for part in parts])
        parts[held] = np.array(PARTS, object)[codes[held]]
    return parts


def parts_by_split(home: Home, fingerprint: str, split: Split) -> np.ndarray:
    """Of each row the name of its part as the split deals it now; as `parts_of_run`."""
    parts: np.ndarray = np.array(PARTS, object)[deal_rows(home, fingerprint, split).codes]
    return parts
