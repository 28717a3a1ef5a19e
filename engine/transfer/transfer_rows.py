"""The held-out rows of a matrix of transfer: chosen once for each data set, whoever is measured on them.

Every model of a column sees the same rows in the same batches. Rows that a run was trained on, validated on
(they chose its best step) or that ask what it was taught are left out of its cells afterwards, with those of
the runs that it went on from and of what it replayed; near duplicates stay in and are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.data.deal import dealing, leakage
from engine.evaluation import evaluated
from engine.models.continued import Earlier
from engine.rows import dataset
from engine.rows.tokens import read_rows
from engine.worker.job import Job
from store.config.train_config import Split
from store.config.transfer_config import TransferConfig
from store.contract.errors import ConfigError, NotFoundError
from store.contract.home import Home
from store.contract.jobdir import read_json

USED = ("train", "validation")


@dataclass(frozen=True)
class Column:
    """A data set of the matrix. row_ids: sorted; of: rows of the part before sampling; reason: why it has
    none."""

    data: dict[str, Any]
    row_ids: np.ndarray
    of: int
    reason: str = ""

    @property
    def fingerprint(self) -> str:
        return str(self.data["dataset"]["fingerprint"])

    @property
    def dataset_id(self) -> str:
        return str(self.data["dataset"]["dataset_id"])

    def document(self, part: str) -> dict[str, Any]:
        """As the result tells it."""
        known = {key: self.data["dataset"][key] for key in ("dataset_id", "name", "kind", "fingerprint")}
        rows = {"part": part, "rows": len(self.row_ids), "of": self.of, "split": self.data["split"]}
        return known | rows | {"reason": self.reason}


@dataclass(frozen=True)
class Seen:
    """Which rows of a column a run must not be judged on, and of how many which is true."""

    rows: np.ndarray
    trained: int = 0
    asked: int = 0
    near: int = 0

    def document(self) -> dict[str, int]:
        """As the result tells it."""
        return {"trained": self.trained, "asked": self.asked, "near": self.near}


def column(job: Job, config: TransferConfig, data: dict[str, Any]) -> Column:
    """The rows of one data set that is asked for, or why there are none."""
    none, fingerprint = np.zeros(0, np.int64), data["dataset"]["fingerprint"]
    try:
        dealt = dealing.deal_rows(job.home, fingerprint, Split.parse(data["split"]))
    except (ConfigError, NotFoundError) as error:
        return Column(data, none, 0, error.message)
    ids = dealt.ids()[config.part]
    if not len(ids):
        return Column(data, none, 0, f"Its split has no {config.part} rows.")
    of = len(ids)
    if config.max_rows is not None and of > config.max_rows:
        ids = np.random.default_rng([config.seed, 13]).choice(ids, config.max_rows, replace=False)
    return Column(data, np.sort(ids).astype(np.int64), of)


def lineage(job: Job, run: Earlier) -> list[Earlier]:
    """The run, and those that it went on from, as far as they are there."""
    found = [run]
    while (name := found[-1].config.init_from) and len(found) < 50:
        try:
            found.append(evaluated.of_run(job, name))
        except NotFoundError:
            break
    return found


def used(runs: Sequence[Earlier]) -> list[tuple[str, np.ndarray]]:
    """(fingerprint, row ids) of all rows that had a part in the training of these runs."""
    found = []
    for run in runs:
        if run.folder.split.exists():
            table = pq.read_table(run.folder.split)
            names = table["split"].to_numpy(zero_copy_only=False)
            found.append((run.fingerprint, table["row_id"].to_numpy()[np.isin(names, USED)]))
        replayed = (read_json(run.folder.config) or {}).get("replay")
        rows = read_rows(run.folder.replay) if replayed else None
        if replayed and rows is not None:
            found.append((replayed["fingerprint"], np.unique(rows.row_ids)))
    return found


def seen(job: Job, of: Sequence[tuple[str, np.ndarray]], to: Column) -> Seen:
    """What of a column the rows `of` give away. Rows of data sets that are gone can't be looked at."""
    texts = np.zeros(len(to.row_ids), bool)
    asked, close = texts.copy(), 0
    for fingerprint, row_ids in of:
        if not len(row_ids) or not _there(job.home, fingerprint):
            continue
        pair = (job.home, fingerprint, row_ids, to.fingerprint, to.row_ids)
        same, ask = leakage.repeated(*pair)
        if fingerprint == to.fingerprint:
            same |= np.isin(to.row_ids, row_ids)
        texts, asked = texts | same, asked | ask
        close = max(close, leakage.near(*pair, job.dir.path))
    asked &= ~texts
    return Seen(texts | asked, int(texts.sum()), int(asked.sum()), close)


def _there(home: Home, fingerprint: str) -> bool:
    try:
        dataset.open_rows(home, fingerprint)
    except NotFoundError:
        return False
    return True
