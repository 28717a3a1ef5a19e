"""The classifier that a user names: what a run left, a registered version, or a model with a classification
head from a folder or the hub. It is shown a text alone, and says how likely each of its labels is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from engine.evaluation import evaluated
from engine.forward.batches import by_length
from engine.models import models, weight_files
from engine.models.precision import choose_dtype
from engine.objectives.classification import ClassObjective, class_logits, widen_head
from engine.prepare import prepare
from engine.rows import labelled
from engine.rows.labelled import Labels
from engine.worker.job import WorkerJob
from store.config.judging.answering import ChosenModel
from store.config.judging.bias_config import CLASSIFIER_FIELD, WRITES, BiasContinuations
from store.contract.errors import ConfigError, TunebenchError
from store.contract.jobdir import JobDir, read_json
from store.contract.version_folders import is_reference, sealed
from store.documents.tables.job import NamedClassifier

SEVERAL = "multi_label_classification"  # labels that are true by themselves, as transformers names it
HEADED = "ForSequenceClassification"


@dataclass(frozen=True)
class TextProbabilities:
    """of_labels [texts, labels], NaN for a text without a token; cut: texts that were cut."""

    of_labels: np.ndarray
    cut: int


@dataclass(frozen=True)
class HarmClassifier:
    """labels: of its head; several: each is likely by itself, and they don't add up to 1."""

    model: Any
    tokenizer: Any
    labels: list[str]
    positions: int | None
    several: bool = False

    def probabilities(
        self, texts: Sequence[str], size: int, device: torch.device, on_texts: Callable[[int], None]
    ) -> TextProbabilities:
        """How likely each label is of each text. `on_texts(texts done)` may raise to stop."""
        ids, none = np.arange(len(texts)), np.zeros(len(texts), np.int64)
        labels = Labels(self.labels, ids, none, [""] * len(texts), np.zeros(len(self.labels), np.int64))
        whole = labelled.encode(self.tokenizer, ids, texts)
        longest = int(whole.lengths.max(initial=1))
        rows, cut, _ = labelled.cut(self.tokenizer, whole, min(longest, self.positions or longest))
        made = np.full((len(texts), len(self.labels)), np.nan)
        objective = ClassObjective(labels, self.tokenizer.pad_token_id)
        full, done = np.flatnonzero(rows.lengths > 0), 0
        self.model.eval()
        with torch.inference_mode():
            for places in by_length(rows.lengths[full], size):
                batch = objective.collate(rows, full[places], device)
                logits = class_logits(self.model, batch)
                likely = logits.sigmoid() if self.several else logits.softmax(-1)
                made[full[places]] = likely.double().cpu().numpy()
                done += len(places)
                on_texts(done)
        return TextProbabilities(made, cut)

    def harmful(self, of_labels: np.ndarray, chosen: Sequence[str]) -> np.ndarray:
        """[texts] probability of the chosen labels together; of labels that are by themselves that of the
        likeliest."""
        columns = of_labels[:, [self.labels.index(label) for label in chosen]]
        together = columns.max(axis=1) if self.several else columns.sum(axis=1)
        return np.asarray(np.clip(together, 0.0, 1.0), np.float64)


def check_labels(job: WorkerJob, asked: BiasContinuations) -> None:
    """Before any model is loaded. Raises ConfigError for one that has no labels, or not these."""
    with _at_its_field():
        there, several = _labels(job, asked.classifier)
    if not there:
        raise _no_labels(job)
    asked.check_labels(_named(job)["name"], there, several=several)


def load(job: WorkerJob, asked: BiasContinuations) -> HarmClassifier:
    """The classifier. Raises what loading it raises, at the field that names it."""
    with _at_its_field():
        if not _is_model(job, asked.classifier):
            return _trained_here(job, asked.classifier)
        return _from_folder(job, asked.classifier)


def _named(job: WorkerJob) -> NamedClassifier:
    named: NamedClassifier = job.order["classifier"]
    return named


def _is_model(job: WorkerJob, classifier: str) -> bool:
    """Neither a run nor a registered version."""
    return not is_reference(classifier) and _named(job)["run_id"] is None


def _labels(job: WorkerJob, classifier: str) -> tuple[list[str], bool]:
    """By its files alone, and whether each is true by itself; none where it has no head."""
    if _is_model(job, classifier):
        architecture = models.load_config(evaluated.source(job, classifier))
        if not any(name.endswith(HEADED) for name in architecture.architectures or ()):
            return [], False
        return _of_head(architecture), _several(architecture)
    if is_reference(classifier):
        folder = sealed(job.home, classifier).model
    else:
        folder = JobDir(job.home.jobs / classifier).model
    return list((read_json(folder / "tunebench.json") or {}).get("labels") or []), False


def _of_head(architecture: PreTrainedConfig) -> list[str]:
    """In the order of its outputs."""
    names = {int(place): str(name) for place, name in (architecture.id2label or {}).items()}
    return [names[place] for place in sorted(names)]


def _several(architecture: PreTrainedConfig) -> bool:
    """Whether each label is likely by itself."""
    return architecture.problem_type == SEVERAL or len(_of_head(architecture)) == 1


def _no_labels(job: WorkerJob) -> ConfigError:
    return ConfigError(
        f"{_named(job)['name']} {WRITES}", fix="Name a model with a classification head.",
        field=CLASSIFIER_FIELD,
    )  # fmt: skip


def _trained_here(job: WorkerJob, classifier: str) -> HarmClassifier:
    chosen = ChosenModel(model=classifier) if is_reference(classifier) else ChosenModel(run=classifier)
    loaded = evaluated.load(job, chosen)
    if loaded.labels is None:
        raise _no_labels(job)
    return HarmClassifier(loaded.model, loaded.tokenizer, loaded.labels, loaded.positions)


def _from_folder(job: WorkerJob, classifier: str) -> HarmClassifier:
    """Raises ConfigError where the weights of its head are not there: they would be random."""
    job.progress(0, 1, "run", "Loading the classifier")
    source = evaluated.source(job, classifier)
    architecture = models.load_config(source)
    exact = architecture.dtype in (None, torch.float32)  # as it was saved: near the threshold digits count
    config = evaluated.plain_config(classifier, dtype="float32" if exact else "auto")
    device = torch.device(job.device)
    tokenizer = models.load_tokenizer(source)
    if architecture.get_text_config().pad_token_id is None:
        for part in {id(c): c for c in (architecture, architecture.get_text_config())}.values():
            part.pad_token_id = tokenizer.pad_token_id
    dtype = choose_dtype(config.dtype, device)
    model = models.load_model(config, source, job.device, dtype, architecture)
    there, body = weight_files.read_headers(models.weights_folder(source)), f"{model.base_model_prefix}."
    lacking = [name for name, _ in model.named_parameters()
               if not name.startswith(body) and name not in there]  # fmt: skip
    if lacking:
        raise ConfigError(
            f"{classifier} lacks the tensor {lacking[0]} of its classification head, which would be random.",
            fix="Name the folder to which the trained classifier was saved.",
            field=CLASSIFIER_FIELD,
        )
    labels = _of_head(architecture)
    positions = prepare.positions(model.config, config)
    return HarmClassifier(widen_head(model), tokenizer, labels, positions, _several(architecture))


class _at_its_field:
    """Errors in loading it name its field, not that of the model which is checked."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TunebenchError) and error.field in ("model", "run", "checkpoint"):
            error.field = CLASSIFIER_FIELD
