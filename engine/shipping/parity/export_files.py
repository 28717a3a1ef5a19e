"""What every reader of a folder of weights takes from its files: tokenizer, settings, matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.shipping import twice_written
from engine.shipping.model_settings import ModelSettings
from engine.shipping.parity.asked import ParityQuestions
from store.contract.jobdir import read_json
from store.contract.no_code import NO_CODE


class ExportFiles:
    """The folder of one check. Readers derive from it; nothing of the weights is loaded here."""

    def __init__(self, asked: ParityQuestions) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.asked, self.folder = asked, Path(asked["export"])
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, **NO_CODE)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        settings = read_json(self.folder / "config.json") or read_json(
            Path(asked["base"] or "") / "config.json"
        )
        self.config: ModelSettings = settings or {}

    @property
    def context(self) -> int | None:
        return self.config.get("max_position_embeddings")

    @property
    def rope_base(self) -> float | None:
        return twice_written.rope_base(self.config)

    @property
    def begin_token(self) -> int | None:
        token: int | None = self.tokenizer.bos_token_id
        return token

    def ids(self, text: str) -> list[int]:
        headed = self.asked["labels"] is not None  # a head reads a text with what its tokenizer adds
        ids: list[int] = self.tokenizer(text, add_special_tokens=headed).input_ids
        return ids

    def ends(self) -> set[int]:
        """Tokens that end an answer: those of generation_config.json and the tokenizer's."""
        folder = self.folder if self.asked["base"] is None else Path(self.asked["base"])
        named = (read_json(folder / "generation_config.json") or {}).get("eos_token_id")
        return {self.tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}

    def zeroed(self) -> list[str]:
        """Matrices of the weights' files that are nothing but zeros; an adapter's may be."""
        if self.asked["base"] is not None:
            return []
        from safetensors import safe_open

        names = []
        for file in sorted(self.folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    if name.endswith(("_shape", "_zero_point")) or "absmax" in name:
                        continue  # beside packed weights; zeros are usual there
                    shape = tensors.get_slice(name).get_shape()
                    if len(shape) > 1 and not tensors.get_tensor(name).any():
                        names.append(name)
        return names


def trimmed(tokens: list[int], ends: set[int]) -> list[int]:
    """Up to the first closing token, with it."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens
