"""The evaluation's metrics of model and export over the same rows, and how they differ, paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.diagnostics.statistics import scored as scoring
from engine.metrics.answer_rows import Answers
from engine.metrics.measure import measure
from engine.shipping.parity.asked import ParityAnswers
from engine.shipping.parity.reference import ReferenceAnswers
from store.catalog.metric_table import METRICS, defaults
from store.config.measuring.metrics_config import MetricsConfig
from store.contract.home import Home
from store.contract.no_code import NO_CODE
from store.documents.figures.figure import Difference


def differences(
    own: ReferenceAnswers, export: ParityAnswers, home: Home, tokenizer: Path, check: Callable[[], None]
) -> list[Difference]:
    """Export minus model, of the metrics that an evaluation of such rows has; those of choices need other
    questions than these."""
    labelled = any(question.label for question in own.questions)
    head = own.class_logs is not None
    names = defaults(head=head, labelled=labelled, choosing=False)
    names = [name for name in names if "choices" not in METRICS[name].needs]
    config = MetricsConfig.parse({"metrics": names})
    if head:
        assert own.class_logs is not None
        first = _of_classes(own, np.array(export["classes"], float))
        second = _of_classes(own, own.class_logs)
    elif not any(export["answers"]):  # no prompt is read the same
        return []
    else:
        losses = np.array(export["loss_sum"], float)
        decode = _decoder(tokenizer)
        first = _of_texts(own, export["answers"], losses, decode)
        second = _of_texts(own, own.answers, own.loss_sum, decode)
    if not len(first):
        return []
    pairs = zip(
        measure(config, first, home, check=check), measure(config, second, home, check=check), strict=True
    )
    every = [scoring.difference(a, b) for a, b in pairs if not a.failed and not b.failed]
    return [each for each in every if each["value"] is not None]


def _of_classes(own: ReferenceAnswers, logs: np.ndarray) -> Answers:
    labels = list(own.asked["labels"] or ())
    best = logs.argmax(axis=1)
    return Answers(
        np.array([question.row_id for question in own.questions], np.int64),
        predictions=[labels[i] for i in best],
        labels=[question.label for question in own.questions],
        log_probabilities=logs,
        classes=labels,
    )


def _decoder(folder: Path) -> Callable[[list[int]], str]:
    """Tokens as the text that metrics read."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _of_texts(
    own: ReferenceAnswers,
    answers: Sequence[list[int] | None],
    losses: np.ndarray,
    decode: Callable[[list[int]], str],
) -> Answers:
    """Rows whose prompt the export reads otherwise have no answer."""
    row_ids = np.array([question.row_id for question in own.questions], np.int64)
    place = {row_id: i for i, row_id in enumerate(own.row_ids.tolist())} if len(losses) else {}
    at = [place.get(row_id) for row_id in row_ids.tolist()]

    def column(values: np.ndarray) -> np.ndarray:
        return np.array([np.nan if i is None else values[i] for i in at], float)

    texts = answers or [None] * len(row_ids)
    return Answers(
        row_ids,
        predictions=[None if ids is None else decode(ids) for ids in texts],
        references=[question.reference for question in own.questions],
        prompts=[question.readable for question in own.questions],
        labels=[question.label for question in own.questions],
        loss_sum=column(losses),
        tokens=column(own.row_tokens),
        bytes=column(own.row_bytes),
    )
