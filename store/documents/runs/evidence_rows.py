"""Single rows and items that a run leaves, as the Parquet files in its job folder have them."""

from __future__ import annotations

from typing import Literal, TypedDict


class LikelyLabel(TypedDict):
    """One of the labels that a classifier holds for likely."""

    label: str
    probability: float


class ClassPrediction(TypedDict):
    """A held-out row as a run classified it."""

    split: str
    row_id: int
    label: str
    predicted: str
    probability: float
    label_probability: float | None  # null for a label that training doesn't know
    top: list[LikelyLabel]  # the five likeliest
    prompted: str | None  # by the untuned model that was asked; null where it was not
    prompted_probability: float | None


class WrittenRow(TypedDict):
    """A row that base and tuned model were asked to write from memory: of `recalled.parquet`."""

    part: Literal["train", "held_out"]
    row_id: int
    prompt: str
    prefix: str  # the beginning of the answer that was given
    reference: str
    tokens: int
    base: str
    base_same: int  # tokens before its first slip
    base_whole: bool  # it was not stopped for having gone astray
    base_similarity: float
    tuned: str
    tuned_same: int
    tuned_whole: bool
    tuned_similarity: float


class ProbeQuestion(TypedDict):
    """A choice item of a probe, and what base and tuned model chose."""

    probe: str
    item: str
    category: str
    text: str
    options: list[str]
    right: int  # index of the right option
    base: int | None  # index of the one that it chose
    tuned: int | None
    rise: float  # of the loss of the right option, nats


class MatrixChange(TypedDict):
    """How far one weight matrix moved."""

    name: str
    layer: int | None
    module: str
    shape: list[int]
    weight_norm: float
    delta_norm: float
    relative: float
    stable_rank: float | None
    effective_rank: float | None
    intruders: int | None  # strongest directions that are like none of the base model's
    strongest: int | None  # directions that were looked at


class RequestRow(TypedDict):
    """A request that a model should refuse, or a harmless one like it, and what both models said."""

    pair: int
    category: str
    harmful: bool
    text: str
    base: str
    tuned: str
    base_refused: bool
    tuned_refused: bool
