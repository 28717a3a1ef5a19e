"""The forward of any model by its own code: each row by itself, with a cache of its own, rows taking turns.

For architectures, kinds of weights and adapters that `batched` does not compute.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from engine.forward import trained_prompts
from engine.forward.generation import head_given_whole_rows
from engine.models.switching import AdapterSwitch
from engine.serving.worker.batched import PromptPiece
from engine.serving.worker.linear_layers import BASE


@dataclass
class CachedRow:
    """What a row has behind it. position: of its next token, where trained prompts make it no mere count."""

    adapter: int
    cache: Any = None
    position: int | None = None


class AloneForward:
    """One model, with the adapters `names` of its switch, numbered from 0 (BASE: none)."""

    def __init__(self, model: Any, switch: AdapterSwitch | None, names: Sequence[str], device: str) -> None:
        self._model, self._switch, self._names, self._device = model, switch, list(names), device
        self._rows: dict[int, CachedRow] = {}
        self.joins = False

    def extend(self, pieces: Sequence[PromptPiece]) -> list[Tensor]:
        """More tokens of prompts of as many rows; of each the scores of what may follow its last one,
        [vocabulary] in fp32."""
        rows = [self._rows.setdefault(piece.key, CachedRow(piece.adapter)) for piece in pieces]
        return [self._passed(row, piece.tokens) for row, piece in zip(rows, pieces, strict=True)]

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """One more token of each of these rows; the scores of the next ones [rows, vocabulary] in fp32."""
        return torch.stack(
            [self._passed(self._rows[key], [token]) for key, token in zip(keys, tokens, strict=True)]
        )

    def release(self, key: int) -> None:
        """Forget a row."""
        self._rows.pop(key, None)

    def fork(self, key: int, other: int) -> None:
        """A second row that begins as the first one is."""
        self._rows[other] = copy.deepcopy(self._rows[key])

    def _passed(self, row: CachedRow, tokens: Sequence[int]) -> Tensor:
        if self._switch is not None:
            self._switch.to("" if row.adapter == BASE else self._names[row.adapter])
        base: Any = self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model
        ids = torch.tensor([list(tokens)], device=self._device)
        given: dict[str, Tensor] = {"input_ids": ids}
        with torch.inference_mode(), head_given_whole_rows(base):
            if row.cache is None:
                row.cache = DynamicCache(config=self._model.config)
                if trained_prompts.prompted(self._model):
                    ahead = trained_prompts.tokens(self._model)
                    counted = torch.arange(ahead + ids.shape[1], device=ids.device)[None]
                    given, row.cache, positions = trained_prompts.first_step(self._model, ids, counted)
                    given["position_ids"] = positions
                    row.position = int(positions[0, -1]) + 1
            elif row.position is not None:
                places = torch.arange(row.position, row.position + len(tokens), device=ids.device)
                given["position_ids"] = places[None]
                row.position += len(tokens)
            out = base(**given, cache=row.cache, use_cache=True, logits_to_keep=1)
            row.cache = out.cache
            scores: Tensor = out.logits[0, -1].float()
            return scores
