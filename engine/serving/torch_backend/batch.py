"""Continuous batching: requests join and leave the batch between two tokens.

One thread owns the model. Each of its turns admits new requests, drops those that nobody waits for, runs
the model on further chunks of pending prompts, and generates one token for every answer. An error in a
request ends only that request.

A request is admitted when there are slots for its choices, and room for its prompt and a first chunk of
its answer; if room runs out later, younger answers pause until older ones have ended. The oldest always
continues.
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

PROMPT_CHUNK_TOKENS = 256  # tokens of a prompt per pass, so that running answers continue in between
MAX_PROMPT_TOKENS_PER_STEP = 512  # prompt tokens between two tokens of the answers
ANSWER_CHUNK_TOKENS = 256  # tokens of an answer for which room is reserved at a time
BATCH_WAIT_SECONDS = 0.01  # seconds that a first request waits for others to start with it
MAX_WAITING = 256  # requests


class Batch:
    """All answers generated together. rows: their maximum number; tokens: capacity in tokens."""

    def __init__(self, forward: Forward, *, rows: int, tokens: int) -> None:
        self._forward, self._most_rows, self._room = forward, rows, tokens
        self._waiting: deque[GenerationRequest] = deque()
        self._opening: deque[BatchRow] = deque()  # rows whose prompts aren't fully processed
        self._growing: list[BatchRow] = []  # oldest first
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._turns, name="batch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask(self, asked: GenerationRequest) -> None:
        """Add a request to the queue. Raises RequestError if the queue is full."""
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
        """Abandon the request: its rows end before the next token."""
        asked.gone.set()
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Stop the thread, whatever it is doing; for use on process exit."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    @property
    def load(self) -> dict[str, int]:
        """Numbers of running answers and of waiting requests."""
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
        """Drop, admit, process prompts, and generate a token for every answer."""
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
        places = sum(row.asked.choices for row in self._opening) + len(self._growing)
        if places + asked.choices > self._most_rows:
            return False
        return not places or self._taken() + self._wanted(asked) * asked.choices <= self._room

    def _taken(self) -> int:
        """Return the reserved tokens; a prompt in progress needs them once for each of its choices."""
        opening = sum(row.reserved * row.asked.choices for row in self._opening)
        return opening + sum(row.reserved for row in self._growing)

    def _wanted(self, asked: GenerationRequest) -> int:
        return len(asked.prompt) + min(asked.most, ANSWER_CHUNK_TOKENS)

    def _show_pieces(self, most: int) -> int:
        """Process a chunk of the oldest prompt, and of others up to `most` tokens.

        Returns the number of tokens.
        """
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
                return self._show_pieces(1)  # the oldest alone, which fails or succeeds
            self._fail(next(iter(pieces)).asked, _explain_error(error))
            return tokens
        for (row, piece), own in zip(pieces.items(), scores, strict=True):
            self._go_on(row, len(piece.tokens), own.cpu())
        return tokens

    def _go_on(self, row: BatchRow, tokens: int, scores: torch.Tensor) -> None:
        """Record the processed tokens of a row's prompt; after the last one its answers begin."""
        row.given += tokens
        try:
            if row.given == len(row.asked.prompt):
                self._open(row, scores)
        except Exception as error:  # noqa: BLE001 (the border: of this request alone)
            self._fail(row.asked, _explain_error(error))

    def _open(self, row: BatchRow, scores: torch.Tensor) -> None:
        """Generate the first token of each choice; all of them start from a copy of the first one's cache."""
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
                continue  # another choice of its request failed
            try:
                row.grow(own)
            except Exception as error:  # noqa: BLE001 (the border: of this request alone)
                self._fail(row.asked, _explain_error(error))
                continue
            if row.over:
                self._drop(row)

    def _going_on(self) -> list[BatchRow]:
        """Return the answers with room for their next token."""
        taken = self._taken()
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
            "The model's logits are not numbers (NaN), so there is no next token: its weights are damaged,"
            " or its precision is too low.",
            status=500,
            code="model_failed",
        )
    return error
