"""Models in the home folder."""

from __future__ import annotations

from typing import TypedDict


class Model(TypedDict):
    """One of `GET /models`: a folder of the home folder's models."""

    name: str
    path: str
    parameters: int | None  # counted so far where weight files are missing
    architecture: str | None
    bytes: int
    ready: bool  # config, every weight file and a tokenizer are there and readable
