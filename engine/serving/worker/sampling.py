"""The next token of one answer, from the model's scores and what the request asks.

Scores are changed in this order: bias, penalties, constraint, temperature, top p. Log-probabilities are the
model's own, before all of that, and always reckoned: they cost less than the search for scores that are no
numbers, whose place they take. A draw is by the answer's own generator, so that a seed gives the same tokens
whatever other answers are made beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.serving.worker.constraints import GrammarState

LIKELY = 1_024  # tokens among which top p usually ends
APART = 1_000_003  # by which the seeds of the choices of one request lie apart


@dataclass(frozen=True)
class AskedSampling:
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
class Chosen:
    """A token. logprob: in nats; alternatives: the likeliest first, only where they were asked for."""

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


class NoScores(Exception):
    """The model's scores are no numbers."""


class Chooser:
    """Chooses the tokens of one answer; `choice` is its number among those of its request."""

    def __init__(self, how: AskedSampling, constraint: GrammarState | None, choice: int = 0) -> None:
        self._how, self.constraint = how, constraint
        self._made: Counter[int] = Counter()
        self._generator = torch.Generator().manual_seed((how.seed + choice * APART) % 2**63)

    @property
    def with_logprobs(self) -> bool:
        """Whether its tokens come with log-probabilities."""
        return self._how.logprobs is not None

    def choose(self, scores: Tensor) -> Chosen:
        """The next token, of scores [vocabulary] in fp32 on the CPU, which are left as they are. Raises
        NoScores."""
        logprobs = scores.log_softmax(-1)
        # One score that is no number makes all of these none, so that it is looked for where one is none.
        if torch.isnan(logprobs[0]) and torch.isnan(scores).any():
            raise NoScores
        token = self._token(self._changed(scores))
        self._made[token] += 1
        logprob = float(logprobs[token])
        if self._how.logprobs is None:
            return Chosen(token, logprob)
        best = logprobs.topk(min(self._how.logprobs, len(logprobs)))
        alternatives = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return Chosen(token, logprob, tuple(alternatives))

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
        likely = chances.topk(min(LIKELY, len(chances)))
        values, tokens = likely.values, likely.indices
        if float(values.sum()) < self._how.top_p:
            values, tokens = chances.sort(descending=True)
        kept = values.cumsum(-1) - values < self._how.top_p  # the one that crosses it belongs to them
        drawn = torch.multinomial(values * kept, 1, generator=self._generator)
        return int(tokens[drawn])
