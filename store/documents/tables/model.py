"""Models in the home folder."""

from __future__ import annotations

from typing import TypedDict


class GenerationNamed(TypedDict, total=False):
    """What a model's generation_config.json says of how its answers are drawn, as transformers names it; only
    what is of the right type."""

    do_sample: bool
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_new_tokens: int


class Model(TypedDict):
    """One of `GET /models`: a folder of the home folder's models."""

    name: str
    path: str
    parameters: int | None  # counted so far where weight files are missing
    architecture: str | None
    bytes: int
    generation: GenerationNamed
    ready: bool  # config, every weight file and a tokenizer are there and readable
