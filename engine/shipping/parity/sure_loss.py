"""A bet against "it loses no more than its form may": once it has won enough, no row more has to be asked.

Each row multiplies the capital by 1 + STAKE * (its nats - limit * its tokens) / (limit * most tokens). That
is never negative, and on average at most 1 where the mean divergence over tokens is at most the limit: then
the capital ever reaches 1 / ALPHA with a chance of ALPHA at most, however often one looks (Ville).
"""

from __future__ import annotations

from collections.abc import Sequence

ALPHA = 0.005
STAKE = 0.9
MIN_ROWS = 20  # that are asked in any case, so that figures have intervals


class SureLoss:
    """One bet. limit: nats a token, from which on the form has failed; most: tokens of a row at most."""

    def __init__(self, limit: float, most: int) -> None:
        self.limit, self.most = limit, most
        self.capital, self.rows = 1.0, 0

    def bet(self, row: Sequence[float]) -> bool:
        """On a further row that was drawn at random; whether it is sure now."""
        gain = (sum(row) - self.limit * len(row)) / (self.limit * self.most)
        self.capital *= 1 + STAKE * gain
        self.rows += 1
        return self.rows >= MIN_ROWS and self.capital >= 1 / ALPHA
