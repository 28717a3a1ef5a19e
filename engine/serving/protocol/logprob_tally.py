"""How sure a model was of its answer, and how many of its calls were none, told beside the protocol and never
in it.

Of a whole answer a header says it, of a stream a comment in each event: so a document is OpenAI's to the
letter, whoever asks. The gateway writes it down and passes on documents alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

HEADER = "x-tunebench-logprobs"
COMMENT = b": logprobs "


class LogprobTally(NamedTuple):
    """Of the tokens of the first choice, as far as they were told, the closing one left out."""

    total: float  # nats, of the model's own distribution
    tokens: int
    invalid_calls: int = 0  # of all choices: what was meant for a call and is none, or has wrong arguments

    @property
    def mean(self) -> float | None:
        """Of a token."""
        return self.total / self.tokens if self.tokens else None

    def words(self) -> str:
        """As header and comment have it."""
        return f"{self.total!r} {self.tokens} {self.invalid_calls}"


def read_tally(words: str) -> LogprobTally | None:
    """None where they are no tally, or one of numbers that are none."""
    total, _, counts = words.strip().partition(" ")
    tokens, _, invalid = counts.partition(" ")
    try:
        tally = LogprobTally(float(total), int(tokens), int(invalid or 0))
    except ValueError:
        return None
    counted = tally.tokens > 0 and tally.invalid_calls >= 0
    return tally if math.isfinite(tally.total) and counted else None
