"""One validation of a run, as everything that looks at its course reads it."""

from __future__ import annotations

from typing import TypedDict

from numpy.typing import ArrayLike


class Validation(TypedDict):
    """`loss_sums` (nats) and `tokens` have one entry for each of `row_ids`."""

    step: int
    row_ids: ArrayLike
    loss_sums: ArrayLike
    tokens: ArrayLike
