"""Models that answer in one pass without generating: classifiers and encoders.

A classifier returns a text's label with the probabilities of all labels, or abstains below a threshold; an
encoder returns one vector of length 1 per text.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from engine.models import loading, saved_models
from engine.models.classification import ClassBatch, compute_class_logits, upcast_head
from engine.models.hardware import choose_dtype
from engine.serving.protocol.answers import (
    CONTEXT_EXCEEDED,
    ClassifiedText,
    RequestError,
    ResponseBuilder,
    build_usage,
)
from engine.serving.protocol.app import AnswerKind, Stream, WholeAnswer
from engine.serving.protocol.request_bodies import ChatTurn, EmbeddingBody, RequestBody, StreamOptions, parse
from engine.serving.protocol.request_bodies import parse as parse_body
from engine.serving.torch_backend.loading import apply_quantization, compute_context_length, read_adapter_note
from engine.serving.torch_backend.structured_answers import PLAIN_DECISIONS
from store.core.errors import ConfigError, ModelError
from store.core.home import Home
from store.core.job_folder import read_json
from store.serving.schemas import BackendSpec, Capabilities
from store.training.methods import WHOLE_METHOD
from store.training.train_config import TrainConfig


class ClassificationBody(RequestBody):
    """A body whose last user message is the text; sampling fields don't apply and are rejected."""

    messages: list[ChatTurn]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None


@dataclass
class Classifier:
    """A loaded classifier, and the names that it is served under."""

    model: Any
    tokenizer: Any
    labels: list[str]
    context: int
    names: list[str]


def is_classifier(spec: BackendSpec) -> bool:
    """Return whether the spec's model is a classifier."""
    folders = [adapter.folder for adapter in spec["adapters"]] or [spec["model"]]
    return any((read_json(Path(folder) / "tunebench.json") or {}).get("labels") for folder in folders)


def load_classifier(spec: BackendSpec) -> Classifier:
    """Load the classifier. Raises ModelError, and ConfigError if other adapters are to share its base."""
    adapters = spec["adapters"]
    if len(adapters) > 1:
        listed = ", ".join(adapter.name for adapter in adapters)
        raise ConfigError(
            f"Classifiers have their own head and can't share a base, but these adapters would: {listed}.",
            fix="Serve each classifier by itself.",
            field="adapters",
        )
    base = loading.resolve_model(spec["model"], Home(spec["home"]))
    folder = Path(adapters[0].folder if adapters else base)
    note: Any = read_json(folder / "tunebench.json")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = TrainConfig(model=base, dataset="none", method=WHOLE_METHOD, dtype=spec["dtype"])
    config = apply_quantization(config, read_adapter_note(adapters[0])["held"] if adapters else "")
    dtype = choose_dtype(spec["dtype"], torch.device(device))
    model = loading.load_model(config, base, device, dtype, loading.load_config(str(folder)))
    if adapters:
        model = saved_models.load_tuned_model(folder, model)
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        loading.keep_dtype(model, config, dtype)
    upcast_head(model).eval()
    names = [adapter.name for adapter in adapters] or spec["names"]
    return Classifier(
        model, loading.load_tokenizer(str(folder)), note["labels"], compute_context_length(model, spec), names
    )


class ClassifierAnswerer:
    """Engine with one classifier, one text at a time."""

    def __init__(self, classifier: Classifier, spec: BackendSpec) -> None:
        self._classifier, self._settings = classifier, spec.get("labels") or PLAIN_DECISIONS
        self._busy = threading.Lock()
        self._requested = self._answered = 0

    @property
    def capabilities(self) -> Capabilities:
        """What the classifier supports."""
        return Capabilities(
            engine="worker",
            version=importlib.metadata.version("tunebench"),
            kinds=["labels"],
            fields=["stream", "stream_options", "user"],
            context=self._classifier.context,
            template=False,
            models=self._classifier.names,
        )

    @property
    def load(self) -> dict[str, int]:
        """Whether a text is being processed."""
        return {"running": int(self._busy.locked()), "waiting": 0}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        request = parse_body(ClassificationBody, body)
        if request.model not in self._classifier.names:
            available = ", ".join(self._classifier.names)
            raise RequestError(
                f"There is no model {request.model!r} here, but {available}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        texts = [turn.text for turn in request.messages if turn.role == "user"]
        if not texts:
            raise RequestError("There is no user message to classify.", field="messages")
        tokens = self._classifier.tokenizer(texts[-1]).input_ids
        if not tokens:
            raise RequestError("The text has no tokens.", field="messages")
        if len(tokens) > self._classifier.context:
            raise RequestError(
                f"The text has {len(tokens):,} tokens, and the model can see {self._classifier.context:,}.",
                code=CONTEXT_EXCEEDED,
                field="messages",
            )
        classification = self._classify(await asyncio.to_thread(self._compute_probabilities, tokens))
        form = ResponseBuilder(request.model, chat=True)
        if request.stream:
            with_usage = bool(request.stream_options and request.stream_options.include_usage)
            return Stream(_stream_chunks(form, classification, len(tokens), with_usage))
        choice = form.build_choice(0, classification["label"] or "", "stop", None)
        response = form.build_response([choice], build_usage(len(tokens), 0))
        return WholeAnswer(response | {"classification": classification})

    def _compute_probabilities(self, tokens: list[int]) -> torch.Tensor:
        classifier = self._classifier
        token_positions = [
            position for position, token in enumerate(tokens) if token != classifier.tokenizer.pad_token_id
        ]
        batch = ClassBatch(
            inputs=torch.tensor([tokens]),
            last=torch.tensor([token_positions[-1] if token_positions else len(tokens) - 1]),
            lengths=torch.tensor([len(tokens)]),
            targets=torch.zeros(1, dtype=torch.int64),
            tokens=len(tokens),
        )
        with self._busy, torch.inference_mode():
            logits = compute_class_logits(classifier.model, batch)[0]
        return (logits / self._settings.temperature).softmax(-1)

    def _classify(self, probabilities: torch.Tensor) -> ClassifiedText:
        best = int(probabilities.argmax())
        confidence, threshold = float(probabilities[best]), self._settings.threshold
        abstained = threshold is not None and confidence < threshold
        labels = self._classifier.labels
        classification: ClassifiedText = {
            "label": None if abstained else labels[best],
            "confidence": confidence,
            "abstained": abstained,
            "probabilities": dict(zip(labels, probabilities.tolist(), strict=True)),
        }
        if threshold is not None:
            self._requested += 1
            self._answered += not abstained
            classification |= {"threshold": threshold, "requests": self._requested}
            classification["coverage"] = self._answered / self._requested
        return classification


async def _stream_chunks(
    form: ResponseBuilder, classification: ClassifiedText, tokens: int, with_usage: bool
) -> Any:
    yield form.build_chunk([form.build_opening(0)], with_usage=with_usage)
    piece = form.build_chunk(
        [form.build_piece(0, classification["label"] or "", None)], with_usage=with_usage
    )
    yield piece | {"classification": classification}
    yield form.build_chunk([form.build_closing(0, "stop")], with_usage=with_usage)
    if with_usage:
        yield form.build_chunk([], usage=build_usage(tokens, 0), with_usage=True)


# Embeddings by an encoder: one vector of length 1 per text.
#
# A text's vector is the mean of its tokens' last hidden states, or the first token's if the folder says so in
# sentence-transformers' form (`1_Pooling/config.json`). Any other pooling, and layers after it, are rejected
# on loading: vectors computed in another way than the model was trained would be silently wrong.

MAX_BATCH_TOKENS = 8192  # tokens per batch, including padding
# Limits per response: the gateway accepts 16 MiB, and blocks all other requests while it converts JSON
# numbers.
MAX_BYTES = {"float": 2 * 2**20, "base64": 15 * 2**20}
NUMBER_BYTES = {"float": 24.0, "base64": 16 / 3}  # maximum per number
MODES = {"pooling_mode_cls_token": "first", "pooling_mode_mean_tokens": "mean"}
SUPPORTED_MODULES = ("Transformer", "Pooling", "Normalize")  # in sentence-transformers

Pooling = Literal["first", "mean"]


@dataclass
class LoadedEncoder:
    """A loaded encoder, and the names that it is served under."""

    model: Any
    tokenizer: Any
    pooling: Pooling
    context: int
    names: list[str]

    @property
    def size(self) -> int:
        """Dimensions of a vector."""
        return int(self.model.config.get_text_config().hidden_size)


def is_plain_encoder(spec: BackendSpec) -> bool:
    """Return whether the spec's model is an encoder without a classification head."""
    source = loading.resolve_model(spec["model"], Home(spec["home"]))
    return not spec["adapters"] and loading.is_encoder(loading.load_config(source))


def load_encoder(spec: BackendSpec) -> LoadedEncoder:
    """Load the encoder. Raises ModelError."""
    source = loading.resolve_model(spec["model"], Home(spec["home"]))
    pooling = read_pooling(Path(source))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = loading.load_encoder(source, device, choose_dtype(spec["dtype"], torch.device(device)))
    tokenizer, context = loading.load_tokenizer(source), compute_context_length(model, spec)
    return LoadedEncoder(model.eval(), tokenizer, pooling, context, spec["names"])


def read_pooling(folder: Path) -> Pooling:
    """Return the pooling that the folder specifies. Raises ModelError if it isn't supported."""
    parts = read_json(folder / "modules.json") or []
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in parts]
    if odd := [kind for kind in kinds if kind not in SUPPORTED_MODULES]:
        raise ModelError(
            f"{folder.name} has the layers {', '.join(odd)} behind its encoder, which are not computed here.",
            fix="Serve an encoder that ends with its pooling.",
            field="model",
        )
    paths = [part["path"] for part, kind in zip(parts, kinds, strict=True) if kind == "Pooling"]
    folder_name = str(paths[0] if paths else "1_Pooling").rpartition("/")[2]
    config = read_json(folder / folder_name / "config.json") or {}
    modes = [mode for mode, enabled in config.items() if mode.startswith("pooling_mode") and enabled is True]
    modes += [f"pooling_mode_{mode}" for mode in [config.get("pooling_mode")] if isinstance(mode, str)]
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in MODES:
        raise ModelError(
            f"{folder.name} pools by {', '.join(modes)}; here by the first token or the mean alone.",
            fix="Serve an encoder that pools so.",
            field="model",
        )
    return "first" if modes[0] == "pooling_mode_cls_token" else "mean"


class EncoderAnswerer:
    """Engine with one encoder, one request at a time."""

    def __init__(self, encoder: LoadedEncoder) -> None:
        self._encoder, self._busy = encoder, threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What the encoder supports."""
        return Capabilities(
            engine="worker",
            version=importlib.metadata.version("tunebench"),
            kinds=["embedding"],
            fields=["dimensions", "encoding_format", "user"],
            context=self._encoder.context,
            template=False,
            models=self._encoder.names,
        )

    @property
    def load(self) -> dict[str, int]:
        """Whether texts are being processed."""
        return {"running": int(self._busy.locked()), "waiting": 0}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        request = parse(EmbeddingBody, body)
        self._check(request)
        texts = await asyncio.to_thread(self._tokenize, request)
        cancelled = threading.Event()
        try:
            vectors = await asyncio.to_thread(self._embed, texts, cancelled)
        finally:
            cancelled.set()
        tokens = sum(map(len, texts))
        return WholeAnswer(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": index,
                        "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                        if request.encoding_format == "base64"
                        else vector.tolist(),
                    }
                    for index, vector in enumerate(vectors)
                ],
                "model": request.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def _check(self, request: EmbeddingBody) -> None:
        if request.model not in self._encoder.names:
            available = ", ".join(self._encoder.names)
            message = f"There is no model {request.model!r} here, but {available}."
            raise RequestError(message, status=404, code="model_not_found", field="model")
        size = self._encoder.size
        if request.dimensions not in (None, size):
            raise RequestError(
                f"The model's vectors have {size:,} numbers, and it was not trained to be cut to"
                f" {request.dimensions:,}. Leave dimensions out.",
                field="dimensions",
            )
        encoding = request.encoding_format or "float"
        max_texts = int(MAX_BYTES[encoding] / NUMBER_BYTES[encoding] / self._encoder.size)
        if (count := len(request.texts)) > max_texts:
            raise RequestError(
                f"There are {count:,} texts, and an answer has room for the vectors of {max_texts:,} in this"
                " encoding_format. Ask for fewer at once, or for base64.",
                field="input",
            )

    def _tokenize(self, request: EmbeddingBody) -> list[list[int]]:
        encoder, texts = self._encoder, []
        vocabulary = encoder.model.config.get_text_config().vocab_size
        for index, text in enumerate(request.texts):
            tokens = list(encoder.tokenizer(text).input_ids) if isinstance(text, str) else text
            if invalid := [token for token in tokens if not 0 <= token < vocabulary]:
                raise RequestError(f"The model has no token {invalid[0]}.", field="input")
            if not tokens or text == "":
                raise RequestError(f"Text {index} is empty.", field="input")
            if len(tokens) > encoder.context:
                raise RequestError(
                    f"Text {index} has {len(tokens):,} tokens, and the model can see {encoder.context:,}.",
                    code=CONTEXT_EXCEEDED,
                    field="input",
                )
            texts.append(tokens)
        return texts

    def _embed(self, texts: Sequence[list[int]], cancelled: threading.Event) -> list[np.ndarray]:
        """Return each text's vector in fp32; empty if the request was abandoned."""
        vectors: dict[int, np.ndarray] = {}
        for indices in _iterate_batches(texts):
            with self._busy, torch.inference_mode():
                if cancelled.is_set():
                    return []
                pooled = self._pool([texts[index] for index in indices])
            vectors.update(zip(indices, pooled, strict=True))
        return [vectors[index] for index in range(len(texts))]

    def _pool(self, texts: Sequence[list[int]]) -> np.ndarray:
        encoder, longest = self._encoder, max(map(len, texts))
        inputs = torch.full((len(texts), longest), encoder.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(inputs)
        for row, tokens in enumerate(texts):
            inputs[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        device = encoder.model.device
        inputs, mask = inputs.to(device), mask.to(device)
        states = encoder.model(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
        weights = mask[..., None].float()
        mean = (states * weights).sum(1) / weights.sum(1)
        pooled = states[:, 0] if encoder.pooling == "first" else mean
        vectors: np.ndarray = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def _iterate_batches(texts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield indices of texts to process together: similar in length, to limit padding."""
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda index: len(texts[index])):
        if batch and (len(batch) + 1) * len(texts[index]) > MAX_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
