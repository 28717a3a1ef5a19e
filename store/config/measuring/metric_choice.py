"""What every chosen metric has in common (`metrics_config.py` has them all), and patterns that RE2 takes."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from store.contract.document import Config


class MetricChoice(Config):
    """A metric to compute; `name` is what it is called in the store, its own name where empty."""

    metric: str
    name: str = Field("", max_length=60, description="After eval/ in the store; for a second of one kind")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9][a-z0-9_]*", value):
            raise ValueError("use small letters, digits and _")
        return value

    @property
    def key(self) -> str:
        """The metric's name in the store."""
        return f"eval/{self.name or self.metric}"


def check_pattern(pattern: str) -> str:
    """The pattern. Raises ValueError where RE2 refuses it; RE2 takes time linear in the text, whatever it is
    asked."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise ValueError(f"the pattern is refused by RE2: {reason}") from error
    return pattern
