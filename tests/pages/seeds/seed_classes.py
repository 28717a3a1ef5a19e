"""A home folder with a labelled data set, a run with a head on it, and one that learned the labels as words.

Predictions are drawn from a seeded generator and judged by the real functions, so that what a page shows
follows from rows that are really there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.statistics.classification import compute_calibration, compute_class_figures
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.training_curve.run_curve import Validation
from engine.evaluation.verdicts import classifier_verdict
from store.core.home import Home
from store.core.job_folder import JobDir
from store.data import datasets
from store.data.schemas import NewDataset
from store.db.database import Database, Transaction, utc_now
from store.evaluation.schemas import Classification
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.jobs import job_queue
from store.runs import runs
from store.training.train_config import TrainConfig
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed import ROWS
from tests.unit.store_samples import new_dataset
from tests.unit.verdict_inputs import judge, judge_classes

COUNT, HELD = 240, 120  # rows, of which the last are held out
LABELS = ["card_arrival", "card_lost", "top_up_failed"]
STOPPED = TrainingStop(reason="epochs", step=40, restored_step=40)


@made_once
def seed_classes(path: Path, classes: int = 3) -> Home:
    """The home folder; with more `classes` the labels get numbers."""
    home = Home(path).create()
    labels = LABELS if classes == 3 else [f"{LABELS[i % 3]}_{i:02}" for i in range(classes)]
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            dataset = _dataset(home, labels)
            datasets.insert_dataset(tx, dataset)
            _run(tx, home, dataset, labels, "head", "A head", 0.9, task="classification")
            _run(tx, home, dataset, labels, "words", "In words", 0.6, task="sft")
    finally:
        database.close()
    return home


def _dataset(home: Home, labels: list[str]) -> NewDataset:
    fingerprint = "c" * 64
    rows = []
    for i in range(COUNT):
        text, label = f"Where is my <b>card</b> number {i}, *please*?", labels[i % len(labels)]
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
        rows.append({"row_id": i, "line": i + 1, "messages": messages, "text": f"{text}\n\n{label}",
                     "label": label, "rejected": None, "digest": i, "source": "{}"})  # fmt: skip
    home.rows(fingerprint).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), home.rows(fingerprint))
    counts = {label: sum(row["label"] == label for row in rows) for label in labels}
    spread = {"min": 30, "median": 40, "p95": 44, "max": 46}
    return new_dataset(
        "labelled",
        "Card questions",
        format="text_label",
        columns={"text": "text", "label": "label"},
        source={"path": "/data/cards.csv"},
        fingerprint=fingerprint,
        row_count=COUNT,
        skipped_count=0,
        source_bytes=40 * COUNT,
        stats={
            "characters": spread, "turns": {"min": 2, "median": 2, "p95": 2, "max": 2}, "labels": counts,
            "label_count": len(counts), "skipped_reasons": {}, "reader": "csv", "encoding": "utf-8",
        },
        created_at=utc_now(),
    )  # fmt: skip


def _run(
    tx: Transaction,
    home: Home,
    dataset: NewDataset,
    labels: list[str],
    run_id: str,
    name: str,
    right: float,
    **config: Any,
) -> None:
    seen = TrainConfig(name=name, dataset=dataset.name, **config).resolved(120)
    at = utc_now()
    job_queue.insert(
        tx,
        job_queue.NewJob(
            job_id=run_id,
            kind="train",
            title=name,
            config={},
            at=at.timestamp(),
            after_jobs=[],
        ),
    )
    job_queue.update(tx, run_id, status="finished", device="cpu", started_at=at, ended_at=at)
    runs.insert(
        tx,
        runs.NewRun(
            run_id=run_id,
            config=seen,
            dataset_id=dataset.dataset_id,
            dataset_name=dataset.name,
            fingerprint=dataset.fingerprint,
            at=at.timestamp(),
        ),
    )
    random = np.random.default_rng(len(name))
    truth = np.arange(HELD, HELD + HELD) % len(labels)
    logs = _logs(random, truth, len(labels), right)
    asked = _logs(random, truth, len(labels), 0.4)
    classification = _document(labels, truth, logs, asked)
    _predictions(JobDir(home.jobs / run_id), labels, truth, logs, asked)
    runs.update(tx, run_id, verdict=_verdict(classification, truth, logs, seen))


def _logs(random: np.random.Generator, truth: np.ndarray, classes: int, right: float) -> np.ndarray:
    predicted = np.where(random.random(len(truth)) < right, truth, (truth + 1) % classes)
    sure = random.uniform(0.55, 0.98, len(truth))
    shares = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    shares[np.arange(len(truth)), predicted] = sure
    return np.log(shares)


def _document(labels: list[str], truth: np.ndarray, logs: np.ndarray, asked: np.ndarray) -> Classification:
    predicted, prompted = logs.argmax(axis=1), asked.argmax(axis=1)
    over = ratio_interval((predicted == truth).astype(float) - (prompted == truth), np.ones(len(truth)))
    models = classifier_verdict.ClassifierFigures(
        tuned=replace(
            compute_class_figures(truth, predicted, labels), calibration=compute_calibration(logs, truth)
        ),
        majority=compute_class_figures(truth, np.zeros(len(truth), int), labels),
        prompted=compute_class_figures(truth, prompted, labels),
    )
    return classifier_verdict.build_classification(
        "test", labels, [40] * len(labels), models, unseen=0, over_prompted=over
    )


def _verdict(
    classification: Classification, truth: np.ndarray, logs: np.ndarray, config: TrainConfig
) -> Verdict:
    ids, ones = np.arange(HELD, HELD + HELD), np.ones(len(truth))
    losses = -logs[np.arange(len(truth)), truth]
    shared: dict[str, Any] = {
        "split": "test",
        "eval_rows": [
            Validation(step=step, row_ids=ids, loss_sums=losses + 1 / (1 + step), tokens=ones)
            for step in (0, 20, 40)
        ],
        "train_curve": [(step, 1.0) for step in range(1, 41)],
        "stopped": STOPPED,
        "config": config.model_dump(),
    }
    right = (logs.argmax(axis=1) == truth).astype(int)
    base, base_right = np.full(len(truth), np.log(classification.class_count)), truth == 0
    if config.task == "classification":
        return judge_classes(
            base_loss=base, tuned_loss=losses, known=ones, base_correct=base_right, tuned_correct=right,
            classification=classification, **shared,
        )  # fmt: skip
    document = judge(
        row_ids=ids, base_loss_sum=base, tuned_loss_sum=losses, tokens=ones, base_correct=base_right,
        tuned_correct=right, **shared,
    )  # fmt: skip
    classifier_verdict.add_label_figures(document, classification)
    return document


def _predictions(
    folder: JobDir, labels: list[str], truth: np.ndarray, logs: np.ndarray, asked: np.ndarray
) -> None:
    folder.path.mkdir(parents=True)
    shares, predicted, prompted = np.exp(logs), logs.argmax(axis=1), asked.argmax(axis=1)
    every = np.arange(len(truth))
    rows = [
        {
            "split": "test",
            "row_id": HELD + int(i),
            "label": labels[truth[i]],
            "predicted": labels[predicted[i]],
            "probability": float(shares[i, predicted[i]]),
            "label_probability": float(shares[i, truth[i]]),
            "top": [
                {"label": labels[k], "probability": float(shares[i, k])} for k in np.argsort(-shares[i])[:5]
            ],
            "prompted": labels[prompted[i]],
            "prompted_probability": float(np.exp(asked[i, prompted[i]])),
        }
        for i in every
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder.class_predictions)
