"""Which rows model and export both answer: drawn from those no training saw, and the longest of these."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from engine.data.deal import split
from engine.evaluation import evaluate_draw
from engine.rows import dataset
from engine.shipping.parity.looking import NamedLook
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.config.judging.evaluate_config import EvaluateConfig
from store.config.shipping.model_export_config import ModelExport
from store.contract.errors import DataError

LONGEST = 12  # of the rows that were not drawn, so many of the longest, at most
DRAWN_A_LONG = 16  # and one for so many drawn rows: they are dear, and few rows are asked for to be quick
EXACT_ROWS = 20  # where every byte is the model's, or where the files have shown that it isn't


class ParityRows(NamedTuple):
    """Row ids, sorted; notices: what a reader should know of them."""

    drawn: np.ndarray
    longest: np.ndarray
    notices: list[str]


def choose(job: WorkerJob, subject: ExportSubject, config: ModelExport, seen: NamedLook) -> ParityRows:
    """The rows; few where the files have told. Raises DataError where there are none."""
    most = min(config.max_rows, EXACT_ROWS) if seen.exact or seen.causes else config.max_rows
    ids, notices = _held_out(job, subject, config)
    fingerprint = job.order["dataset"]["fingerprint"]
    table = dataset.load(job.home, fingerprint, columns=["digest", "text"], row_ids=ids)
    digests = np.zeros(int(ids.max()) + 1, table["digest"].to_numpy().dtype)
    digests[ids] = table["digest"].to_numpy()
    drawn = np.sort(split.first_by_hash(digests, ids, min(len(ids), most), 0))
    lengths = pc.fill_null(pc.utf8_length(table["text"]), 0).to_numpy()
    others = ~np.isin(ids, drawn)
    count = min(LONGEST, -(-len(drawn) // DRAWN_A_LONG))
    order = np.argsort(-lengths[others], kind="stable")[:count]
    return ParityRows(drawn, np.sort(ids[others][order]), notices)


def _held_out(job: WorkerJob, subject: ExportSubject, config: ModelExport) -> tuple[np.ndarray, list[str]]:
    """Those of the part that is asked for, else of validation, which is said."""
    trained_on, run_id = job.order["dataset"], job.order["export"]["run_id"]
    named = {"run": run_id} if run_id else {"model": str(subject.folder)}
    for part in dict.fromkeys([config.part, "validation"]):
        asked = {**named, "dataset": trained_on["dataset_id"], "part": part, "max_rows": None}
        try:
            ids = evaluate_draw.draw(job, EvaluateConfig.parse(asked)).row_ids
        except DataError:
            continue
        other = part != config.part
        return ids, [f"There are no {config.part} rows: those of validation were asked."] if other else []
    raise DataError(
        f"{trained_on['name']} has neither {config.part} nor validation rows to compare answers on.",
        fix="Name another data set, or set part to all.",
        field="dataset",
    )
