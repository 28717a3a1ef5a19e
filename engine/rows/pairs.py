"""Pairs of answers to one prompt, tokenised: prompt + chosen answer and prompt + rejected answer.

A pair is a row like any other, so that splitting, batching and cutting need not know of it: its tokens are
those of the chosen sequence, then those of the rejected one. Only the last answer is trained, as what comes
before it is the same in both. A pair of which one answer has no trained token, or whose two sequences are
equal, has none at all, and its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.rows.render import EQUAL, TokenRows


@dataclass
class TokenPairs(TokenRows):
    """splits int64 [n]: how many tokens of a row are its chosen sequence's."""

    splits: np.ndarray

    @property
    def sequences(self) -> TokenRows:
        """Both sequences as rows: 2i is the chosen one of pair i, 2i + 1 the rejected one."""
        starts = np.empty(2 * len(self) + 1, np.int64)
        starts[:-1:2], starts[1::2] = self.starts[:-1], self.starts[:-1] + self.splits
        starts[-1] = self.starts[-1]
        both = np.repeat(self.row_ids, 2), np.repeat(self.reasons, 2)
        return TokenRows(both[0], starts, self.ids, self.trained, both[1])

    @property
    def chosen(self) -> TokenRows:
        """The chosen sequences alone."""
        return self.sequences.take(np.arange(0, 2 * len(self), 2))

    @property
    def rejected(self) -> TokenRows:
        """The rejected sequences alone."""
        return self.sequences.take(np.arange(1, 2 * len(self), 2))

    @property
    def sequence_lengths(self) -> np.ndarray:
        """Tokens of each sequence that the model reads: two for each pair."""
        return self.sequences.lengths

    def take(self, indices: np.ndarray) -> TokenPairs:
        """The pairs at `indices`, in that order."""
        rows = super().take(indices)
        return TokenPairs(
            rows.row_ids, rows.starts, rows.ids, rows.trained, rows.reasons, self.splits[indices]
        )

    def truncated(self, max_length: int) -> tuple[TokenPairs, int, int]:
        """Both sequences cut to `max_length` tokens, how many pairs were cut, and the trained tokens lost."""
        shorter, _, _ = self.sequences.truncated(max_length)
        cut = _paired(shorter)
        long = (self.sequence_lengths > max_length).reshape(-1, 2).any(axis=1)
        return cut, int(long.sum()), int(self.trained.sum()) - int(cut.trained.sum())


def join(chosen: TokenRows, rejected: TokenRows) -> TokenPairs:
    """The pairs of two renderings of the same rows in the same order."""
    order = np.arange(2 * len(chosen)).reshape(2, -1).T.ravel()
    return _paired(_last_answers(_one_after_another(chosen, rejected)).take(order))


def _one_after_another(first: TokenRows, second: TokenRows) -> TokenRows:
    return TokenRows(
        np.concatenate([first.row_ids, second.row_ids]),
        np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.trained, second.trained]),
        np.concatenate([first.reasons, second.reasons]),
    )


def _last_answers(rows: TokenRows) -> TokenRows:
    """The rows with their last run of trained tokens alone: the first token of a row is never trained, so
    that no run crosses into the next row."""
    places = np.arange(len(rows.ids))
    row_of = np.repeat(np.arange(len(rows)), rows.lengths)
    last = np.full(len(rows), -1)
    last[row_of[rows.trained]] = places[rows.trained]  # the last assignment to a row wins
    before = np.maximum.accumulate(np.where(rows.trained, -1, places)) if len(places) else places
    begin = before[last] if len(places) else last
    trained = (places > begin[row_of]) & (places <= last[row_of])
    return TokenRows(rows.row_ids, rows.starts, rows.ids, trained, rows.reasons)


def _paired(sequences: TokenRows) -> TokenPairs:
    """Pairs from rows that lie chosen, rejected, chosen, rejected …"""
    lengths = sequences.lengths.reshape(-1, 2)
    reasons = sequences.reasons.reshape(-1, 2)
    reasons = np.where(reasons[:, 0] > 0, reasons[:, 0], reasons[:, 1]).astype(np.uint8)
    for pair in np.flatnonzero((reasons == 0) & (lengths[:, 0] == lengths[:, 1])).tolist():
        if np.array_equal(sequences.row(2 * pair)[0], sequences.row(2 * pair + 1)[0]):
            reasons[pair] = EQUAL
    trained = sequences.trained & np.repeat(reasons == 0, lengths.sum(axis=1))
    return TokenPairs(
        sequences.row_ids[::2], sequences.starts[::2], sequences.ids, trained, reasons, lengths[:, 0].copy()
    )
