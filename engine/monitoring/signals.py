"""The watched values of each question and answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.monitoring.asked_rows import AskedRequests
from engine.signals.embedded.embeddings import FIRST, embed
from engine.signals.texts.answers import refuses
from engine.signals.texts.language import tell
from store.contract.jobdir import written_aside

NEIGHBOURS = 3
WORDS = 3  # of which a repetition consists
LEAST_CONFIDENCE = 1e-6

SCHEMA = pa.schema(
    [
        ("input_length", pa.float64()),
        ("input_language", pa.string()),
        ("input_distance", pa.float64()),
        ("input_topic", pa.string()),
        ("output_length", pa.float64()),
        ("output_refusal", pa.float64()),
        ("output_repetition", pa.float64()),
        ("output_label", pa.string()),
        ("confidence", pa.float64()),
        ("output_perplexity", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ReferenceFit:
    """What distances and topics are measured from: vectors of reference rows, and centres with their names.
    texts: the texts of requests are kept; else lengths are of all that was sent."""

    texts: bool
    vectors: NDArray[np.float32]
    centres: NDArray[np.float32]
    topics: list[str]

    def save(self, path: Path) -> None:
        """Write it whole."""
        with written_aside(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(
                file,
                texts=np.array(self.texts),
                vectors=self.vectors,
                centres=self.centres,
                topics=np.array(self.topics, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> ReferenceFit:
        """As it was saved."""
        with np.load(path, allow_pickle=False) as kept:
            topics = [str(name) for name in kept["topics"]]
            return cls(bool(kept["texts"]), kept["vectors"], kept["centres"], topics)


NO_TEXTS = ReferenceFit(False, np.zeros((0, 256), np.float32), np.zeros((0, 256), np.float32), [])


def measure(rows: AskedRequests, fit: ReferenceFit, nats: Sequence[float | None] | None = None) -> pa.Table:
    """The columns of SCHEMA, null where a row has no such value. nats: of a token of each answer, under its
    base; None where nobody asked a base."""
    vectors = vectors_of(rows)
    distance, topic = _beside(vectors, fit)
    confidence = [
        math.log(max(sure, LEAST_CONFIDENCE)) if sure is not None else logprob
        for sure, logprob in zip(rows.confidences, rows.logprobs, strict=True)
    ]
    columns: dict[str, Sequence[Any]] = {
        "input_length": _lengths(rows.inputs) if fit.texts else rows.input_characters,
        "input_language": _languages(rows.inputs),
        "input_distance": distance,
        "input_topic": topic,
        "output_length": rows.output_characters,
        "output_refusal": [None if text is None else float(refuses(text)) for text in rows.outputs],
        "output_repetition": [None if text is None else repetition(text) for text in rows.outputs],
        "output_label": rows.labels,
        "confidence": confidence,
        "output_perplexity": [None] * len(rows) if nats is None else list(nats),
    }
    return pa.table({name: _numbers(values) for name, values in columns.items()}, schema=SCHEMA)


def _numbers(values: Sequence[Any]) -> list[Any]:
    """Null for what is not a number: a model may say so of its own answer."""
    return [value if value == value else None for value in values]


def vectors_of(rows: AskedRequests) -> NDArray[np.float32]:
    """float32 [rows, 256] of what was asked; a row without a word is 0."""
    texts = pa.array([(text or "")[:FIRST] for text in rows.inputs], pa.large_string())
    return embed(texts) if any(rows.inputs) else np.zeros((len(rows), 256), np.float32)


def repetition(text: str) -> float:
    """The share of the triples of words that came before in the same text."""
    words = text.lower().split()
    triples = [tuple(words[place : place + WORDS]) for place in range(len(words) - WORDS + 1)]
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _lengths(texts: list[str | None]) -> list[int | None]:
    return [None if text is None else len(text) for text in texts]


def _languages(texts: list[str | None]) -> list[str | None]:
    """Null for a text that is too short to tell."""
    present = [text for text in texts if text]
    guesses = iter(tell([""] * len(present), present))
    return [(next(guesses)[0] or None) if text else None for text in texts]


def _beside(vectors: NDArray[np.float32], fit: ReferenceFit) -> tuple[list[float | None], list[str | None]]:
    """How far each row is from its nearest of the fit, and the topic whose centre is nearest."""
    has_words = np.linalg.norm(vectors, axis=1) > 0
    nothing: list[None] = [None] * len(vectors)
    if not len(fit.vectors):
        return [*nothing], [*nothing]
    near = np.sort(vectors @ fit.vectors.T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    nearest = (vectors @ fit.centres.T).argmax(axis=1)
    distance = [float(1 - value) if there else None for value, there in zip(near, has_words, strict=True)]
    topic = [fit.topics[place] if there else None for place, there in zip(nearest, has_words, strict=True)]
    return distance, topic
