"""One thing that a preview warns of, or refuses a launch for."""

from __future__ import annotations

from typing import Literal

from store.documents.asks.preview import Problem


def problem(level: Literal["error", "warning"], field: str, message: str, fix: str) -> Problem:
    """level: "error" refuses the launch, "warning" does not; field: of the config."""
    return {"level": level, "field": field, "message": message, "fix": fix}
