"""Input that means harm, one file a door: each has `attempts(seed, folder)`. What an attempt is stands here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One hostile input and what came of it; `failure` is empty where the door held."""

    name: str
    failure: str = ""
