"""One answer while it is made: its tokens as text, where it stops, and what is told of it as it grows."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from engine.playground.text_pieces import Held, StopStrings, TokenText
from engine.serving.worker.loading import ServedName
from engine.serving.worker.sampling import Chooser, Chosen

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Text of the choice `index` that is free, with the tokens that completed it."""

    index: int
    text: str
    tokens: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class ChoiceEnded:
    """The choice is over. tokens: that it took, the closing one among them."""

    index: int
    reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class Failed:
    """The request can't be answered any further."""

    error: Exception


@dataclass(frozen=True)
class PromptScores:
    """What the model thinks of the token after a prompt, [vocabulary]."""

    scores: Tensor


RowEvent = Piece | ChoiceEnded | Failed | PromptScores


@dataclass(eq=False)
class Asked:
    """A request as the batch sees it. most: tokens of each answer. choosers: one for each choice; none where
    the scores after the prompt alone are wanted. tell: called with what happened, and must not wait. kept:
    special tokens that are part of its answers' texts."""

    model: ServedName
    prompt: Sequence[int]
    most: int
    choosers: Sequence[Chooser]
    stops: Sequence[str]
    tell: Callable[[RowEvent], None]
    kept: frozenset[int] = frozenset()
    gone: threading.Event = field(default_factory=threading.Event)  # nobody waits for it any more

    @property
    def choices(self) -> int:
        """Rows that it takes in the batch."""
        return max(1, len(self.choosers))


_keys = itertools.count()


class Row:
    """One choice of a request, in the batch by its `key`."""

    def __init__(self, asked: Asked, index: int) -> None:
        self.key = next(_keys)
        self.asked, self.index = asked, index
        self.given = 0  # tokens of the prompt that the model has seen
        self.made = 0
        self.last = 0  # the newest token, which the model has not seen
        self.reserved = 0  # tokens for which there is room
        self.over = False
        self._text = TokenText(asked.model.tokenizer, asked.kept)
        self._stops: StopStrings[Chosen] = StopStrings(asked.stops)

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
            self.asked.tell(Piece(self.index, rest))
        self._end(reason)

    def _end(self, reason: FinishReason) -> None:
        self.over = True
        self.asked.tell(ChoiceEnded(self.index, reason, self.made))

    def _tell(self, pieces: Sequence[Held[Chosen]]) -> None:
        for piece in pieces:
            tokens = (piece.about,) if piece.about is not None else ()
            if piece.text or tokens:
                self.asked.tell(Piece(self.index, piece.text, tokens))
