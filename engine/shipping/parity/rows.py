"""Which rows model and export both answer: drawn from those no training saw, and the longest of these."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from engine.data.deal import split
from engine.evaluation import evaluate_draw
from engine.rows import dataset
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.config.judging.evaluate_config import EvaluateConfig
from store.config.shipping.model_export_config import ModelExport
from store.contract.errors import DataError

LONGEST = 12  # of the rows that were not drawn, so many of the longest


class ParityRows(NamedTuple):
    """Row ids, sorted; notices: what a reader should know of them."""

    drawn: np.ndarray
    longest: np.ndarray
    notices: list[str]


def choose(job: WorkerJob, subject: ExportSubject, config: ModelExport) -> ParityRows:
    """The rows. Raises DataError where there are none."""
    ids, notices = _held_out(job, subject, config)
    fingerprint = job.order["dataset"]["fingerprint"]
    table = dataset.load(job.home, fingerprint, columns=["digest", "text"], row_ids=ids)
    digests = np.zeros(int(ids.max()) + 1, table["digest"].to_numpy().dtype)
    digests[ids] = table["digest"].to_numpy()
    drawn = np.sort(split.first_by_hash(digests, ids, min(len(ids), config.max_rows), 0))
    lengths = pc.fill_null(pc.utf8_length(table["text"]), 0).to_numpy()
    others = ~np.isin(ids, drawn)
    order = np.argsort(-lengths[others], kind="stable")[:LONGEST]
    return ParityRows(drawn, np.sort(ids[others][order]), notices)


def _held_out(job: WorkerJob, subject: ExportSubject, config: ModelExport) -> tuple[np.ndarray, list[str]]:
    """Those of the part that is asked for, else of validation, which is said."""
    data, run_id = job.order["dataset"], job.order["export"]["run_id"]
    named = {"run": run_id} if run_id else {"model": str(subject.folder)}
    for part in dict.fromkeys([config.part, "validation"]):
        asked = {**named, "dataset": data["dataset_id"], "part": part, "max_rows": None}
        try:
            ids = evaluate_draw.draw(job, EvaluateConfig.parse(asked)).row_ids
        except DataError:
            continue
        other = part != config.part
        return ids, [f"There are no {config.part} rows: those of validation were asked."] if other else []
    raise DataError(
        f"{data['name']} has neither {config.part} nor validation rows to compare answers on.",
        fix="Name another data set, or set part to all.",
        field="dataset",
    )
