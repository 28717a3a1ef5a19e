"""Rows of a model's answers as every metric reads them, one entry per row in each column.

Also a metric's input, the rows that have everything it needs, and its output, a score for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from store.core.address_policy import PUBLIC, AddressPolicy
from store.core.home import Home

if TYPE_CHECKING:  # importing scipy takes longer than most metrics
    from engine.evaluation.statistics.metric_estimates import WholeFigure

Texts = Sequence[str | None]

COLUMNS = ("predictions", "references", "prompts", "labels", "groups", "loss_sum", "tokens", "bytes",
           "log_probabilities", "choices", "rights", "choice_scores")  # fmt: skip
NO_PREDICTION = "no answer was generated"
NO_REFERENCE = "the row has no reference"
NO_LABEL = "the row has no label"
NO_CHOICES = "the choices of the row could not be scored"
NO_PROMPT = "the row has no prompt"


@dataclass
class Answers:
    """Answers of one model. A column is None if the evaluation doesn't have it; an entry is None if that row
    doesn't have it. An empty prediction is an answer, and is scored as one.

    loss_sum (nats), tokens and bytes are those of the reference under the model. log_probabilities [rows,
    classes] belong to `classes`. choices: the texts of multiple choice, with the index of the right one in
    `rights` and the summed log-probability of each in `choice_scores`. groups: rows with the same value are
    related and are resampled together.
    """

    row_ids: np.ndarray
    predictions: Texts | None = None
    references: Texts | None = None
    prompts: Texts | None = None
    labels: Texts | None = None
    groups: Sequence[Any] | None = None
    loss_sum: np.ndarray | None = None
    tokens: np.ndarray | None = None
    bytes: np.ndarray | None = None
    log_probabilities: np.ndarray | None = None
    choices: Sequence[Sequence[str] | None] | None = None
    rights: Sequence[int | None] | None = None
    choice_scores: Sequence[Sequence[float] | None] | None = None
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != len(self.row_ids):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.row_ids)} rows.")

    def __len__(self) -> int:
        return len(self.row_ids)

    @classmethod
    def of_table(cls, table: pa.Table, *, group: str | None = None) -> Answers:
        """Build from a table with `row_id`, `prediction`, and any of reference, prompt, label, loss_sum,
        tokens, bytes and the column `group`.
        """

        def column(name: str | None) -> Any:
            return table[name].to_pylist() if name and name in table.column_names else None

        def numbers(name: str) -> Any:
            entries = column(name)
            return None if entries is None else np.array([np.nan if x is None else x for x in entries], float)

        return cls(
            np.array(table["row_id"].to_pylist(), np.int64),
            predictions=column("prediction"),
            references=column("reference"),
            prompts=column("prompt"),
            labels=column("label"),
            groups=column(group),
            loss_sum=numbers("loss_sum"),
            tokens=numbers("tokens"),
            bytes=numbers("bytes"),
            choices=column("choices"),
            rights=column("answer_index"),
            choice_scores=column("choice_scores"),
        )

    def take(self, places: Any) -> Answers:
        """Return these rows only."""

        def some(column: Any) -> Any:
            if column is None or isinstance(column, np.ndarray):
                return None if column is None else column[places]
            return [column[place] for place in places]

        return replace(self, **{name: some(getattr(self, name)) for name in ("row_ids", *COLUMNS)})

    def missing(self, needs: Sequence[str]) -> str:
        """Return why a metric with these needs can't be measured at all; empty if it can."""
        have = {
            "prediction": self.predictions is not None,
            "reference": self.references is not None,
            "prompt": self.prompts is not None,
            "label": self.labels is not None or self.references is not None,
            "losses": self.loss_sum is not None and self.tokens is not None,
            "bytes": self.bytes is not None,
            "probabilities": self.log_probabilities is not None,
            "choices": self.choice_scores is not None,
        }
        lacking = [need for need in needs if not have[need]]
        return f"The rows have no {' and no '.join(lacking)}." if lacking else ""

    def gaps(self, needs: Sequence[str]) -> dict[int, str]:
        """Return the reason for each row that lacks something of `needs`, by row index."""
        columns = {
            "prediction": (self.predictions, NO_PREDICTION),
            "reference": (self.references, NO_REFERENCE),
            "prompt": (self.prompts, NO_PROMPT),
            "label": (self.truths, NO_LABEL),
            "choices": (self.choice_scores, NO_CHOICES),
        }
        missing_entries: dict[int, str] = {}
        for need in needs:
            column, reason = columns.get(need, (None, ""))
            for place, entry in enumerate(column or ()):
                if entry is None:
                    missing_entries.setdefault(place, reason)
        return missing_entries

    @property
    def truths(self) -> Texts | None:
        """Label of each row; the reference if there are no labels."""
        return self.labels if self.labels is not None else self.references

    @property
    def empty(self) -> int:
        """Number of rows whose answer is only white space."""
        return sum(text is not None and not text.strip() for text in self.predictions or ())


@dataclass
class MetricInput:
    """Input of a metric. `rows` have an entry in every column that it needs. `check` may raise to stop."""

    rows: Answers
    home: Home
    confidence: float
    check: Callable[[], None]
    policy: AddressPolicy = PUBLIC  # addresses allowed for a judge

    @property
    def predictions(self) -> list[str]:
        return [text or "" for text in self.rows.predictions or ()]

    @property
    def truths(self) -> list[str]:
        """Label of each row."""
        return [text or "" for text in self.rows.truths or ()]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(answer, reference) for each row."""
        references = [text or "" for text in self.rows.references or ()]
        return list(zip(self.predictions, references, strict=True))


@dataclass
class MetricScores:
    """Scores of a metric, one per row. A score is NaN if there is none; if there should be one, `reasons`
    says why by row index. The rest is as in `engine.evaluation.statistics.metric_estimates.RowScores`.
    """

    scores: np.ndarray
    estimator: str = "mean"
    statistics: np.ndarray | None = None
    labels: Sequence[str] = ()
    reasons: dict[int, str] = field(default_factory=dict)
    whole: WholeFigure | None = None
    details: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""

    @classmethod
    def nothing(cls, rows: int) -> MetricScores:
        """Return scores in which no row has a score yet."""
        return cls(np.full(rows, np.nan))
