"""Streaming of one answer, token by token, with log-probabilities and incrementally decoded text.

Text pieces hold complete characters only, and nothing that may turn out to be part of a stop string; joined,
they are the answer up to the first stop string.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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

from engine.models import generation
from engine.models.generation import pass_whole_rows_to_head

# Token-by-token generation of one answer, for display while it is generated.
#
# The tokens are those that `engine.models.generation` would give for the prompt alone: same model, same
# cache, same closing tokens. The caller decides whether to request the next token, so that several answers
# can take turns on one model, and each can be abandoned at any token.

ALTERNATIVES = 5


@dataclass(frozen=True)
class SamplingOptions:
    """Sampling options. temperature 0: greedy; top_k 0: no limit.

    Logits are processed in the order of transformers: repetition penalty, temperature, top k, top p.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0

    def processors(self) -> LogitsProcessorList:
        """Return the logits processors to apply before sampling."""
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
class TokenStep:
    """A generated token.

    - logprob: log-probability of the token in nats under the unmodified distribution, however it was sampled
    - alternatives: the likeliest tokens with theirs, likeliest first
    """

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...]


class NonFiniteScores(Exception):
    """Raised when the model's log-probabilities for the next token are NaN."""


def stream_tokens(
    model: Any, prompt: Sequence[int], how: SamplingOptions, device: str | torch.device
) -> Iterator[TokenStep]:
    """Yield tokens that follow the prompt, endlessly; closing tokens are yielded like any other.

    Raises NonFiniteScores. The model must be in eval mode, and have the same active adapter each time the
    next token is requested.
    """
    processors = how.processors()
    generator = torch.Generator(device=device).manual_seed(how.seed)
    seen = torch.tensor([list(prompt)], dtype=torch.long, device=device)
    given, cache, positions = _prepare_first_step(model, seen)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # including its adapters
    while True:
        with torch.inference_mode(), pass_whole_rows_to_head(base):
            out = base(**given, **positions, cache=cache, use_cache=True, logits_to_keep=1)
            scores = out.logits[:, -1].float()
            logprobs = scores.log_softmax(-1)
            if logprobs.isnan().any():
                raise NonFiniteScores
            scores = processors(seen, scores) if processors else scores  # type: ignore[arg-type]
            if how.temperature:
                token = torch.multinomial(scores.softmax(-1), 1, generator=generator)
            else:
                token = scores.argmax(-1, keepdim=True)
            best = logprobs[0].topk(min(ALTERNATIVES, logprobs.shape[-1]))
            alternatives = tuple(
                (token_id, value)
                for token_id, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                if value > -torch.inf  # -inf: a token that the model can't generate
            )
            chosen = int(token)
            step = TokenStep(chosen, float(logprobs[0, chosen]), alternatives)
            if processors:
                seen = torch.cat([seen, token], dim=1)
        yield step
        given, cache = {"input_ids": token}, out.cache
        if positions:
            positions = {"position_ids": positions["position_ids"][:, -1:] + 1}


def _prepare_first_step(model: Any, ids: torch.Tensor) -> tuple[dict[str, Any], Any, dict[str, torch.Tensor]]:
    """Return the base model's first input, its cache, and the positions if they aren't consecutive from 0."""
    if not generation.has_prompt_tokens(model):
        return {"input_ids": ids}, DynamicCache(config=model.config), {}
    with torch.inference_mode():
        ahead = generation.count_prompt_tokens(model)
        counted = torch.arange(ahead + ids.shape[1], device=ids.device)[None]
        given, cache, positions = generation.prepare_first_step(model, ids, counted)
    return given, cache, {"position_ids": positions}


TokenData = TypeVar("TokenData")  # data on the token that completed a piece
BROKEN = "\ufffd"  # an incomplete character
MAX_CHARACTER_TOKENS = 5  # tokens; bytes that aren't a character by then never become one
CONTEXT_TOKENS = 8  # preceding tokens decoded along with the new ones, as white space depends on them


class TokenText:
    """Incremental decoder: the text that each token adds.

    `kept`: special tokens that are part of the text, since function calls may be written with them.
    """

    def __init__(self, tokenizer: Any, kept: frozenset[int] = frozenset()) -> None:
        self._tokenizer, self._kept = tokenizer, kept
        self._left_out = find_special_tokens(tokenizer) - kept if kept else frozenset()
        self._tokens: list[int] = []
        self._whole = 0  # tokens whose text has been returned

    def add(self, token: int) -> str:
        """Return the text that this token completes; empty within a character, and for special tokens."""
        self._tokens.append(token)
        start = max(0, self._whole - CONTEXT_TOKENS)
        before = self._decoded(self._tokens[start : self._whole])
        text = self._decoded(self._tokens[start:])
        if text.endswith(BROKEN) and len(self._tokens) - self._whole < MAX_CHARACTER_TOKENS:
            return ""
        self._whole = len(self._tokens)
        return text[len(before) :]

    def rest(self) -> str:
        """Return, at the end, what never became a complete character."""
        start = max(0, self._whole - CONTEXT_TOKENS)
        before = self._decoded(self._tokens[start : self._whole])
        self._whole = len(self._tokens)
        return self._decoded(self._tokens[start:])[len(before) :]

    def alone(self, token: int) -> str:
        """Decode a single token, with special tokens by name, for display as an alternative."""
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def _decoded(self, tokens: Sequence[int]) -> str:
        left = [token for token in tokens if token not in self._left_out]
        return str(
            self._tokenizer.decode(
                left, skip_special_tokens=not self._kept, clean_up_tokenization_spaces=False
            )
        )


def find_special_tokens(tokenizer: Any) -> frozenset[int]:
    """Return the special tokens, which are omitted from answer texts."""
    return frozenset(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)


@dataclass
class PendingPiece(Generic[TokenData]):
    """A held-back piece: its text, and data on the token that completed it."""

    text: str
    about: TokenData | None = None


class StopStrings(Generic[TokenData]):
    """Detector of stop strings that holds back text which may be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held: list[PendingPiece[TokenData]] = []
        self.stopped = False

    def add(self, text: str, about: TokenData) -> list[PendingPiece[TokenData]]:
        """Return the pieces released by this text; a piece with a stop string is cut before it."""
        self._held.append(PendingPiece(text, about))
        waiting = "".join(piece.text for piece in self._held)
        places = [place for stop in self._stops if (place := waiting.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._released(min(places), cut=True)
        return self._released(len(waiting) - self._possible(waiting), cut=False)

    def rest(self) -> list[PendingPiece[TokenData]]:
        """Return, at the end, the pieces still held back."""
        free, self._held = self._held, []
        return free

    def _possible(self, text: str) -> int:
        """Return the length of the longest suffix that is a proper prefix of a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _released(self, characters: int, *, cut: bool) -> list[PendingPiece[TokenData]]:
        free: list[PendingPiece[TokenData]] = []
        while self._held and len(self._held[0].text) <= characters:
            characters -= len(self._held[0].text)
            free.append(self._held.pop(0))
            if cut and not characters:
                break
        if cut and characters:
            free.append(PendingPiece(self._held[0].text[:characters], self._held[0].about))
        if cut:
            self._held = []
        return free
