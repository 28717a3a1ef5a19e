"""Every value that is watched: what it is called, and the bins by which a test tells its values apart.

Bins are fixed here and depend on no data, so that ranks among them are as good as ranks of the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store.documents.serving.drift import WatchedName

Scale = Literal["length", "share", "distance", "logprob", "perplexity", "category"]
Side = Literal["input", "output", "confidence"]

NameOf = Callable[[WatchedName, str], str]  # how a name of a category reads


@dataclass(frozen=True)
class Watched:
    """One value of a request. noun: in the middle of a sentence, of many requests. more: what a rise
    means."""

    name: WatchedName
    title: str
    noun: str
    side: Side
    scale: Scale
    unit: str = ""

    @property
    def is_category(self) -> bool:
        return self.scale == "category"


WATCHED: dict[WatchedName, Watched] = {
    watched.name: watched
    for watched in (
        Watched("input_length", "Length of inputs", "the length of inputs", "input", "length", "characters"),
        Watched("input_language", "Language of inputs", "the languages of inputs", "input", "category"),
        Watched(
            "input_distance", "Distance of inputs", "how far inputs are from those of the reference", "input",
            "distance", "cosine distance to the nearest of the reference",
        ),
        Watched("input_topic", "Topics of inputs", "the topics of inputs", "input", "category"),
        Watched(
            "output_length", "Length of answers", "the length of answers", "output", "length", "characters"
        ),
        Watched("output_refusal", "Refusals", "how often it refuses", "output", "share", "share of answers"),
        Watched(
            "output_repetition", "Repetition in answers", "how much answers repeat themselves", "output",
            "share", "share of word triples that came before",
        ),
        Watched("output_label", "Labels", "which labels it gives", "output", "category"),
        Watched(
            "confidence", "Confidence", "how sure it is of its answers", "confidence", "logprob",
            "mean log-probability of a token, nats; of a label its logarithm",
        ),
        Watched(
            "output_perplexity", "Perplexity under the base", "how likely answers are to the base model",
            "output", "perplexity", "perplexity of an answer",
        ),
    )
}  # fmt: skip

LENGTH_STEP = math.log(1.02)
SHARE_STEP = 0.005
DISTANCE_STEP = 0.004
LOGPROB_STEP = 0.01
NATS_STEP = 0.01  # of perplexity: 1%
MOST_BIN = 1_500


def bins_of(scale: Scale, values: ArrayLike) -> NDArray[np.int64]:
    """The bin of each value that is a number; of a perplexity its logarithm. Raises ValueError
    for a category, which has none."""
    value = np.asarray(values, np.float64)
    if scale == "length":
        place = np.log1p(np.maximum(value, 0)) / LENGTH_STEP
    elif scale == "share":
        place = value / SHARE_STEP
    elif scale == "distance":
        place = value / DISTANCE_STEP
    elif scale == "perplexity":
        place = value / NATS_STEP
    elif scale == "logprob":
        place = MOST_BIN + value / LOGPROB_STEP
    else:
        raise ValueError(f"{scale} has no bins.")
    return np.clip(np.round(place), 0, MOST_BIN).astype(np.int64)


def value_of(scale: Scale, place: float) -> float:
    """The value in the middle of a bin."""
    if scale == "length":
        return math.expm1(place * LENGTH_STEP)
    if scale == "share":
        return place * SHARE_STEP
    if scale == "distance":
        return place * DISTANCE_STEP
    if scale == "perplexity":
        return place * NATS_STEP
    return (place - MOST_BIN) * LOGPROB_STEP
