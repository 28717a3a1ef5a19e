"""Malicious input, one file per entry point with its `attempts(seed, folder)`; defines what an attempt is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """A hostile input and its result. `failure` is empty if it was handled safely."""

    name: str
    failure: str = ""
