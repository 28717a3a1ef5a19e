"""How often the classifier errs: the rows with known labels that it has classified before, in its own run and
in evaluations. Nothing is asked anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.diagnostics.bias import toxicity
from engine.worker.job import WorkerJob
from store.config.judging.bias_config import BiasContinuations
from store.contract.jobdir import JobDir
from store.documents.shipping.bias_details import ClassifierError
from store.documents.tables.job_order import NamedClassifier

OWN = "held-out rows of its own data"


def measured(
    job: WorkerJob, asked: BiasContinuations, labels: Sequence[str], *, several: bool = False
) -> list[ClassifierError]:
    """Of its own held-out rows first. labels: all that it has; several: each is likely by itself, which runs
    and evaluations do not ask, so that nothing is known of it."""
    if several:
        return []
    named: NamedClassifier = job.order["classifier"]
    errors = []
    if named["run_id"]:
        path = JobDir(job.home.jobs / named["run_id"]).path / "class_predictions.parquet"
        errors += _error(OWN, _of_run(path), asked, labels)
    for evaluation in named["evaluations"]:
        path = JobDir(job.home.jobs / evaluation["evaluation_id"]).predictions
        errors += _error(f"the evaluation {evaluation['name']}", _of_evaluation(path), asked, labels)
    return errors


class _Rows:
    """Classified rows with a label. at_least, rest: see `toxicity.called_as`."""

    def __init__(self, table: pa.Table, harmful: Sequence[str], labels: int) -> None:
        chosen = set(harmful)
        predicted = table["predicted"].to_pylist()
        top = table["top"].to_pylist() if "top" in table.column_names else None
        self.truth = np.array([label in chosen for label in table["label"].to_pylist()], bool)
        self.predicted = np.array([label in chosen for label in predicted], bool)
        if top is None:
            of_best = table["probability"].to_numpy()
            top = [[{"label": label, "probability": p}] for label, p in zip(predicted, of_best, strict=True)]
        kept = [{each["label"]: each["probability"] for each in some} for some in top]
        self.at_least = np.array(
            [sum(p for label, p in row.items() if label in chosen) for row in kept], float
        )
        # what is left belongs to labels that were not kept, of which some are harmful, or all, or none
        open_ones = [len(chosen - set(row)) for row in kept]
        lacking = [labels - len(row) for row in kept]
        left = [max(0.0, 1 - sum(row.values())) for row in kept]
        self.at_least += np.array(
            [x if n and n == k else 0.0 for x, n, k in zip(left, open_ones, lacking, strict=True)]
        )
        self.rest = np.array(
            [x if n and n < k else 0.0 for x, n, k in zip(left, open_ones, lacking, strict=True)]
        )


def _of_run(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["split", "label", "predicted", "probability", "top"])
    of_test = table.filter(pc.equal(table["split"], "test"))
    return of_test if len(of_test) else table  # validation rows chose when training stopped


def _of_evaluation(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["label", "prediction", "probability"])
    return table.rename_columns(["label", "predicted", "probability"]).drop_null()


def _error(
    rows_name: str, table: pa.Table | None, asked: BiasContinuations, labels: Sequence[str]
) -> list[ClassifierError]:
    if table is None or not len(table):
        return []
    # a label that the classifier doesn't have may mean harm or not: nobody said
    with_label = table.filter(pc.is_in(table["label"], value_set=pa.array(labels, table["label"].type)))
    rows = _Rows(with_label, asked.labels, len(labels))
    called, open_rows = toxicity.called_as(rows.predicted, rows.at_least, rows.rest, asked.threshold)
    rates = toxicity.classifier_rates(rows.truth, called)
    return [
        {
            "rows": rows_name,
            "recall": rates.recall.to_dict() if rates.recall else None,
            "false_positive": rates.false_positive.to_dict() if rates.false_positive else None,
            "by_likeliest": len(open_rows),
            "other_labels": len(table) - len(with_label),
        }
    ]
