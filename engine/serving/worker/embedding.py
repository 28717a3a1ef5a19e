"""Embeddings by an encoder: of each text one vector of length 1.

A text's vector is the mean of its tokens' last states, or the first token's state where the folder says so in
the form of sentence-transformers (`1_Pooling/config.json`). Any other pooling, and layers behind it, are
refused as the model is loaded: vectors made otherwise than the model was trained would be wrong in silence.
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

from engine.models import models
from engine.models.precision import choose_dtype
from engine.serving.protocol.app import AnswerKind, Stream, WholeAnswer
from engine.serving.protocol.bodies import EmbeddingBody, parse
from engine.serving.protocol.refusals import CONTEXT, Refused
from engine.serving.worker.loading import context_of
from store.contract.errors import ModelError
from store.contract.home import Home
from store.contract.jobdir import read_json
from store.documents.serving.backend import BackendSpec
from store.documents.serving.capabilities import Capabilities

TOKENS_AT_ONCE = 8192  # of texts that the model is shown together, padding included
# Of an answer: the gateway takes 16 MiB, and reads and writes numbers of JSON while all others wait.
MAX_BYTES = {"float": 2 * 2**20, "base64": 15 * 2**20}
NUMBER_BYTES = {"float": 24.0, "base64": 16 / 3}  # of a number in it, at most
MODES = {"pooling_mode_cls_token": "first", "pooling_mode_mean_tokens": "mean"}
WORKING_PARTS = ("Transformer", "Pooling", "Normalize")  # of sentence-transformers

Pooling = Literal["first", "mean"]


@dataclass
class LoadedEncoder:
    """A loaded one, and the names that it answers to."""

    model: Any
    tokenizer: Any
    pooling: Pooling
    context: int
    names: list[str]

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return int(self.model.config.get_text_config().hidden_size)


def is_plain_encoder(spec: BackendSpec) -> bool:
    """Whether the spec names an encoder without a classifier."""
    source = models.resolve(spec["model"], Home(spec["home"]))
    return not spec["adapters"] and models.is_encoder(models.load_config(source))


def load_encoder(spec: BackendSpec) -> LoadedEncoder:
    """Raises ModelError."""
    source = models.resolve(spec["model"], Home(spec["home"]))
    pooling = pooling_of(Path(source))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = models.load_encoder(source, device, choose_dtype(spec["dtype"], torch.device(device)))
    tokenizer, context = models.load_tokenizer(source), context_of(model, spec)
    return LoadedEncoder(model.eval(), tokenizer, pooling, context, spec["names"])


def pooling_of(folder: Path) -> Pooling:
    """As the folder says. Raises ModelError where that is not done here."""
    parts = read_json(folder / "modules.json") or []
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in parts]
    if odd := [kind for kind in kinds if kind not in WORKING_PARTS]:
        raise ModelError(
            f"{folder.name} has the layers {', '.join(odd)} behind its encoder, which are not computed here.",
            fix="Serve an encoder that ends with its pooling.",
            field="model",
        )
    paths = [part["path"] for part, kind in zip(parts, kinds, strict=True) if kind == "Pooling"]
    own = str(paths[0] if paths else "1_Pooling").rpartition("/")[2]
    config = read_json(folder / own / "config.json") or {}
    modes = [mode for mode, on in config.items() if mode.startswith("pooling_mode") and on is True]
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


class EncoderAnswers:
    """Answers of one encoder, a request at a time."""

    def __init__(self, encoder: LoadedEncoder) -> None:
        self._encoder, self._busy = encoder, threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return {
            "engine": "worker",
            "version": importlib.metadata.version("tunebench"),
            "kinds": ["embedding"],
            "fields": ["dimensions", "encoding_format", "user"],
            "context": self._encoder.context,
            "template": False,
            "models": self._encoder.names,
        }

    @property
    def load(self) -> dict[str, int]:
        """Whether texts are looked at."""
        return {"running": int(self._busy.locked()), "waiting": 0}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Raises Refused."""
        asked = parse(EmbeddingBody, body)
        self._check(asked)
        texts = await asyncio.to_thread(self._tokens, asked)
        gone = threading.Event()
        try:
            vectors = await asyncio.to_thread(self._vectors, texts, gone)
        finally:
            gone.set()
        tokens, encoding = sum(map(len, texts)), asked.encoding_format
        return WholeAnswer(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": place, "embedding": _written(vector, encoding)}
                    for place, vector in enumerate(vectors)
                ],
                "model": asked.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def _check(self, asked: EmbeddingBody) -> None:
        if asked.model not in self._encoder.names:
            others = ", ".join(self._encoder.names)
            message = f"There is no model {asked.model!r} here, but {others}."
            raise Refused(message, status=404, code="model_not_found", field="model")
        size = self._encoder.size
        if asked.dimensions not in (None, size):
            raise Refused(
                f"The model's vectors have {size:,} numbers, and it was not trained to be cut to"
                f" {asked.dimensions:,}. Leave dimensions out.",
                field="dimensions",
            )
        encoding = asked.encoding_format or "float"
        most = int(MAX_BYTES[encoding] / NUMBER_BYTES[encoding] / self._encoder.size)
        if (count := len(asked.texts)) > most:
            raise Refused(
                f"There are {count:,} texts, and an answer has room for the vectors of {most:,} in this"
                " encoding_format. Ask for fewer at once, or for base64.",
                field="input",
            )

    def _tokens(self, asked: EmbeddingBody) -> list[list[int]]:
        encoder, texts = self._encoder, []
        vocabulary = encoder.model.config.get_text_config().vocab_size
        for place, text in enumerate(asked.texts):
            tokens = list(encoder.tokenizer(text).input_ids) if isinstance(text, str) else text
            if wrong := [token for token in tokens if not 0 <= token < vocabulary]:
                raise Refused(f"The model has no token {wrong[0]}.", field="input")
            if not tokens or text == "":
                raise Refused(f"Text {place} is empty.", field="input")
            if len(tokens) > encoder.context:
                raise Refused(
                    f"Text {place} has {len(tokens):,} tokens, and the model can see {encoder.context:,}.",
                    code=CONTEXT,
                    field="input",
                )
            texts.append(tokens)
        return texts

    def _vectors(self, texts: Sequence[list[int]], gone: threading.Event) -> list[np.ndarray]:
        """Of each text, in fp32; nothing once nobody waits for it."""
        vectors: dict[int, np.ndarray] = {}
        for places in _batches(texts):
            with self._busy, torch.inference_mode():
                if gone.is_set():
                    return []
                pooled = self._pooled([texts[place] for place in places])
            vectors.update(zip(places, pooled, strict=True))
        return [vectors[place] for place in range(len(texts))]

    def _pooled(self, texts: Sequence[list[int]]) -> np.ndarray:
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


def _batches(texts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Places of texts that are shown together: alike in length, so that little is padding."""
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=lambda place: len(texts[place])):
        if batch and (len(batch) + 1) * len(texts[place]) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _written(vector: np.ndarray, encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
