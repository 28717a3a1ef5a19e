"""How sure a model was of its answer, told beside the protocol and never in it.

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

    @property
    def mean(self) -> float | None:
        """Of a token."""
        return self.total / self.tokens if self.tokens else None

    def words(self) -> str:
        """As header and comment have it."""
        return f"{self.total!r} {self.tokens}"


def read_tally(words: str) -> LogprobTally | None:
    """None where they are no tally, or one of numbers that are none."""
    total, _, tokens = words.strip().partition(" ")
    try:
        tally = LogprobTally(float(total), int(tokens))
    except ValueError:
        return None
    return tally if math.isfinite(tally.total) and tally.tokens > 0 else None
