"""Prompts with trees of answers through the packed forward of a CPU.

Tokens of a batch lie behind each other: what all its prompts begin with, the rest of each prompt, then runs
of each tree's nodes. Every such piece sees itself and what is ahead of it in its own row, so that no prompt
is passed twice and attention skips what other runs hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.forward import packable, token_tree
from engine.forward.batches import CPU_TOKENS
from engine.forward.fused import HEAD_ROWS
from engine.forward.packed import MULTIPLE, passed
from engine.forward.packed_attention import MULTIPLE as KEYS
from engine.forward.packed_attention import HeadCounts, RowGroup, behind, groups
from engine.forward.token_tree import TreeRow

TOKENS = {"cpu": CPU_TOKENS["full"], "cuda": 16_384}  # of a batch
SHARED = 16  # tokens; a shorter beginning is not worth the longer keys
RUN = 96  # nodes


@dataclass(frozen=True)
class _Piece:
    """Neighbouring tokens of one row, `places` of them in the row; it sees `ahead` (places in the batch) and
    of itself what `sees` says."""

    row: int
    places: np.ndarray
    ahead: np.ndarray
    sees: np.ndarray


class Packed:
    """The forward of one model; head_rows: whose logits are made at a time."""

    most_picked = TOKENS["cpu"]  # logits are made in pieces

    def __init__(self, parts: packable.ModelParts, head_rows: int = HEAD_ROWS) -> None:
        self.parts, self.head_rows = parts, head_rows
        self.head = parts.causal.get_output_embeddings()
        config = parts.causal.config
        self.heads = HeadCounts(config.num_attention_heads, config.num_key_value_heads)

    def logits(self, rows: Sequence[TreeRow]) -> Iterator[Tensor]:
        """After the last token of each row's prompt and its nodes, of all rows behind each other, in parts;
        those after the last row are of spare ones."""
        shared = token_tree.common([row.ids for row in rows]) if len(rows) > 1 else 0
        shared = shared if shared >= SHARED else 0
        sets = _pieces(rows, shared)
        whole = [rows[0].tokens[:shared]], [np.arange(shared)]
        where = [np.zeros(len(row), np.int64) for row in rows]  # each token of a row in the batch
        start = shared
        for piece in (piece for pieces in sets for piece in pieces):
            row = rows[piece.row]
            whole[0].append(row.tokens[piece.places])
            whole[1].append(row.positions[piece.places])
            where[piece.row][piece.places] = np.arange(start, start + len(piece.places))
            start += len(piece.places)
        filler = np.zeros(MULTIPLE - start % MULTIPLE, np.int64)
        tokens, positions = (torch.from_numpy(np.concatenate([*parts, filler])) for parts in whole)
        picked = np.concatenate([at[len(row.ids) - 1 :] for at, row in zip(where, rows, strict=True)])
        picked = np.concatenate([picked, np.full(-len(picked) % MULTIPLE, start)])
        grouped = self._groups(shared, sets, start)
        hidden = passed(self.parts, tokens, positions, torch.from_numpy(picked), grouped)
        for part in hidden.split(self.head_rows):
            yield self.head(part)

    def _groups(self, shared: int, sets: Sequence[Sequence[_Piece]], spare: int) -> list[RowGroup]:
        row_groups = groups([shared], self.heads, spare) if shared else []
        start = shared
        for pieces in sets:
            lengths = [len(piece.places) for piece in pieces]
            ahead = [torch.from_numpy(piece.ahead) for piece in pieces]
            seen = token_tree.mask([len(each) for each in ahead], [piece.sees for piece in pieces], KEYS)
            mask = added(seen, self.parts.causal.dtype)
            row_groups.append(behind(start, lengths, ahead, self.heads, spare, mask))
            start += sum(lengths)
        return row_groups


def _pieces(rows: Sequence[TreeRow], shared: int) -> list[list[_Piece]]:
    """Those that may be computed together: prompts (with all nodes, where they are few), runs of nodes."""
    ahead = np.arange(shared)
    prompts: list[_Piece] = []
    runs: list[_Piece] = []
    start = shared
    for i, row in enumerate(rows):
        prompt = len(row.ids)
        few = len(row.tree.tokens) <= RUN
        end = len(row) if few else prompt
        prompts.append(_Piece(i, np.arange(shared, end), ahead, row.visible[shared:end, shared:end]))
        before = np.concatenate([ahead, np.arange(start, start + prompt - shared)])
        start += end - shared
        for run in [] if few else row.tree.runs(RUN):
            places = np.arange(prompt + run.start, prompt + run.stop)
            runs.append(_Piece(i, places, before, row.tree.visible[run, run]))
    return [pieces for pieces in (prompts, runs) if pieces]


def added(visible: np.ndarray, dtype: torch.dtype) -> Tensor:
    """What is added to scores where that is what is seen."""
    unseen = torch.from_numpy(~visible)
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(unseen, torch.finfo(dtype).min)
