"""Input that means harm, a file for each door with its `attempts(seed, folder)`; here: what an attempt is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One hostile input and what came of it; `failure` is empty where the door held."""

    name: str
    failure: str = ""
