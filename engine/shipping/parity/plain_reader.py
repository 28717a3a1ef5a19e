"""An export read by the transformers of another environment, which has little else of what we work with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.shipping.parity.asked import ParityQuestions
from engine.shipping.parity.export_files import ExportFiles

TIMED_PROMPTS = 4


class PlainReader(ExportFiles):
    """Whole weights of a language model, one text at a time."""

    def __init__(self, asked: ParityQuestions) -> None:
        super().__init__(asked)
        import torch
        from transformers import AutoModelForCausalLM

        self.model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=getattr(torch, asked["dtype"]), trust_remote_code=asked["trust_remote_code"]
        )
        self.model = self.model.to(asked["device"]).eval()

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

    def answers(
        self, prompts: list[list[int]], on_done: Callable[[int, int], None]
    ) -> tuple[list[list[int]], float | None]:
        """Greedy, and tokens a second of the first prompts."""
        ends, new, seconds = self.ends(), [], 0.0
        for done, prompt in enumerate(prompts, start=1):
            began = time.perf_counter()
            new.append(self._answer(prompt, ends))
            seconds += time.perf_counter() - began if done <= TIMED_PROMPTS else 0.0
            on_done(done, len(prompts))
        made = sum(map(len, new[:TIMED_PROMPTS]))
        return new, made / seconds if made else None

    def _answer(self, prompt: list[int], ends: set[int]) -> list[int]:
        import torch

        new: list[int] = []
        part, cache = prompt, None
        while len(new) < self.asked["max_new_tokens"]:
            inputs = torch.tensor([part], device=self.asked["device"])
            with torch.inference_mode():
                out = self.model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            new.append(int(out.logits[0, -1].argmax()))
            if new[-1] in ends:
                break
            part = [new[-1]]
        return new

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """No form that is read here has a head."""
        raise ValueError("This form has no classification head.")
