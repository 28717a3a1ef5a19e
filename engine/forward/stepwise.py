"""One answer, a token at a time, with what the model thought of each: for somebody who reads along.

The tokens are those that `engine.forward.generation` would give for the prompt alone: the same model and
cache, the same closing tokens. Whoever asks for the next token decides whether there is one, so that several
answers can take turns on one model and each can be left at any token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.forward import trained_prompts
from engine.forward.generation import head_given_whole_rows

ALTERNATIVES = 5


@dataclass(frozen=True)
class DrawnFrom:
    """How a token is chosen. temperature 0: the likeliest one; top_k 0: of all. The order in which the
    distribution is changed is that of transformers: repetition, temperature, top k, top p."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0

    def processors(self) -> LogitsProcessorList:
        """What changes the scores before a token is drawn."""
        chosen: list[Any] = []
        if self.repetition_penalty != 1:
            chosen.append(RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.temperature not in (0, 1):
            chosen.append(TemperatureLogitsWarper(self.temperature))
        if self.temperature and self.top_k:
            chosen.append(TopKLogitsWarper(self.top_k))
        if self.temperature and self.top_p < 1:
            chosen.append(TopPLogitsWarper(self.top_p))
        return LogitsProcessorList(chosen)


@dataclass(frozen=True)
class Step:
    """A token. logprob: of the token, in nats, by the model's own distribution, whatever it was drawn from;
    alternatives: the likeliest tokens with theirs, the likeliest first."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...]


class NotANumber(Exception):
    """The model's scores of the next token are no numbers."""


def steps(model: Any, prompt: Sequence[int], how: DrawnFrom, device: str | torch.device) -> Iterator[Step]:
    """Tokens that follow the prompt, without an end; closing ones are given like all others.

    Raises NotANumber. The model has to be in evaluation mode, and its adapter as it was whenever the next
    token is asked for.
    """
    processors = how.processors()
    generator = torch.Generator(device=device).manual_seed(how.seed)
    seen = torch.tensor([list(prompt)], dtype=torch.long, device=device)
    given, cache, positions = _opened(model, seen)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # with its adapters
    while True:
        with torch.inference_mode(), head_given_whole_rows(base):
            out = base(**given, **positions, cache=cache, use_cache=True, logits_to_keep=1)
            scores = out.logits[:, -1].float()
            logprobs = scores.log_softmax(-1)
            if logprobs.isnan().any():
                raise NotANumber
            scores = processors(seen, scores) if processors else scores  # type: ignore[arg-type]
            if how.temperature:
                token = torch.multinomial(scores.softmax(-1), 1, generator=generator)
            else:
                token = scores.argmax(-1, keepdim=True)
            best = logprobs[0].topk(min(ALTERNATIVES, logprobs.shape[-1]))
            alternatives = tuple(
                (token_id, value)
                for token_id, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                if value > -torch.inf  # of a token that the model can't say
            )
            chosen = int(token)
            step = Step(chosen, float(logprobs[0, chosen]), alternatives)
            if processors:
                seen = torch.cat([seen, token], dim=1)
        yield step
        given, cache = {"input_ids": token}, out.cache
        if positions:
            positions = {"position_ids": positions["position_ids"][:, -1:] + 1}


def _opened(model: Any, ids: torch.Tensor) -> tuple[dict[str, Any], Any, dict[str, torch.Tensor]]:
    """What the base model is given first, its cache, and positions where these are not simply counted."""
    if not trained_prompts.prompted(model):
        return {"input_ids": ids}, DynamicCache(config=model.config), {}
    with torch.inference_mode():
        ahead = trained_prompts.tokens(model)
        counted = torch.arange(ahead + ids.shape[1], device=ids.device)[None]
        given, cache, positions = trained_prompts.first_step(model, ids, counted)
    return given, cache, {"position_ids": positions}
