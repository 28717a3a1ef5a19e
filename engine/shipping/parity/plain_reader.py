"""An export read by the transformers of another environment, which has little else of what we work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from engine.shipping.parity.asked import ParityQuestions
from engine.shipping.parity.export_files import ExportFiles, trimmed
from engine.shipping.parity.reading import AskedText, read_alone
from store.contract.no_code import NO_CODE

TIMED_PROMPTS, TIMED_TOKENS = 2, 32
AT_ONCE = 16


class PlainReader(ExportFiles):
    """Whole weights of a language model, one text at a time."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        import torch
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=getattr(torch, asked["dtype"]), use_safetensors=True, **NO_CODE
        )
        self.model = model.to(asked["device"]).eval()

    @property
    def engine(self) -> str:
        import transformers

        return f"transformers {transformers.__version__}"

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """[places, vocabulary] of what stands before each of these places."""
        import torch

        inputs = torch.tensor([ids], device=self.asked["device"])
        before = torch.tensor([place - 1 for place in places], device=self.asked["device"])
        with torch.inference_mode():
            out = self.model(input_ids=inputs, use_cache=False, logits_to_keep=before).logits[0]
        made: np.ndarray = out.float().cpu().numpy()
        return made

    def read(self, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]:
        """Of each group the logits [places, vocabulary] of its texts."""
        return read_alone(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether an answer ends with it."""
        return token in self.ends()

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Greedy."""
        new: list[list[int]] = []
        for start in range(0, len(prompts), AT_ONCE):
            new += self._generate(prompts[start : start + AT_ONCE], self.asked["max_new_tokens"])
            on_done(len(new), len(prompts))
        return new

    def _generate(self, prompts: list[list[int]], most: int) -> list[list[int]]:
        import torch

        width, pad, ends = max(map(len, prompts)), self.tokenizer.pad_token_id, self.ends()
        rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
        seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        device = self.asked["device"]
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(seen, device=device),
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=sorted(ends),
                pad_token_id=pad,
            )
        return [trimmed(row, ends) for row in made[:, width:].tolist()]

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Tokens a second of a few prompts that come alone."""
        began = time.perf_counter()
        made = sum(len(self._generate([prompt], TIMED_TOKENS)[0]) for prompt in prompts[:TIMED_PROMPTS])
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """No form that is read here has a head."""
        raise ValueError("This form has no classification head.")
