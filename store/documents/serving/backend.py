"""What a backend of an endpoint is told, and what it says once it is ready."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.serving.capabilities import Capabilities


class ServedAdapter(TypedDict):
    """One adapter over the base."""

    name: str  # by which requests ask for it
    folder: str


class LabelSettings(TypedDict):
    """How the probabilities of a classifier, or of a decision, are given."""

    temperature: float  # by which scores are divided: 1 leaves them as they are
    threshold: float | None  # of confidence, below which no label is given


class BackendSpec(TypedDict):
    """`SPEC.json`, for `python -m engine.serving.backend`."""

    engine: Literal["worker", "llama.cpp"]
    socket: str  # path of the Unix socket that it listens at
    model: str  # a folder, a name in the home folder or a hub id; for llama.cpp a GGUF file
    home: str
    adapters: list[ServedAdapter]
    names: list[str]  # that answer for the base
    dtype: Literal["auto", "bfloat16", "float32"]
    threads: int | None  # null: of all cores
    max_streams: int  # answers that are made at once
    max_tokens: int  # of prompts and answers that are in memory at once
    most_answer: NotRequired[
        int | None
    ]  # tokens of an answer that names no number; null: what there is room for
    context: int | None  # tokens of a prompt and its answer; null: as many as the model has positions
    parent: int  # the process for which it works, and with which it ends
    labels: NotRequired[LabelSettings | None]


class BackendReady(TypedDict):
    """`ready.json` beside the spec, written once it can be asked."""

    pid: int
    seconds: float  # that loading took
    capabilities: Capabilities
