"""What is wrong or odd about something that is asked for, named by the field at fault."""

from __future__ import annotations

from typing import Literal, TypedDict


class FieldProblem(TypedDict):
    """A sentence about one field of a form or a config. An error refuses what is asked for; a warning and an
    info do not."""

    level: Literal["error", "warning", "info"]
    field: str  # a path such as recipe.steps.2.where; empty for the whole
    message: str
    fix: str  # what to do; empty where there is nothing
