"""Classifiers: a text's label with the probabilities of all labels, or none where that is too unsure."""

from __future__ import annotations

import asyncio
import importlib.metadata
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.models import models, quantised, saving
from engine.models.precision import choose_dtype
from engine.objectives.classification import ClassBatch, class_logits, widen_head
from engine.serving.protocol.app import AnswerKind, Stream, WholeAnswer
from engine.serving.protocol.bodies import Body, ChatTurn, StreamOptions
from engine.serving.protocol.bodies import parse as parse_body
from engine.serving.protocol.forms import ClassifiedText, Form, usage
from engine.serving.protocol.refusals import CONTEXT, Refused
from engine.serving.worker.decisions import PLAIN
from engine.serving.worker.loading import as_held, context_of, note_of
from store.catalog.methods import WHOLE_METHOD
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError
from store.contract.home import Home
from store.contract.jobdir import read_json
from store.documents.serving.backend import BackendSpec
from store.documents.serving.capabilities import Capabilities


class TextToClassify(Body):
    """A body whose last message is the text. Nothing of how answers are drawn applies, so that
    nothing of it is taken."""

    messages: list[ChatTurn]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None


@dataclass
class Classifier:
    """A loaded one, and the names that it answers to."""

    model: Any
    tokenizer: Any
    labels: list[str]
    context: int
    names: list[str]


def is_classifier(spec: BackendSpec) -> bool:
    """Whether what the spec names tells classes apart."""
    folders = [adapter["folder"] for adapter in spec["adapters"]] or [spec["model"]]
    return any((read_json(Path(folder) / "tunebench.json") or {}).get("labels") for folder in folders)


def load_classifier(spec: BackendSpec) -> Classifier:
    """Raises ModelError, and ConfigError where other adapters are to share its base."""
    adapters = spec["adapters"]
    if len(adapters) > 1:
        named = ", ".join(adapter["name"] for adapter in adapters)
        raise ConfigError(
            f"A classifier has a head of its own and shares no base, and these adapters are to: {named}.",
            fix="Serve each classifier by itself.",
            field="adapters",
        )
    base = models.resolve(spec["model"], Home(spec["home"]))
    folder = Path(adapters[0]["folder"] if adapters else base)
    note: Any = read_json(folder / "tunebench.json")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = TrainConfig(model=base, dataset="none", method=WHOLE_METHOD, dtype=spec["dtype"])
    config = as_held(config, note_of(adapters[0])["held"] if adapters else "")
    dtype = choose_dtype(spec["dtype"], torch.device(device))
    model = models.load_model(config, base, device, dtype, models.load_config(str(folder)))
    if adapters:
        model = saving.load(folder, model)
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        quantised.keep_dtype(model, config, dtype)
    widen_head(model).eval()
    names = [adapter["name"] for adapter in adapters] or spec["names"]
    return Classifier(
        model, models.load_tokenizer(str(folder)), note["labels"], context_of(model, spec), names
    )


class ClassifierAnswers:
    """Answers of one classifier, a text at a time."""

    def __init__(self, classifier: Classifier, spec: BackendSpec) -> None:
        self._classifier, self._settings = classifier, spec.get("labels") or PLAIN
        self._busy = threading.Lock()
        self._asked = self._answered = 0

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return {
            "engine": "worker",
            "version": importlib.metadata.version("tunebench"),
            "kinds": ["labels"],
            "fields": ["stream", "stream_options", "user"],
            "context": self._classifier.context,
            "template": False,
            "models": self._classifier.names,
        }

    @property
    def load(self) -> dict[str, int]:
        """Whether a text is looked at."""
        return {"running": int(self._busy.locked()), "waiting": 0}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Raises Refused."""
        asked = parse_body(TextToClassify, body)
        if asked.model not in self._classifier.names:
            others = ", ".join(self._classifier.names)
            raise Refused(
                f"There is no model {asked.model!r} here, but {others}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        texts = [turn.text for turn in asked.messages if turn.role == "user"]
        if not texts:
            raise Refused(
                "There is no message of the user, whose text could be classified.", field="messages"
            )
        tokens = self._classifier.tokenizer(texts[-1]).input_ids
        if not tokens:
            raise Refused("The text has no tokens.", field="messages")
        if len(tokens) > self._classifier.context:
            raise Refused(
                f"The text has {len(tokens):,} tokens, and the model can see {self._classifier.context:,}.",
                code=CONTEXT,
                field="messages",
            )
        classification = self._judged(await asyncio.to_thread(self._chances, tokens))
        form = Form(asked.model, chat=True)
        if asked.stream:
            counted = bool(asked.stream_options and asked.stream_options.include_usage)
            return Stream(_chunks(form, classification, len(tokens), counted))
        choice = form.choice(0, classification["label"] or "", "stop", None)
        whole = form.whole([choice], usage(len(tokens), 0))
        return WholeAnswer(whole | {"classification": classification})

    def _chances(self, tokens: list[int]) -> torch.Tensor:
        classifier = self._classifier
        real = [place for place, token in enumerate(tokens) if token != classifier.tokenizer.pad_token_id]
        batch = ClassBatch(
            inputs=torch.tensor([tokens]),
            last=torch.tensor([real[-1] if real else len(tokens) - 1]),
            lengths=torch.tensor([len(tokens)]),
            targets=torch.zeros(1, dtype=torch.int64),
            tokens=len(tokens),
        )
        with self._busy, torch.inference_mode():
            logits = class_logits(classifier.model, batch)[0]
        return (logits / self._settings["temperature"]).softmax(-1)

    def _judged(self, chances: torch.Tensor) -> ClassifiedText:
        best = int(chances.argmax())
        confidence, threshold = float(chances[best]), self._settings["threshold"]
        abstained = threshold is not None and confidence < threshold
        labels = self._classifier.labels
        classification: ClassifiedText = {
            "label": None if abstained else labels[best],
            "confidence": confidence,
            "abstained": abstained,
            "probabilities": dict(zip(labels, chances.tolist(), strict=True)),
        }
        if threshold is not None:
            self._asked += 1
            self._answered += not abstained
            classification |= {"threshold": threshold, "requests": self._asked}
            classification["coverage"] = self._answered / self._asked
        return classification


async def _chunks(form: Form, classification: ClassifiedText, tokens: int, counted: bool) -> Any:
    yield form.chunk([form.opening(0)], counted=counted)
    piece = form.chunk([form.piece(0, classification["label"] or "", None)], counted=counted)
    yield piece | {"classification": classification}
    yield form.chunk([form.closing(0, "stop")], counted=counted)
    if counted:
        yield form.chunk([], counts=usage(tokens, 0), counted=True)
