"""One answer while it is made: its next token, its tokens as text, where it stops, and what is told of it.

The next token is drawn from the model's scores as the request asks, and from allowed ones alone where the
answer must have a form.
"""

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

# The next token of one answer, from the model's scores and what the request asks.
#
# Scores are changed in this order: bias, penalties, constraint, temperature, top p. Log-probabilities are
# the model's own, before all of that, and always reckoned: they cost less than the search for scores that
# are no numbers, whose place they take. A draw is by the answer's own generator, so that a seed gives the
# same tokens whatever other answers are made beside it.

TOP_P_TOKENS = 1_024  # tokens among which top p usually ends
SEED_STRIDE = 1_000_003  # by which the seeds of the choices of one request lie apart


@dataclass(frozen=True)
class SamplingParams:
    """How a request wants its tokens chosen. temperature 0: the likeliest; logprobs: alternatives of a token,
    None where log-probabilities aren't asked for."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: Mapping[int, float] | None = None


@dataclass(frozen=True)
class SampledToken:
    """A token. logprob: in nats; alternatives: the likeliest first, only where they were asked for."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


class NonFiniteLogitsError(Exception):
    """The model's scores are no numbers."""


class TokenSampler:
    """Chooses the tokens of one answer; `choice` is its number among those of its request."""

    def __init__(self, how: SamplingParams, constraint: GrammarState | None, choice: int = 0) -> None:
        self._how, self.constraint = how, constraint
        self._made: Counter[int] = Counter()
        self._generator = torch.Generator().manual_seed((how.seed + choice * SEED_STRIDE) % 2**63)

    @property
    def with_logprobs(self) -> bool:
        """Whether its tokens come with log-probabilities."""
        return self._how.logprobs is not None

    def choose(self, scores: Tensor) -> SampledToken:
        """The next token, of scores [vocabulary] in fp32 on the CPU, which are left as they are. Raises
        NoScores."""
        logprobs = scores.log_softmax(-1)
        # One score that is no number makes all of these none, so that it is looked for where one is none.
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
            )  # of equal ones always the first, which torch's doesn't promise
        scaled = scores / self._how.temperature
        if self._how.top_p >= 1:
            return int(torch.multinomial(scaled.softmax(-1), 1, generator=self._generator))
        chances = scaled.softmax(-1)
        likely = chances.topk(min(TOP_P_TOKENS, len(chances)))
        values, tokens = likely.values, likely.indices
        if float(values.sum()) < self._how.top_p:
            values, tokens = chances.sort(descending=True)
        kept = values.cumsum(-1) - values < self._how.top_p  # the one that crosses it belongs to them
        drawn = torch.multinomial(values * kept, 1, generator=self._generator)
        return int(tokens[drawn])


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class TextPiece:
    """Text of the choice `index` that is free, with the tokens that completed it."""

    index: int
    text: str
    tokens: tuple[SampledToken, ...] = ()


@dataclass(frozen=True)
class ChoiceEnd:
    """The choice is over. tokens: that it took, the closing one among them."""

    index: int
    reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class RequestFailure:
    """The request can't be answered any further."""

    error: Exception


@dataclass(frozen=True)
class PromptLogits:
    """What the model thinks of the token after a prompt, [vocabulary]."""

    scores: Tensor


RowEvent = TextPiece | ChoiceEnd | RequestFailure | PromptLogits


@dataclass(eq=False)
class GenerationRequest:
    """A request as the batch sees it. most: tokens of each answer. choosers: one for each choice; none where
    the scores after the prompt alone are wanted. tell: called with what happened, and must not wait. kept:
    special tokens that are part of its answers' texts."""

    model: ServedName
    prompt: Sequence[int]
    most: int
    choosers: Sequence[TokenSampler]
    stops: Sequence[str]
    tell: Callable[[RowEvent], None]
    kept: frozenset[int] = frozenset()
    gone: threading.Event = field(default_factory=threading.Event)  # nobody waits for it any more

    @property
    def choices(self) -> int:
        """Rows that it takes in the batch."""
        return max(1, len(self.choosers))


_keys = itertools.count()


class BatchRow:
    """One choice of a request, in the batch by its `key`."""

    def __init__(self, asked: GenerationRequest, index: int) -> None:
        self.key = next(_keys)
        self.asked, self.index = asked, index
        self.given = 0  # tokens of the prompt that the model has seen
        self.made = 0
        self.last = 0  # the newest token, which the model has not seen
        self.reserved = 0  # tokens for which there is room
        self.over = False
        self._text = TokenText(asked.model.tokenizer, asked.kept)
        self._stops: StopStrings[SampledToken] = StopStrings(asked.stops)

    @property
    def length(self) -> int:
        """Tokens that it has in memory."""
        return len(self.asked.prompt) + self.made

    def grow(self, scores: Tensor) -> None:
        """Choose the next token by the scores, and tell what is free. Raises what choosing raises."""
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
        """End without a stop string: what was held back is free."""
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
