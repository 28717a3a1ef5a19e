"""The batch: requests join and leave it between two tokens.

One thread owns the model. Each of its turns takes in what came, lets go of what nobody waits for, shows the
model some more of the prompts that are waiting, and makes one token for every answer. What goes wrong with a
request ends that request alone.

A request is taken in when there are slots for its choices and room for its prompt and a first stretch of its
answer; where the room ends later, younger answers rest until older ones are done. The oldest always goes on.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque

import torch

from engine.serving.protocol.answers import RequestError, build_internal_error
from engine.serving.torch_backend.batched_forward import PromptChunk
from engine.serving.torch_backend.decoding import (
    BatchRow,
    GenerationRequest,
    NonFiniteLogitsError,
    PromptLogits,
    RequestFailure,
)
from engine.serving.torch_backend.loading import Forward

log = logging.getLogger("backend")

PROMPT_CHUNK_TOKENS = (
    256  # tokens of a prompt that the model is shown at a time, for answers under way to go on in between
)
MAX_PROMPT_TOKENS_PER_STEP = 512  # tokens of prompts between two tokens of the answers
ANSWER_CHUNK_TOKENS = 256  # tokens of an answer for which room is kept at a time
BATCH_WAIT_SECONDS = (
    0.01  # seconds that the first of several is waited with for others, which begin with it then
)
MAX_WAITING = 256  # requests


class Batch:
    """All answers that are made at once. rows: at most so many; tokens: for which there is room."""

    def __init__(self, forward: Forward, *, rows: int, tokens: int) -> None:
        self._forward, self._most_rows, self._room = forward, rows, tokens
        self._waiting: deque[GenerationRequest] = deque()
        self._opening: deque[BatchRow] = deque()  # whose prompts the model has not seen whole
        self._growing: list[BatchRow] = []  # the oldest first
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._turns, name="batch", daemon=True)

    def start(self) -> None:
        """Begin to take turns."""
        self._thread.start()

    def ask(self, asked: GenerationRequest) -> None:
        """Put a request into the queue. Raises Refused where that is full."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise RequestError(
                    f"{MAX_WAITING} requests are waiting already: ask again a little later.",
                    status=429,
                    code="queue_full",
                )
            self._waiting.append(asked)
            self._changed.notify()

    def leave(self, asked: GenerationRequest) -> None:
        """Nobody waits for the request: its rows end before the next token."""
        asked.gone.set()
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread, whatever it does; for a process that ends."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    @property
    def load(self) -> dict[str, int]:
        """How many answers are made, and how many requests wait."""
        return {"running": len(self._growing) + len(self._opening), "waiting": len(self._waiting)}

    def _turns(self) -> None:
        while True:
            with self._changed:
                if not (self._opening or self._growing):
                    self._changed.wait_for(lambda: self._closed or self._waiting)
                    self._changed.wait_for(self._is_full, BATCH_WAIT_SECONDS)
                if self._closed:
                    return
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 (the border: the batch goes on, without what was in it)
                traceback.print_exception(error)
                for row in [*self._opening, *self._growing]:
                    self._fail(row.asked, error)

    def _is_full(self) -> bool:
        return self._closed or len(self._waiting) >= self._most_rows

    def turn(self) -> None:
        """Take in, let go, show prompts, make a token of every answer."""
        self._let_go()
        self._take_in()
        looked_at = 0
        while self._opening and looked_at < MAX_PROMPT_TOKENS_PER_STEP:
            looked_at += self._show_pieces(MAX_PROMPT_TOKENS_PER_STEP - looked_at)
        self._make_tokens()

    def _let_go(self) -> None:
        with self._changed:
            self._waiting = deque(asked for asked in self._waiting if not asked.gone.is_set())
        for row in [*self._opening, *self._growing]:
            if row.over or row.asked.gone.is_set():
                self._drop(row)

    def _drop(self, row: BatchRow) -> None:
        self._forward.release(row.key)
        if row in self._growing:
            self._growing.remove(row)
        if row in self._opening:
            self._opening.remove(row)

    def _fail(self, asked: GenerationRequest, error: Exception) -> None:
        for row in [*self._opening, *self._growing]:
            if row.asked is asked:
                self._drop(row)
        if not isinstance(error, RequestError):
            log.error("a request failed: %s", "".join(traceback.format_exception(error)))
            error = build_internal_error(error)
        asked.tell(RequestFailure(error))

    def _take_in(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or not self._fits(self._waiting[0]):
                    return
                asked = self._waiting.popleft()
            row = BatchRow(asked, 0)
            row.reserved = self._wanted(asked)
            self._opening.append(row)

    def _fits(self, asked: GenerationRequest) -> bool:
        rows = [*self._opening, *self._growing]
        places = sum(row.asked.choices for row in self._opening) + len(self._growing)
        if places + asked.choices > self._most_rows:
            return False
        taken = sum(row.reserved * (row.asked.choices if row in self._opening else 1) for row in rows)
        return not rows or taken + self._wanted(asked) * asked.choices <= self._room

    def _wanted(self, asked: GenerationRequest) -> int:
        return len(asked.prompt) + min(asked.most, ANSWER_CHUNK_TOKENS)

    def _show_pieces(self, most: int) -> int:
        """Show the model a piece of the oldest prompt, and of others up to so many tokens; their number."""
        pieces: dict[BatchRow, PromptChunk] = {}
        tokens = 0
        for row in self._opening:
            following = row.asked.prompt[row.given : row.given + PROMPT_CHUNK_TOKENS]
            if pieces and (not self._forward.joins or tokens + len(following) > most):
                break
            pieces[row] = PromptChunk(row.key, row.asked.model.adapter, following)
            tokens += len(following)
        try:
            scores = self._forward.extend(list(pieces.values()))
        except Exception as error:  # noqa: BLE001 (the border: whichever request it is)
            if len(pieces) > 1:
                return self._show_pieces(1)  # the oldest by itself, which fails or goes on
            self._fail(next(iter(pieces)).asked, _explain_error(error))
            return tokens
        for (row, piece), own in zip(pieces.items(), scores, strict=True):
            self._go_on(row, len(piece.tokens), own.cpu())
        return tokens

    def _go_on(self, row: BatchRow, tokens: int, scores: torch.Tensor) -> None:
        """The model was shown so many tokens more of a row's prompt: after the last its answers begin."""
        row.given += tokens
        try:
            if row.given == len(row.asked.prompt):
                self._open(row, scores)
        except Exception as error:  # noqa: BLE001 (the border: of this request alone)
            self._fail(row.asked, _explain_error(error))

    def _open(self, row: BatchRow, scores: torch.Tensor) -> None:
        """The first token of each choice; all of them begin with the cache of the first."""
        asked = row.asked
        self._opening.remove(row)
        if not asked.choosers:
            self._forward.release(row.key)
            asked.tell(PromptLogits(scores))
            return
        self._growing.append(row)
        for index in range(1, len(asked.choosers)):
            other = BatchRow(asked, index)
            other.given, other.reserved = row.given, row.reserved
            self._forward.fork(row.key, other.key)
            self._growing.append(other)
        for each in [row for row in self._growing if row.asked is asked]:
            each.grow(scores)
            if each.over:
                self._drop(each)

    def _make_tokens(self) -> None:
        rows = self._going_on()
        if not rows:
            return
        scores = self._forward.step([row.key for row in rows], [row.last for row in rows]).cpu()
        for row, own in zip(rows, scores, strict=True):
            if row not in self._growing:
                continue  # another choice of its request has failed
            try:
                row.grow(own)
            except Exception as error:  # noqa: BLE001 (the border: of this request alone)
                self._fail(row.asked, _explain_error(error))
                continue
            if row.over:
                self._drop(row)

    def _going_on(self) -> list[BatchRow]:
        """The answers for whose next token there is room."""
        taken = sum(row.reserved for row in [*self._opening, *self._growing])
        going: list[BatchRow] = []
        for place, row in enumerate(self._growing):
            if row.length >= row.reserved:
                more = min(ANSWER_CHUNK_TOKENS, row.asked.most - row.made)
                if place and taken + more > self._room:
                    continue
                row.reserved += more
                taken += more
            going.append(row)
        return going


def _explain_error(error: Exception) -> Exception:
    if isinstance(error, NonFiniteLogitsError):
        return RequestError(
            "The model's scores are not numbers (NaN), so there is no next token: its weights are damaged, or"
            " its precision is too small for it.",
            status=500,
            code="model_failed",
        )
    return error
