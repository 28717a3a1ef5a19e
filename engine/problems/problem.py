"""One thing that a preview warns of, or refuses a launch for."""

from __future__ import annotations

Problem = dict[str, str]


def problem(level: str, field: str, message: str, fix: str) -> Problem:
    """level: "error" refuses the launch, "warning" does not; field: of the config."""
    return {"level": level, "field": field, "message": message, "fix": fix}
