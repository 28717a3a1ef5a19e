"""Malicious input, one file per entry point with its `attempts(seed, folder)`; defines what an attempt is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One hostile input and what came of it; `failure` is empty where the door held."""

    name: str
    failure: str = ""
