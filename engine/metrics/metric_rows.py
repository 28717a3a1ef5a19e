"""What a metric is asked, and what it answers: rows that have all that it needs, a score for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.metrics.answer_rows import Answers
from store.contract.home import Home


@dataclass
class Asked:
    """`rows` have an entry in every column that the metric needs. `check` may raise to stop."""

    rows: Answers
    home: Home
    confidence: float
    check: Callable[[], None]

    @property
    def predictions(self) -> list[str]:
        return [text or "" for text in self.rows.predictions or ()]

    @property
    def truths(self) -> list[str]:
        """The label of each row."""
        return [text or "" for text in self.rows.truths or ()]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(answer, reference) of each row."""
        references = [text or "" for text in self.rows.references or ()]
        return list(zip(self.predictions, references, strict=True))


@dataclass
class Found:
    """`scores`, one a row, NaN where there is none, for which `reasons` (place -> why) says why where it
    should have one. The rest is as in `engine.diagnostics.statistics.scored.Scored`."""

    scores: np.ndarray
    estimator: str = "mean"
    statistics: np.ndarray | None = None
    labels: Sequence[str] = ()
    reasons: dict[int, str] = field(default_factory=dict)
    whole: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""

    @classmethod
    def nothing(cls, rows: int) -> Found:
        """No row has a score yet."""
        return cls(np.full(rows, np.nan))
