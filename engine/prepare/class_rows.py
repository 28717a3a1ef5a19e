"""From dealt rows to those that a classification head is trained and judged on, for preview and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.prepare.prepare import PARTS, DealtRows, TokenisedPart
from engine.rows import dataset, labelled
from engine.rows.labelled import UNSEEN, Labels
from engine.rows.render import TokenRows
from engine.rows.tokens import RowsToTokenise, tokenised
from store.config.training.train_config import TrainConfig
from store.contract.errors import DataError
from store.contract.home import Home
from store.documents.asks.preview import PreviewClasses

RowsByPart = Mapping[str, np.ndarray]
LISTED = 100  # that a preview lists, the largest


@dataclass
class ClassRows:
    """labels of all rows; `kept`: ids of the rows of each part that have a label; `whole`: the tokens, before
    they are cut, of those that are counted; unlabelled: rows without a label."""

    labels: Labels
    kept: dict[str, np.ndarray]
    whole: dict[str, TokenRows]
    unlabelled: int

    def cut(self, tokenizer: Any, limit: int) -> dict[str, TokenisedPart]:
        """Each part cut to `limit` tokens, without rows that have no token. Raises DataError for a part that
        training needs and that is empty then."""
        parts = {}
        for name, rows in self.whole.items():
            shorter, truncated, lost = labelled.cut(tokenizer, rows, limit)
            parts[name] = TokenisedPart(
                shorter, shorter.take(np.flatnonzero(shorter.lengths > 0)), truncated, lost
            )
            if name != "test" and not len(parts[name].rows):
                raise DataError(
                    f"No {name} row has a text.",
                    fix="Look at how the columns of the data set were read.",
                    field="dataset",
                )
        return parts

    def unseen(self) -> dict[str, int]:
        """Labels of held-out rows that training doesn't know, with their rows."""
        return self.labels.unseen(np.concatenate([self.kept[part] for part in PARTS[1:]]))

    def document(self) -> PreviewClasses:
        """`classes` of a preview."""
        train, validation, test = (self.counts(part).tolist() for part in PARTS)
        named: list[tuple[str, int, int, int]] = list(
            zip(self.labels.names, train, validation, test, strict=True)
        )
        named.sort(key=lambda row: (-row[1], row[0]))
        held = np.concatenate([self.kept[part] for part in PARTS[1:]])
        return {
            "count": len(named),
            "rows": named[:LISTED],
            "smallest": named[-1][1],
            "unlabelled": self.unlabelled,
            "unseen": self.unseen(),
            "unseen_rows": int((self.labels.of(held) == UNSEEN).sum()),
        }

    def counts(self, part: str) -> np.ndarray:
        """Rows of each class in a part."""
        ids = self.labels.of(self.kept[part])
        return np.bincount(ids[ids >= 0], minlength=len(self.labels.names))


def class_rows(
    home: Home,
    config: TrainConfig,
    tokenizer: Any,
    dealt: DealtRows,
    *,
    counted: Callable[[dict[str, np.ndarray]], RowsByPart] = lambda kept: kept,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> ClassRows:
    """The dealt rows with their labels and token ids. counted: picks the rows that are tokenised. Raises
    ConfigError and DataError as `labelled` does."""
    fingerprint = dealt.fingerprint
    labels, kept, unlabelled = labelled.labelled(home, fingerprint, dealt.ids)
    some = counted(kept)
    rows = tokenised(
        home,
        tokenizer,
        RowsToTokenise(
            fingerprint=fingerprint,
            row_count=dataset.open_rows(home, fingerprint).metadata.num_rows,
            row_ids=np.concatenate([some[name] for name in PARTS]),
            completion_only=config.completion_only_loss,
            load=lambda row_ids: labelled.texts(home, fingerprint, row_ids),
            encode=labelled.encode,
            variant="text alone",
        ),
        on_rows=on_rows,
    )
    return ClassRows(labels, kept, {name: rows.select(some[name]) for name in PARTS}, unlabelled)
