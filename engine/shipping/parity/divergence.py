"""The Kullback–Leibler divergence of two models' next tokens, from the likeliest tokens of the first.

The model's LIKELIEST tokens are compared one by one and all others as one token. That is never more than the
divergence over the whole vocabulary, and less by what the two differ within the rest, which has next to no
probability. Pure: arrays in and out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-12  # of the rest: rounding makes smaller ones


class Likeliest(NamedTuple):
    """ids and log-probabilities [places, tokens], the likeliest first."""

    ids: NDArray[np.int32]
    logs: NDArray[np.float32]


def normalised(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of logits."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def likeliest(logs: NDArray[np.float32], count: int) -> Likeliest:
    """Of log-probabilities [places, vocabulary]."""
    count = min(count, logs.shape[1])
    ids = np.argpartition(-logs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(logs, ids, 1), axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, 1)
    return Likeliest(ids.astype(np.int32), np.take_along_axis(logs, ids, 1).astype(np.float32))


def divergence(first: Likeliest, logs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Nats at each place, from the first model to the one with these log-probabilities."""
    own = first.logs.astype(np.float64)
    other = np.take_along_axis(logs, first.ids.astype(np.int64), 1).astype(np.float64)
    p = np.exp(own)
    rest = np.clip(1 - p.sum(axis=1), 0, 1)
    other_rest = np.clip(1 - np.exp(other).sum(axis=1), LEAST, 1)
    kl = (p * (own - other)).sum(axis=1)
    some = rest > 1e-6  # less is the rounding of fp32
    kl[some] += rest[some] * np.log(rest[some] / other_rest[some])
    return np.where(np.isfinite(kl), np.maximum(kl, 0), np.inf)


def same_best(first: Likeliest, logs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether both hold the same token for the likeliest."""
    same: NDArray[np.bool_] = logs.argmax(axis=1) == first.ids[:, 0]
    return same
