"""The capacity of a batch: what is reserved for prompts in progress is not given to running answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.serving.torch_backend.batch import ANSWER_CHUNK_TOKENS, PROMPT_CHUNK_TOKENS, Batch
from engine.serving.torch_backend.batched_forward import PromptChunk
from engine.serving.torch_backend.decoding import GenerationRequest, SamplingParams, TokenSampler
from engine.serving.torch_backend.loading import ServedName
from tests.tiny import make_tokenizer

PROMPT, LONG_PROMPT = 4, 20 * PROMPT_CHUNK_TOKENS
FIRST = PROMPT + ANSWER_CHUNK_TOKENS  # tokens reserved for a request with an unlimited answer


class EndlessForward:
    """A model that always predicts the same token."""

    batches_prompts = True

    def __init__(self, tokenizer: Any) -> None:
        self.logits = torch.zeros(len(tokenizer))
        self.logits[tokenizer("a", add_special_tokens=False).input_ids[0]] = 9.0

    def extend(self, chunks: Sequence[PromptChunk]) -> list[Tensor]:
        return [self.logits for _ in chunks]

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        return torch.stack([self.logits for _ in keys])

    def release(self, key: int) -> None: ...

    def fork(self, key: int, copy: int, /) -> None: ...


def test_choices_of_a_prompt_in_progress_keep_their_room() -> None:
    """Two answers use up their chunks while a prompt with three choices is read: only the oldest may grow."""
    tokenizer = make_tokenizer()
    name = ServedName(-1, tokenizer, frozenset())
    sent: dict[str, list[Any]] = {"oldest": [], "second": [], "choices": []}

    def request(own: str, length: int, max_tokens: int, choices: int) -> GenerationRequest:
        samplers = [TokenSampler(SamplingParams(temperature=0), None, place) for place in range(choices)]
        return GenerationRequest(name, [1] * length, max_tokens, samplers, (), sent[own].append)

    wanted = 3 * (LONG_PROMPT + 1)
    batch = Batch(EndlessForward(tokenizer), rows=8, tokens=2 * FIRST + wanted + ANSWER_CHUNK_TOKENS)
    batch.submit(request("oldest", PROMPT, 10_000, 1))
    batch.submit(request("second", PROMPT, 10_000, 1))
    for _ in range(ANSWER_CHUNK_TOKENS - 1):
        batch.run_step()
    batch.submit(request("choices", LONG_PROMPT, 1, 3))
    for _ in range(4):
        batch.run_step()
    assert not sent["choices"], "its prompt is still being read"
    assert len(sent["oldest"]) > len(sent["second"])
    while not sent["choices"]:
        batch.run_step()
    before = len(sent["second"])
    batch.run_step()
    assert len(sent["second"]) > before, "its room is free again"
