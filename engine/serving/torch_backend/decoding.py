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

    def __init__(self, how: SamplingParams, constraint: GrammarState | None, choice: int = 0) -> None:
        self._how, self.constraint = how, constraint
        self._made: Counter[int] = Counter()
        self._generator = torch.Generator().manual_seed((how.seed + choice * SEED_STRIDE) % 2**63)

    @property
    def with_logprobs(self) -> bool:
        """Whether tokens come with log-probabilities."""
        return self._how.logprobs is not None

    def choose(self, scores: Tensor) -> SampledToken:
        """Choose the next token from logits [vocabulary] in fp32 on the CPU, which aren't modified.

        Raises NonFiniteLogitsError.
        """
        logprobs = scores.log_softmax(-1)
        # A single NaN logit makes all of these NaN, so the logits are only searched if the first one is.
        if torch.isnan(logprobs[0]) and torch.isnan(scores).any():
            raise NonFiniteLogitsError
        token = self._token(self._changed(scores))
        self._made[token] += 1
        logprob = float(logprobs[token])
        if self._how.logprobs is None:
            return SampledToken(token, logprob)
        best = logprobs.topk(min(self._how.logprobs, len(logprobs)))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return SampledToken(token, logprob, tuple(alternatives))

    def _changed(self, scores: Tensor) -> Tensor:
        how = self._how
        if not (how.bias or how.presence_penalty or how.frequency_penalty or self.constraint):
            return scores
        scores = scores.clone()
        if how.bias:
            scores[torch.tensor(list(how.bias))] += torch.tensor(list(how.bias.values()))
        if self._made and (how.presence_penalty or how.frequency_penalty):
            counts = torch.tensor(list(self._made.values()), dtype=scores.dtype)
            scores[torch.tensor(list(self._made))] -= how.presence_penalty + how.frequency_penalty * counts
        if self.constraint is not None:
            self.constraint.forbid(scores)
        return scores

    def _token(self, scores: Tensor) -> int:
        if not self._how.temperature:
            return int(
                np.argmax(scores.numpy())
            )  # always the first of equal ones, which torch's argmax doesn't guarantee
        scaled = scores / self._how.temperature
        if self._how.top_p >= 1:
            return int(torch.multinomial(scaled.softmax(-1), 1, generator=self._generator))
        chances = scaled.softmax(-1)
        likely = chances.topk(min(TOP_P_TOKENS, len(chances)))
        values, tokens = likely.values, likely.indices
        if float(values.sum()) < self._how.top_p:
            values, tokens = chances.sort(descending=True)
        kept = values.cumsum(-1) - values < self._how.top_p  # includes the token that crosses it
        drawn = torch.multinomial(values * kept, 1, generator=self._generator)
        return int(tokens[drawn])


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

    - most: maximum tokens of each answer
    - choosers: one per choice; none if only the logits after the prompt are wanted
    - tell: called with each event; must not block
    - kept: special tokens that are part of the answers' texts
    """

    model: ServedName
    prompt: Sequence[int]
    most: int
    choosers: Sequence[TokenSampler]
    stops: Sequence[str]
    tell: Callable[[RowEvent], None]
    kept: frozenset[int] = frozenset()
    gone: threading.Event = field(default_factory=threading.Event)  # set once nobody waits for it

    @property
    def choices(self) -> int:
        """Number of rows that it takes in the batch."""
        return max(1, len(self.choosers))


_keys = itertools.count()


class BatchRow:
    """One choice of a request, identified in the batch by its `key`."""

    def __init__(self, asked: GenerationRequest, index: int) -> None:
        self.key = next(_keys)
        self.asked, self.index = asked, index
        self.given = 0  # prompt tokens processed
        self.made = 0
        self.last = 0  # the latest token, not yet processed
        self.reserved = 0  # tokens for which room is reserved
        self.over = False
        self._text = TokenText(asked.model.tokenizer, asked.kept)
        self._stops: StopStrings[SampledToken] = StopStrings(asked.stops)

    @property
    def length(self) -> int:
        """Number of tokens in memory."""
        return len(self.asked.prompt) + self.made

    def grow(self, scores: Tensor) -> None:
        """Choose the next token from the logits, and report released text. Raises what choosing raises."""
        chooser = self.asked.choosers[self.index]
        chosen = chooser.choose(scores)
        self.made += 1
        self.last = chosen.token
        if chosen.token in self.asked.model.ends:
            self._finish("stop")
            return
        goes_on = chooser.constraint is None or chooser.constraint.accept(chosen.token)
        self._tell(self._stops.add(self._text.add(chosen.token), chosen))
        if self._stops.stopped:
            self._end("stop")
        elif not goes_on:
            self._finish("stop")
        elif self.made >= self.asked.most:
            self._finish("length")

    def _finish(self, reason: FinishReason) -> None:
        """End without a stop string, releasing what was held back."""
        self._tell(self._stops.rest())
        if rest := self._text.rest():
            self.asked.tell(TextPiece(self.index, rest))
        self._end(reason)

    def _end(self, reason: FinishReason) -> None:
        self.over = True
        self.asked.tell(ChoiceEnd(self.index, reason, self.made))

    def _tell(self, pieces: Sequence[PendingPiece[SampledToken]]) -> None:
        for piece in pieces:
            tokens = (piece.about,) if piece.about is not None else ()
            if piece.text or tokens:
                self.asked.tell(TextPiece(self.index, piece.text, tokens))
