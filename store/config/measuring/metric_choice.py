"""What every chosen metric has in common (`metrics_config.py` has them all), and patterns that RE2 takes."""

from __future__ import annotations

import re
from functools import lru_cache

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


@lru_cache(maxsize=256)
def check_pattern(pattern: str) -> str:
    """The pattern. Raises ValueError where RE2 refuses it; RE2 takes time linear in the text, whatever it is
    asked."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise ValueError(f"the pattern is refused by RE2: {reason}") from error
    return pattern


CLASS_SIZE = 200  # of Unicode's classes, to RE2 about what so many characters are
_PIECES = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # a text to the letter
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*(?:\]|\Z)"  # a class of characters
    r"|\\[pP](?:\{[^}]{0,40}\}|.)?|\\x\{[^}]{0,8}\}|\\."
    r"|\{(?P<least>\d{1,4})(?:,(?P<most>\d{0,4}))?\}|.",
    re.DOTALL,
)


def pattern_size(pattern: str) -> int:
    """About how many characters RE2 has to compile: those that are repeated count each time, so that a short
    pattern may be large, and take seconds."""
    totals, last = [0], 0  # of each open group; of what a repetition repeats
    for piece in _PIECES.finditer(pattern):
        text = piece[0]
        if piece["least"]:
            times = max(int(piece["most"] or piece["least"]), 1)
            totals[-1] += last * (times - 1)
            last *= times
        elif text == "(":
            totals.append(0)
        elif text == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        else:
            last = len(text) + CLASS_SIZE * len(re.findall(r"\\[pP]", text))
            totals[-1] += last
    return sum(totals)
