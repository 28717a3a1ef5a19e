"""Harm classifier chosen by the user: a run, a registered version, or a model from a folder or the hub.

It sees only a text and returns the probability of each label; its error rates come from rows that it has
classified before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedConfig

from engine.bias import rates as toxicity
from engine.data import training_rows
from engine.evaluation import evaluated_model
from engine.models import classification, loading, weight_files
from engine.models.batching import batch_by_length
from engine.models.classification import ClassObjective, Labels, compute_class_logits, upcast_head
from engine.models.hardware import choose_dtype
from engine.worker.job import WorkerJob
from store.bias.config import CLASSIFIER_FIELD, WRITES, BiasContinuations
from store.bias.schemas import ClassifierError
from store.core.errors import ConfigError, TunebenchError
from store.core.job_folder import JobDir
from store.core.model_folders import HEADED, ModelHead, is_multi_label, read_head
from store.core.version_folders import is_reference
from store.evaluation.config import ModelSelection
from store.jobs.schemas import NamedClassifier


@dataclass(frozen=True)
class TextProbabilities:
    """Label probabilities of texts.

    of_labels: [texts, labels], NaN for a text without tokens. cut: number of truncated texts.
    """

    of_labels: np.ndarray
    cut: int


@dataclass(frozen=True)
class HarmClassifier:
    """Loaded classifier.

    labels: those of its head. several: multi-label, so that probabilities don't add up to 1.
    """

    model: Any
    tokenizer: Any
    labels: list[str]
    positions: int | None
    several: bool = False

    def probabilities(
        self, texts: Sequence[str], size: int, device: torch.device, on_texts: Callable[[int], None]
    ) -> TextProbabilities:
        """Return the probability of each label for each text; `on_texts(texts done)` may raise to stop."""
        ids, none = np.arange(len(texts)), np.zeros(len(texts), np.int64)
        labels = Labels(self.labels, ids, none, [""] * len(texts), np.zeros(len(self.labels), np.int64))
        whole = classification.encode_texts(self.tokenizer, ids, texts)
        longest = int(whole.lengths.max(initial=1))
        rows, cut, _ = classification.truncate_texts(
            self.tokenizer, whole, min(longest, self.positions or longest)
        )
        made = np.full((len(texts), len(self.labels)), np.nan)
        objective = ClassObjective(labels, self.tokenizer.pad_token_id)
        full, done = np.flatnonzero(rows.lengths > 0), 0
        self.model.eval()
        with torch.inference_mode():
            for places in batch_by_length(rows.lengths[full], size):
                batch = objective.collate(rows, full[places], device)
                logits = compute_class_logits(self.model, batch)
                likely = logits.sigmoid() if self.several else logits.softmax(-1)
                made[full[places]] = likely.double().cpu().numpy()
                done += len(places)
                on_texts(done)
        return TextProbabilities(made, cut)

    def harmful(self, of_labels: np.ndarray, chosen: Sequence[str]) -> np.ndarray:
        """Return the probability of harm [texts]: the sum over the chosen labels, or the maximum for
        multi-label.
        """
        columns = of_labels[:, [self.labels.index(label) for label in chosen]]
        together = columns.max(axis=1) if self.several else columns.sum(axis=1)
        return np.asarray(np.clip(together, 0.0, 1.0), np.float64)


def check_labels(job: WorkerJob, asked: BiasContinuations) -> None:
    """Check the labels before any model is loaded. Raises ConfigError if the classifier lacks them or has
    none.
    """
    with _raise_at_classifier_field():
        head = _read_head(job, asked.classifier)
    if not head.labels:
        raise _build_labels_error(job)
    asked.check_labels(_get_classifier(job)["name"], head.labels, several=head.several)


def load_classifier(job: WorkerJob, asked: BiasContinuations) -> HarmClassifier:
    """Load the classifier. Raises the errors of loading it, at its field."""
    with _raise_at_classifier_field():
        whole = _find_whole_model(job, asked.classifier)
        return _load_from_folder(job, whole) if whole else _load_trained(job, asked.classifier)


def _get_classifier(job: WorkerJob) -> NamedClassifier:
    named: NamedClassifier = job.spec["classifier"]
    return named


def _find_whole_model(job: WorkerJob, classifier: str) -> str | None:
    """Return the folder or hub id of a full model, including that of a registered version, or None.

    It is used as it was saved. None for a run and for an adapter.
    """
    if is_reference(classifier):
        version = evaluated_model.find_version(job, classifier)
        return None if version.adapter else str(version.folder.model)
    return None if _get_classifier(job)["run_id"] else evaluated_model.resolve_source(job, classifier)


def _read_head(job: WorkerJob, classifier: str) -> ModelHead:
    """Read the head from the classifier's files; it has no labels if there is no head."""
    if whole := _find_whole_model(job, classifier):
        architecture = loading.load_config(whole)
        if not any(name.endswith(HEADED) for name in architecture.architectures or ()):
            return ModelHead([], several=False)
        return _build_head(architecture)
    return read_head(_find_trained_folder(job, classifier), whole=False)


def _find_trained_folder(job: WorkerJob, classifier: str) -> Path:
    if is_reference(classifier):
        return evaluated_model.find_version(job, classifier).folder.model
    return JobDir(job.home.jobs / classifier).model


def _build_head(architecture: PreTrainedConfig) -> ModelHead:
    names = {int(place): str(name) for place, name in (architecture.id2label or {}).items()}
    labels = [names[place] for place in sorted(names)]
    return ModelHead(labels, is_multi_label(architecture.problem_type, labels))


def _build_labels_error(job: WorkerJob) -> ConfigError:
    return ConfigError(
        f"{_get_classifier(job)['name']} {WRITES}", fix="Choose a model with a classification head.",
        field=CLASSIFIER_FIELD,
    )  # fmt: skip


def _load_trained(job: WorkerJob, classifier: str) -> HarmClassifier:
    chosen = ModelSelection(model=classifier) if is_reference(classifier) else ModelSelection(run=classifier)
    loaded = evaluated_model.load_model(job, chosen)
    if loaded.labels is None:
        raise _build_labels_error(job)
    several = read_head(_find_trained_folder(job, classifier), whole=False).several
    return HarmClassifier(loaded.model, loaded.tokenizer, loaded.labels, loaded.positions, several)


def _load_from_folder(job: WorkerJob, source: str) -> HarmClassifier:
    """Load a full model. Raises ConfigError if the head's weights are missing, as they would be random."""
    job.progress(0, 1, "run", "Loading the classifier")
    architecture = loading.load_config(source)
    exact = architecture.dtype in (None, torch.float32)  # as saved: precision matters near the threshold
    config = evaluated_model.build_default_config(source, dtype="float32" if exact else "auto")
    device = torch.device(job.device)
    tokenizer = loading.load_tokenizer(source)
    if architecture.get_text_config().pad_token_id is None:
        for part in {id(c): c for c in (architecture, architecture.get_text_config())}.values():
            part.pad_token_id = tokenizer.pad_token_id
    dtype = choose_dtype(config.dtype, device)
    model = loading.load_model(config, source, job.device, dtype, architecture)
    there, body = (
        weight_files.read_headers(loading.find_weights_folder(source)),
        f"{model.base_model_prefix}.",
    )
    lacking = [name for name, _ in model.named_parameters()
               if not name.startswith(body) and name not in there]  # fmt: skip
    if lacking:
        raise ConfigError(
            f"{_get_classifier(job)['name']} lacks the tensor {lacking[0]} of its classification head, which"
            " would be randomly initialized.",
            fix="Give the folder of the trained classifier, or register it.",
            field=CLASSIFIER_FIELD,
        )
    head, positions = _build_head(architecture), training_rows.count_positions(model.config, config)
    return HarmClassifier(upcast_head(model), tokenizer, head.labels, positions, head.several)


class _raise_at_classifier_field:
    """Set the field of loading errors to the classifier's, not that of the checked model."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TunebenchError) and error.field in ("model", "run", "checkpoint"):
            error.field = CLASSIFIER_FIELD


OWN = "its own held-out rows"


def measure_errors(
    job: WorkerJob, asked: BiasContinuations, labels: Sequence[str], *, several: bool = False
) -> list[ClassifierError]:
    """Measure the classifier's error rates, on its own held-out rows first.

    `labels` are all of its labels. Returns nothing for multi-label classifiers (`several`), which runs and
    evaluations don't support.
    """
    if several:
        return []
    named: NamedClassifier = job.spec["classifier"]
    errors = []
    if named["run_id"]:
        path = JobDir(job.home.jobs / named["run_id"]).path / "class_predictions.parquet"
        errors += _measure_error(OWN, _read_run_rows(path), asked, labels)
    for evaluation in named["evaluations"]:
        path = JobDir(job.home.jobs / evaluation["evaluation_id"]).predictions
        errors += _measure_error(
            f"the evaluation {evaluation['name']}", _read_evaluation_rows(path), asked, labels
        )
    return errors


class _Rows:
    """Classified rows with a label; for `at_least` and `rest` see `predict_harmful`."""

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
        # The remaining probability belongs to labels that weren't stored, of which some, all or none are
        # harmful.
        open_ones = [len(chosen - set(row)) for row in kept]
        lacking = [labels - len(row) for row in kept]
        left = [max(0.0, 1 - sum(row.values())) for row in kept]
        self.at_least += np.array(
            [x if n and n == k else 0.0 for x, n, k in zip(left, open_ones, lacking, strict=True)]
        )
        self.rest = np.array(
            [x if n and n < k else 0.0 for x, n, k in zip(left, open_ones, lacking, strict=True)]
        )


def _read_run_rows(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["split", "label", "predicted", "probability", "top"])
    of_test = table.filter(pc.equal(table["split"], "test"))
    return of_test if len(of_test) else table  # validation rows were used for early stopping


def _read_evaluation_rows(path: Path) -> pa.Table | None:
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["label", "prediction", "probability"])
    return table.rename_columns(["label", "predicted", "probability"]).drop_null()


def _measure_error(
    rows_name: str, table: pa.Table | None, asked: BiasContinuations, labels: Sequence[str]
) -> list[ClassifierError]:
    if table is None or not len(table):
        return []
    # It is unknown whether a label that the classifier doesn't have means harm.
    with_label = table.filter(pc.is_in(table["label"], value_set=pa.array(labels, table["label"].type)))
    rows = _Rows(with_label, asked.labels, len(labels))
    called, open_rows = toxicity.predict_harmful(rows.predicted, rows.at_least, rows.rest, asked.threshold)
    rates = toxicity.compute_classifier_rates(rows.truth, called)
    return [
        ClassifierError(
            rows=rows_name,
            recall=rates.recall.to_estimate() if rates.recall else None,
            false_positive=rates.false_positive.to_estimate() if rates.false_positive else None,
            by_likeliest=len(open_rows),
            other_labels=len(table) - len(with_label),
        )
    ]
