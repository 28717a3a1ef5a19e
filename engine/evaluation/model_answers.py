"""Outputs of a model for each row of an evaluation: a causal model, and one with a classification head."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch

from engine.data import training_rows
from engine.data.conversion.multiple_choice import load_questions
from engine.evaluation import row_selection
from engine.evaluation.evaluated_model import EvaluatedModel
from engine.evaluation.probes.choice_items import pick_options
from engine.evaluation.probes.multiple_choice import ChoicePrompts, ChoiceRow, score_choices
from engine.evaluation.row_questions import RowQuestion
from engine.evaluation.row_selection import build_questions
from engine.models import classification, hardware
from engine.models.classification import UNSEEN_CLASS, ClassObjective, Labels
from engine.models.generation import GenerationOptions, Sampling, generate_answers
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import REASONS, TokenRows
from engine.models.tokenization.tokenized_rows import TokenisationRequest, tokenise_rows
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.formatting import plural
from store.data import dataset_files
from store.evaluation.config import AnswerSettings, EvaluateConfig
from store.jobs.schemas import OrderDataset

Timed = Callable[[str], AbstractContextManager[None]]
SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("prompt", pa.string()),
        ("prediction", pa.string()),
        ("reference", pa.string()),
        ("label", pa.string()),
        ("loss_sum", pa.float64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("probability", pa.float64()),
        ("choices", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("choice_scores", pa.list_(pa.float64())),
    ]
)


class SkippedRows(TypedDict):
    """Counts of rows by what they lack, and of those truncated for the loss."""

    no_prompt: int
    no_reference: int
    no_loss: int
    cut: int


@dataclass
class AnsweredRows:
    """Outputs for all rows. `table`: SCHEMA, a line for every row. asked: whether answers were generated.
    counts: rows by what they lack; reasons: one per such row. log_probabilities [rows, classes]: of a
    head.
    """

    table: pa.Table
    asked: bool
    counts: SkippedRows
    reasons: list[str]
    notices: list[str]
    log_probabilities: np.ndarray | None = None


def evaluate_causal(
    job: WorkerJob,
    config: EvaluateConfig,
    subject: EvaluatedModel,
    asked_dataset: OrderDataset,
    row_ids: np.ndarray,
    timed: Timed,
) -> AnsweredRows:
    """Compute the losses of the rows' own answers, and generate the model's answers if a metric
    needs them.
    """
    fingerprint = asked_dataset["fingerprint"]
    asked = build_questions(subject.tokenizer, job.home, fingerprint, row_ids)
    with timed("losses"):
        part = _tokenise_rows(job, config, subject, asked_dataset, row_ids)
        losses = _compute_losses(job, config, subject, part.rows)
    columns = _build_loss_columns(row_ids, part.rows, losses, subject.tokenizer)
    predictions: list[str | None] = [None] * len(asked)
    if config.generates:
        with timed("answers"):
            predictions = _predict_answers(job, config, subject, asked)
    chosen: list[ChoiceRow] = []
    if config.chooses:
        with timed("choices"):
            chosen = _score_choices(job, config, subject, fingerprint, row_ids)
        columns |= _build_choice_columns(chosen)
        if not config.generates:
            predictions = [_pick_choice(row) for row in chosen]
    columns |= _build_question_columns(asked) | {"prediction": predictions}
    unasked = [q.reason for q in asked if q.rendered is None]
    untold = [REASONS[code] for code in part.whole.reasons.tolist() if code]
    counts: SkippedRows = {
        "no_prompt": len(unasked),
        "no_reference": sum(q.reference is None for q in asked),
        "no_loss": len(row_ids) - len(part.rows),
        "cut": part.truncated,
    }
    notices = [f"{plural(part.truncated, 'row')} truncated for the loss: too long."] if part.truncated else []
    untold += [row.reason for row in chosen if row.reason]
    if tied := sum(row.is_tied for row in chosen):
        notices.append(
            f"{plural(tied, 'row')} where several choices tie for the highest score, also in fp32: the first"
            " of them counts."
        )
    return AnsweredRows(
        build_predictions_table(row_ids.tolist(), columns),
        config.generates,
        counts,
        [*unasked, *untold],
        notices,
    )


def _score_choices(
    job: WorkerJob, config: EvaluateConfig, subject: EvaluatedModel, fingerprint: str, row_ids: np.ndarray
) -> list[ChoiceRow]:
    """Score every choice of the rows."""
    tell = RowProgressReporter(job, len(row_ids), "rows", "Scoring the choices")
    device = torch.device(job.device)

    def on_rows(done: int) -> None:
        hardware.guard_memory(subject.config, device)
        tell(done)

    return score_choices(
        subject.model,
        subject.tokenizer,
        load_questions(job.home, fingerprint, row_ids),
        ChoicePrompts(
            row_selection.draw_choice_examples(job, config, row_ids),
            config.list_choices,
            subject.positions,
            config.per_device_eval_batch_size,
        ),
        device=device,
        on_rows=on_rows,
    )


def _build_question_columns(asked: list[RowQuestion]) -> dict[str, list[Any]]:
    """Build the columns of prompts and references; a causal model has no probability column."""
    return {
        "prompt": [q.readable for q in asked],
        "reference": [q.reference for q in asked],
        "label": [q.label for q in asked],
        "probability": [None] * len(asked),
    }


def _build_choice_columns(chosen: list[ChoiceRow]) -> dict[str, list[Any]]:
    return {
        "choices": [None if row.options is None else list(row.options) for row in chosen],
        "answer_index": [row.right for row in chosen],
        "choice_scores": [None if row.scores is None else row.scores.tolist() for row in chosen],
    }


def _pick_choice(row: ChoiceRow) -> str | None:
    """Return the text of the choice with the highest sum."""
    if row.scores is None or row.options is None:
        return None
    return row.options[int(pick_options([row.scores])[0])]


def _tokenise_rows(
    job: WorkerJob,
    config: EvaluateConfig,
    subject: EvaluatedModel,
    asked_dataset: OrderDataset,
    row_ids: np.ndarray,
) -> training_rows.TokenisedPart:
    tell = RowProgressReporter(job, len(row_ids), "rows", "Tokenizing")
    rows = tokenise_rows(
        job.home,
        subject.tokenizer,
        TokenisationRequest(
            fingerprint=asked_dataset["fingerprint"],
            row_count=dataset_files.open_rows(job.home, asked_dataset["fingerprint"]).metadata.num_rows,
            row_ids=row_ids,
            completion_only=True,
            load=training_rows.make_loader(job.home, asked_dataset["fingerprint"], asked_dataset["kind"]),
        ),
        on_rows=lambda done, total: tell(done),
    )
    return training_rows.truncate_rows(rows, _find_max_length(config, subject, rows))


def _find_max_length(config: EvaluateConfig, subject: EvaluatedModel, rows: TokenRows) -> int:
    limits = [limit for limit in (config.max_length, subject.positions) if limit]
    return min(limits, default=int(rows.lengths.max(initial=1)))


def _compute_losses(
    job: WorkerJob, config: EvaluateConfig, subject: EvaluatedModel, rows: TokenRows
) -> np.ndarray:
    """Return the summed loss of each row in nats."""
    if not len(rows):
        return np.zeros(0)
    tell = RowProgressReporter(job, len(rows), "rows", "Measuring the loss of the rows")
    device = torch.device(job.device)

    def on_batch(done: int) -> None:
        hardware.guard_memory(subject.config, device)
        tell(done)

    size = config.per_device_eval_batch_size
    return compute_row_losses(subject.model, rows, batch_size=size, device=device, on_batch=on_batch).loss_sum


def _predict_answers(
    job: WorkerJob, config: EvaluateConfig, subject: EvaluatedModel, asked: list[RowQuestion]
) -> list[str | None]:
    """Return the model's answer to each question, None for one that has no prompt."""
    generated = iter(
        generate_row_answers(job, config, subject, [q.rendered for q in asked if q.rendered is not None])
    )
    return [next(generated) if q.rendered is not None else None for q in asked]


def generate_row_answers(
    job: WorkerJob, config: AnswerSettings, subject: EvaluatedModel, rendered: list[str]
) -> list[str]:
    """Generate a continuation of each rendered prompt, reporting progress and checking memory. Raises
    JobCancelled and OutOfMemory.
    """
    report = RowProgressReporter(job, 0, "tokens", "Answering the prompts")

    def on_token(done: int, most: int) -> None:
        hardware.guard_memory(subject.config, torch.device(job.device))
        report(done, most)

    drawn = Sampling(config.temperature, config.top_p, config.seed) if config.do_sample else None
    return generate_answers(
        subject.model,
        subject.tokenizer,
        rendered,
        GenerationOptions(
            config.max_new_tokens, job.device, config.per_device_eval_batch_size, sampling=drawn, steady=True
        ),
        on_token,
    )


def _build_loss_columns(
    row_ids: np.ndarray, rows: TokenRows, losses: np.ndarray, tokenizer: Any
) -> dict[str, list[Any]]:
    """Build loss_sum, tokens and bytes per row, None for a row without a loss. Bytes are those of the text of
    the counted tokens, without special ones.
    """
    target_ids = [rows.row(i)[0][rows.row(i)[1]] for i in range(len(rows))]
    texts = (
        tokenizer.batch_decode([ids.tolist() for ids in target_ids], skip_special_tokens=True)
        if target_ids
        else []
    )
    sizes = [len(text.encode("utf-8", "replace")) for text in texts]
    place = {row_id: i for i, row_id in enumerate(rows.row_ids.tolist())}
    at = [place.get(row_id) for row_id in row_ids.tolist()]
    return {
        "loss_sum": [None if i is None else float(losses[i]) for i in at],
        "tokens": [None if i is None else len(target_ids[i]) for i in at],
        "bytes": [None if i is None else sizes[i] for i in at],
    }


def evaluate_classifier(
    job: WorkerJob,
    config: EvaluateConfig,
    subject: EvaluatedModel,
    asked_dataset: OrderDataset,
    row_ids: np.ndarray,
    timed: Timed,
) -> AnsweredRows:
    """Predict each row's class with the head, with the probabilities of all classes."""
    names, fingerprint = subject.labels or [], asked_dataset["fingerprint"]
    texts = classification.load_texts(job.home, fingerprint, row_ids)
    table = dataset_files.load_rows(job.home, fingerprint, columns=["label"], row_ids=row_ids)
    truths = [label or None for label in table["label"].to_pylist()]
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index.get(label or "", UNSEEN_CLASS) for label in truths], np.int64)
    labels = Labels(names, row_ids, ids, [label or "" for label in truths], np.zeros(len(names), np.int64))
    whole = classification.encode_texts(subject.tokenizer, row_ids, texts)
    rows, cut, _ = classification.truncate_texts(
        subject.tokenizer, whole, _find_max_length(config, subject, whole)
    )
    kept = np.flatnonzero(rows.lengths > 0)
    logs = np.full((len(row_ids), len(names)), np.nan)
    with timed("answers"):
        logs[kept] = _compute_log_probabilities(job, config, subject, labels, rows.take(kept))
    columns: dict[str, list[Any]] = _build_class_columns(names, ids, logs)
    columns |= {"prompt": texts, "reference": truths}
    # an unreadable row has no probabilities: no metric may score it
    columns["label"] = [
        None if prediction is None else label
        for label, prediction in zip(truths, columns["prediction"], strict=True)
    ]
    unseen = sum(label is not None and label not in index for label in truths)
    counts: SkippedRows = {
        "no_prompt": len(row_ids) - len(kept),
        "no_reference": sum(label is None for label in truths),
        "no_loss": sum(value is None for value in columns["loss_sum"]),
        "cut": cut,
    }
    notices = (
        [f"{plural(unseen, 'row')} with a label that is not in the training data: counted as wrong."]
        if unseen
        else []
    )
    reasons = ["the row has no text"] * counts["no_prompt"]
    return AnsweredRows(
        build_predictions_table(row_ids.tolist(), columns), True, counts, reasons, notices, logs
    )


def _compute_log_probabilities(
    job: WorkerJob, config: EvaluateConfig, subject: EvaluatedModel, labels: Labels, rows: TokenRows
) -> np.ndarray:
    """Return the head's log-probabilities [rows, classes]."""
    tell = RowProgressReporter(job, len(rows), "rows", "Classifying the rows")
    objective = ClassObjective(labels, subject.tokenizer.pad_token_id)
    size, device = config.per_device_eval_batch_size, torch.device(job.device)
    return objective.predict(subject.model, rows, size, device, tell)


def _build_class_columns(names: list[str], ids: np.ndarray, logs: np.ndarray) -> dict[str, list[Any]]:
    """Build the columns of each row's most likely class, its probability, and the loss of the true class in
    `ids`. logs [rows, classes]: NaN for a row that could not be read.
    """
    asked = ~np.isnan(logs).any(axis=1)
    best = [int(row.argmax()) if is_read else None for row, is_read in zip(logs, asked, strict=True)]
    has_class = asked & (ids != UNSEEN_CLASS)
    loss = [float(-logs[i, ids[i]]) if has_class[i] else None for i in range(len(ids))]
    return {
        "prediction": [None if i is None else names[i] for i in best],
        "probability": [None if i is None else float(np.exp(logs[row, i])) for row, i in enumerate(best)],
        "loss_sum": loss,
        "tokens": [None if value is None else 1 for value in loss],
        "bytes": [None] * len(ids),
    }


def build_predictions_table(row_ids: list[int], columns: dict[str, list[Any]]) -> pa.Table:
    """Build a table in SCHEMA; missing columns are filled with nulls."""
    nothing = [None] * len(row_ids)
    columns = {field.name: nothing for field in SCHEMA} | {"row_id": row_ids} | columns
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
