"""Decoding of one answer: sampling, detokenization, stop conditions, and events for its request."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engine.models.token_stream import PendingPiece, StopStrings, TokenText
from engine.serving.torch_backend.loading import ServedName
from engine.serving.torch_backend.structured_answers import GrammarState

# Next token of one answer, from the model's logits and the request's settings.
#
# Logits are modified in this order: bias, penalties, constraint, temperature, top p. Log-probabilities are
# the model's own, before all of that, and always computed: this costs less than a search for NaN logits, and
# replaces it. Each answer has its own random generator, so that a seed gives the same tokens whatever other
# answers are in the batch.

TOP_P_TOKENS = 1_024  # number of tokens that usually suffices for top p
SEED_STRIDE = 1_000_003  # distance between the seeds of a request's choices


@dataclass(frozen=True)
class SamplingParams:
    """Sampling settings of a request.

    temperature 0: greedy; logprobs: number of alternatives per token, None without log-probabilities.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: Mapping[int, float] | None = None


@dataclass(frozen=True)
class SampledToken:
    """A token. logprob: in nats; alternatives: likeliest first, only if requested."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


class NonFiniteLogitsError(Exception):
    """Raised when the model's logits are NaN."""


class TokenSampler:
    """Sampler of one answer's tokens; `choice` is its index within its request."""

    def __init__(self, params: SamplingParams, constraint: GrammarState | None, choice: int = 0) -> None:
        self._params, self.constraint = params, constraint
        self._counts: Counter[int] = Counter()
        self._generator = torch.Generator().manual_seed((params.seed + choice * SEED_STRIDE) % 2**63)

    @property
    def with_logprobs(self) -> bool:
        """Whether tokens come with log-probabilities."""
        return self._params.logprobs is not None

    def sample(self, scores: Tensor) -> SampledToken:
        """Choose the next token from logits [vocabulary] in fp32 on the CPU, which aren't modified.

        Raises NonFiniteLogitsError.
        """
        logprobs = scores.log_softmax(-1)
        # A single NaN logit makes all of these NaN, so the logits are only searched if the first one is.
        if torch.isnan(logprobs[0]) and torch.isnan(scores).any():
            raise NonFiniteLogitsError
        token = self._pick_token(self._adjust_logits(scores))
        self._counts[token] += 1
        logprob = float(logprobs[token])
        if self._params.logprobs is None:
            return SampledToken(token, logprob)
        best = logprobs.topk(min(self._params.logprobs, len(logprobs)))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return SampledToken(token, logprob, tuple(alternatives))

    def _adjust_logits(self, scores: Tensor) -> Tensor:
        params = self._params
        if not (params.bias or params.presence_penalty or params.frequency_penalty or self.constraint):
            return scores
        scores = scores.clone()
        if params.bias:
            scores[torch.tensor(list(params.bias))] += torch.tensor(list(params.bias.values()))
        if self._counts and (params.presence_penalty or params.frequency_penalty):
            counts = torch.tensor(list(self._counts.values()), dtype=scores.dtype)
            scores[torch.tensor(list(self._counts))] -= (
                params.presence_penalty + params.frequency_penalty * counts
            )
        if self.constraint is not None:
            self.constraint.forbid(scores)
        return scores

    def _pick_token(self, scores: Tensor) -> int:
        if not self._params.temperature:
            return int(
                np.argmax(scores.numpy())
            )  # always the first of equal ones, which torch's argmax doesn't guarantee
        scaled = scores / self._params.temperature
        if self._params.top_p >= 1:
            return int(torch.multinomial(scaled.softmax(-1), 1, generator=self._generator))
        probabilities = scaled.softmax(-1)
        top = probabilities.topk(min(TOP_P_TOKENS, len(probabilities)))
        values, tokens = top.values, top.indices
        if float(values.sum()) < self._params.top_p:
            values, tokens = probabilities.sort(descending=True)
        nucleus = values.cumsum(-1) - values < self._params.top_p  # includes the token that crosses it
        sampled = torch.multinomial(values * nucleus, 1, generator=self._generator)
        return int(tokens[sampled])


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class TextPiece:
    """Released text of the choice `index`, with the tokens that completed it."""

    index: int
    text: str
    tokens: tuple[SampledToken, ...] = ()


@dataclass(frozen=True)
class ChoiceEnd:
    """End of a choice. tokens: number that it took, including the closing one."""

    index: int
    reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class RequestFailure:
    """Failure that ends the request."""

    error: Exception


@dataclass(frozen=True)
class PromptLogits:
    """Logits of the token after a prompt, [vocabulary]."""

    scores: Tensor


RowEvent = TextPiece | ChoiceEnd | RequestFailure | PromptLogits


@dataclass(eq=False)
class GenerationRequest:
    """A request to the batch.

    - max_tokens: maximum tokens of each answer
    - samplers: one per choice; none if only the logits after the prompt are wanted
    - send: called with each event; must not block
    - special_tokens: special tokens that are part of the answers' texts
    """

    model: ServedName
    prompt: Sequence[int]
    max_tokens: int
    samplers: Sequence[TokenSampler]
    stops: Sequence[str]
    send: Callable[[RowEvent], None]
    special_tokens: frozenset[int] = frozenset()
    cancelled: threading.Event = field(default_factory=threading.Event)  # set once nobody waits for it

    @property
    def choices(self) -> int:
        """Number of rows that it takes in the batch."""
        return max(1, len(self.samplers))


_keys = itertools.count()


class BatchRow:
    """One choice of a request, identified in the batch by its `key`."""

    def __init__(self, request: GenerationRequest, index: int) -> None:
        self.key = next(_keys)
        self.request, self.index = request, index
        self.processed = 0  # prompt tokens processed
        self.generated = 0
        self.last_token = 0  # the latest token, not yet processed
        self.reserved = 0  # tokens for which room is reserved
        self.finished = False
        self._text = TokenText(request.model.tokenizer, request.special_tokens)
        self._stops: StopStrings[SampledToken] = StopStrings(request.stops)

    @property
    def length(self) -> int:
        """Number of tokens in memory."""
        return len(self.request.prompt) + self.generated

    def add_token(self, scores: Tensor) -> None:
        """Choose the next token from the logits, and report released text. Raises what choosing raises."""
        sampler = self.request.samplers[self.index]
        sampled = sampler.sample(scores)
        self.generated += 1
        self.last_token = sampled.token
        if sampled.token in self.request.model.ends:
            self._finish("stop")
            return
        continues = sampler.constraint is None or sampler.constraint.accept(sampled.token)
        self._send_pieces(self._stops.add(self._text.add(sampled.token), sampled))
        if self._stops.stopped:
            self._report_end("stop")
        elif not continues:
            self._finish("stop")
        elif self.generated >= self.request.max_tokens:
            self._finish("length")

    def _finish(self, reason: FinishReason) -> None:
        """End without a stop string, releasing what was held back."""
        self._send_pieces(self._stops.rest())
        if rest := self._text.rest():
            self.request.send(TextPiece(self.index, rest))
        self._report_end(reason)

    def _report_end(self, reason: FinishReason) -> None:
        self.finished = True
        self.request.send(ChoiceEnd(self.index, reason, self.generated))

    def _send_pieces(self, pieces: Sequence[PendingPiece[SampledToken]]) -> None:
        for piece in pieces:
            tokens = (piece.about,) if piece.about is not None else ()
            if piece.text or tokens:
                self.request.send(TextPiece(self.index, piece.text, tokens))
