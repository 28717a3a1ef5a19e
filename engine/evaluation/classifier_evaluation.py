"""Classifier evaluation on held-out rows: predictions per row, and the figures computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.evaluation.statistics import proportions
from engine.evaluation.statistics.classification import compute_calibration, compute_class_figures
from engine.evaluation.verdicts import classifier_verdict
from engine.models import classification, hardware
from engine.models.classification import UNSEEN_CLASS, Labels
from engine.models.forward import answer_likelihood
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import ConfigError, DataError
from store.core.figure_schemas import JudgingSplit
from store.core.home import Home
from store.core.job_folder import write_atomically
from store.data import dataset_files
from store.evaluation.schemas import ClassFigures, Classification
from store.training.train_config import TrainConfig

TOP_CLASSES = 5  # most likely classes stored per row


@dataclass
class LabelScores:
    """Log-probabilities [rows, classes] for the rows `row_ids`."""

    row_ids: np.ndarray
    logs: np.ndarray

    def rows(self, row_ids: np.ndarray) -> LabelScores:
        """Return the scores of these rows, in the given order; every row must be present."""
        order = np.argsort(self.row_ids, kind="stable")
        places = order[np.searchsorted(self.row_ids, row_ids, sorter=order)]
        return LabelScores(row_ids, self.logs[places])


def find_answer_labels(
    home: Home, fingerprint: str, kind: str, dealt: Mapping[str, np.ndarray], row_ids: np.ndarray
) -> tuple[Labels, np.ndarray] | None:
    """Return the labels of the split rows and the IDs in `row_ids` that have one, if the rows' answers are
    exactly the labels; None otherwise.
    """
    if kind != "chat":
        return None
    try:
        labels, kept, _ = classification.load_labels(home, fingerprint, dealt)
    except (ConfigError, DataError):
        return None
    own = row_ids[np.isin(row_ids, np.concatenate(list(kept.values())))]
    rows = dataset_files.load_rows(home, fingerprint, columns=["messages"], row_ids=own)["messages"]
    answers = [messages[-1]["content"] for messages in rows.to_pylist()]
    return (labels, own) if len(own) and answers == labels.text_of(own) else None


class LabelEvaluation:
    """Evaluation of a causal model's labels for held-out rows."""

    def __init__(
        self, job: WorkerJob, config: TrainConfig, labels: Labels, questions: answer_likelihood.LabelQuestions
    ) -> None:
        self.job, self.config, self.labels, self.questions = job, config, labels, questions

    @classmethod
    def of(
        cls,
        job: WorkerJob,
        config: TrainConfig,
        tokenizer: Any,
        labels: Labels,
        row_ids: np.ndarray,
        room: int | None,
    ) -> LabelEvaluation | None:
        """Build the label questions for these rows, or for as many as time allows; None if there are none."""
        if len(labels.names) > answer_likelihood.MAX_LABELS:
            return None
        fingerprint = job.spec["dataset"]["fingerprint"]
        size = answer_likelihood.count_label_tokens(tokenizer, labels.names)
        some = answer_likelihood.select_affordable_rows(
            row_ids, size, torch.device(job.device).type, config.seed
        )
        messages = dataset_files.load_rows(job.home, fingerprint, columns=["messages"], row_ids=some)[
            "messages"
        ]
        questions = answer_likelihood.build_label_questions(
            tokenizer, some, messages.to_pylist(), labels.names, room
        )
        return cls(job, config, labels, questions) if questions else None

    @classmethod
    def of_answers(
        cls, job: WorkerJob, config: TrainConfig, tokenizer: Any, row_ids: np.ndarray, room: int | None
    ) -> LabelEvaluation | None:
        """Like `of`, for a run trained to answer with the label; None if its answers aren't labels."""
        trained_on = job.spec["dataset"]
        table = pq.read_table(job.dir.split)
        parts = table["split"].to_numpy(zero_copy_only=False)
        dealt = {part: table["row_id"].to_numpy()[parts == part] for part in ("train", "validation", "test")}
        answered = find_answer_labels(job.home, trained_on["fingerprint"], trained_on["kind"], dealt, row_ids)
        return cls.of(job, config, tokenizer, *answered, room) if answered else None

    def score(self, model: Any, which: str) -> LabelScores:
        """Score the labels with `model`, called `which` in the progress. Raises JobCancelled."""
        device = torch.device(self.job.device)
        tell = RowProgressReporter(
            self.job, len(self.questions.prompts), "rows", f"Generating labels with {which}"
        )

        def on_rows(done: int) -> None:
            hardware.guard_memory(self.config, device)
            tell(done)

        batch_size = self.config.per_device_eval_batch_size
        logs = answer_likelihood.score_labels(
            model, self.questions, device, batch_size=batch_size, on_rows=on_rows
        )
        return LabelScores(self.questions.row_ids, logs)

    def report(self, split: JudgingSplit, tuned: LabelScores, prompted: LabelScores) -> Classification:
        """Write the predictions and return `verdict["classification"]`."""
        write_class_predictions(self.job, split, self.labels, tuned, prompted)
        return build_classification(split, self.labels, tuned, prompted)


def compute_calibrated_figures(labels: Labels, scores: LabelScores) -> ClassFigures:
    """Compute a classifier's figures, including its calibration."""
    of_classes = compute_class_figures(
        labels.place_of(scores.row_ids), scores.logs.argmax(axis=1), labels.all_names
    )
    return replace(of_classes, calibration=compute_calibration(scores.logs, labels.of(scores.row_ids)))


def build_classification(
    split: JudgingSplit, labels: Labels, tuned: LabelScores, prompted: LabelScores | None
) -> Classification:
    """Build `verdict["classification"]` from the scores of the tuned model and of the prompted,
    untuned one.
    """
    truth = labels.place_of(tuned.row_ids)
    most = np.full(len(truth), int(labels.counts.argmax()))
    over = None
    if prompted is not None:
        own = labels.place_of(prompted.row_ids)
        same = tuned.rows(prompted.row_ids).logs.argmax(axis=1) == own
        base = prompted.logs.argmax(axis=1) == own
        over = proportions.estimate_answer_change(base, same)
    return classifier_verdict.build_classification(
        split,
        labels.names,
        labels.counts.tolist(),
        classifier_verdict.ClassifierFigures(
            tuned=compute_calibrated_figures(labels, tuned),
            majority=compute_class_figures(truth, most, labels.all_names),
            prompted=compute_calibrated_figures(labels, prompted) if prompted is not None else None,
        ),
        unseen=int((labels.of(tuned.row_ids) == UNSEEN_CLASS).sum()),
        over_prompted=over,
    )


def write_class_predictions(
    job: WorkerJob, split: str, labels: Labels, tuned: LabelScores, prompted: LabelScores | None
) -> None:
    """Write the job's `class_predictions.parquet`."""
    ids, shares = tuned.row_ids, np.exp(tuned.logs)
    truth, guess, every = labels.of(ids), shares.argmax(axis=1), np.arange(len(ids))
    order = np.argsort(-shares, axis=1, kind="stable")[:, :TOP_CLASSES]
    own = np.where(truth == UNSEEN_CLASS, np.nan, shares[every, np.maximum(truth, 0)])
    asked: dict[int, tuple[str, float]] = {}
    if prompted is not None:
        likeliest = prompted.logs.argmax(axis=1)
        for row_id, i, logs in zip(prompted.row_ids.tolist(), likeliest.tolist(), prompted.logs, strict=True):
            asked[row_id] = labels.names[i], float(np.exp(logs[i]))
    answers = [asked.get(row_id, (None, None)) for row_id in ids.tolist()]
    top = [
        [{"label": labels.names[i], "probability": float(shares[row, i])} for i in order[row]]
        for row in every
    ]
    table = pa.table(
        {
            "split": [split] * len(ids),
            "row_id": pa.array(ids, pa.int64()),
            "label": pa.array(labels.text_of(ids), pa.string()),
            "predicted": pa.array([labels.names[i] for i in guess], pa.string()),
            "probability": pa.array(shares[every, guess], pa.float64()),
            "label_probability": pa.array(own, pa.float64(), from_pandas=True),
            "top": pa.array(
                top, pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float64())]))
            ),
            "prompted": pa.array([label for label, _ in answers], pa.string()),
            "prompted_probability": pa.array([value for _, value in answers], pa.float64()),
        }
    )
    with write_atomically(job.dir.class_predictions) as aside:
        pq.write_table(table, aside)
