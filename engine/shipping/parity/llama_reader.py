"""A GGUF file read by llama.cpp: its own template, tokenizer, positions and stop tokens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from engine.forward import token_tree
from engine.shipping import llama_library
from engine.shipping.llama_library import GgufModel
from engine.shipping.parity.asked import ParityQuestions
from engine.shipping.parity.reading import AskedText, read_alone
from store.contract.no_code import NO_CODE

ROPE_USUAL = 10_000.0  # where a file says nothing
ROOM = 64  # tokens of the context beside prompt and answer
TIMED_PROMPTS = 2
UNMERGED = 2  # dimensions of a matrix


class LlamaReader:
    """The file of one check. `tokenizer` renders with the file's template, and makes no ids."""

    def __init__(self, asked: ParityQuestions, tokenizer_folder: str) -> None:
        self.asked, self.file = asked, Path(asked["export"])
        texts = [
            *asked["answers"]["ids"],
            *asked["rows"]["ids"],
            *asked["joined"]["ids"],
            *asked["prompt_ids"],
        ]
        longest = max((len(ids) for ids in texts), default=0)
        self.passed: list[int] = []  # the text whose tokens the model holds
        self.gguf = GgufModel(self.file, longest + asked["max_new_tokens"] + ROOM, _threads())
        self.tokenizer = self._renderer(tokenizer_folder)

    def _renderer(self, folder: str) -> Any:
        """Jinja as transformers runs it, with the template and the special tokens that the file has."""
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **NO_CODE)
        tokenizer.chat_template = self.gguf.text("tokenizer.chat_template")
        return tokenizer

    @property
    def engine(self) -> str:
        return llama_library.version()

    @property
    def context(self) -> int:
        return self.gguf.trained_context

    @property
    def rope_base(self) -> float:
        kind = self.gguf.text("general.architecture")
        return float(self.gguf.text(f"{kind}.rope.freq_base") or ROPE_USUAL)

    @property
    def begin_token(self) -> int | None:
        return self.gguf.begins

    def ids(self, text: str) -> list[int]:
        return self.gguf.tokens(text)

    def logits(self, ids: list[int], places: list[int]) -> np.ndarray:
        """[places, vocabulary] of what stands before each of these places."""
        alike = token_tree.common([self.passed, ids]) if self.passed else 0
        begin = self.gguf.forget(min(alike, min(places) - 1))
        self.passed = []  # where llama.cpp fails on the way, nobody knows what it holds
        logits = self.gguf.logits(ids[begin:], begin, [place - 1 - begin for place in places])
        self.passed = ids
        return logits

    def read(self, groups: Sequence[list[AskedText]]) -> Iterator[list[np.ndarray]]:
        """Of each group the logits [places, vocabulary] of its texts."""
        return read_alone(self.logits, groups)

    def ends_answer(self, token: int) -> bool:
        """Whether an answer ends with it."""
        return self.gguf.ends(token)

    def answers(self, prompts: list[list[int]], on_done: Callable[[int, int], None]) -> list[list[int]]:
        """Greedy, one prompt at a time."""
        answers = []
        for done, prompt in enumerate(prompts, start=1):
            answers.append(self._answer(prompt))
            on_done(done, len(prompts))
        return answers

    def pace(self, prompts: list[list[int]]) -> float | None:
        """Tokens a second of a few prompts."""
        began = time.perf_counter()
        made = sum(len(self._answer(prompt)) for prompt in prompts[:TIMED_PROMPTS])
        seconds = time.perf_counter() - began
        return made / seconds if made else None

    def _answer(self, prompt: list[int]) -> list[int]:
        self.gguf.forget()
        self.passed = []
        new: list[int] = []
        part, begin = prompt, 0
        while len(new) < self.asked["max_new_tokens"]:
            token = int(self.gguf.logits(part, begin, [len(part) - 1])[0].argmax())
            new.append(token)
            if self.gguf.ends(token):
                break
            begin += len(part)
            part = [token]
        return new

    def classes(self, texts: list[str], on_done: Callable[[int, int], None]) -> np.ndarray:
        """A GGUF file of a language model has no head."""
        raise ValueError("A GGUF file has no classification head.")

    def zeroed(self) -> list[str]:
        """Matrices that are nothing but zeros, in whatever form they lie."""
        from gguf import GGUFReader

        tensors = GGUFReader(self.file).tensors
        return [each.name for each in tensors if len(each.shape) >= UNMERGED and not each.data.any()]


def _threads() -> int:
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
