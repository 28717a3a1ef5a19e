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
        self._forward, self._max_rows, self._capacity = forward, rows, tokens
        self._waiting: deque[GenerationRequest] = deque()
        self._prefilling: deque[BatchRow] = deque()  # rows whose prompts aren't fully processed
        self._decoding: list[BatchRow] = []  # oldest first
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run_loop, name="batch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Add a request to the queue. Raises RequestError if the queue is full."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise RequestError(
                    f"{MAX_WAITING} requests are waiting already: ask again a little later.",
                    status=429,
                    code="queue_full",
                )
            self._waiting.append(request)
            self._changed.notify()

    def cancel(self, request: GenerationRequest) -> None:
        """Abandon the request: its rows end before the next token."""
        request.cancelled.set()
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
        return {"running": len(self._decoding) + len(self._prefilling), "waiting": len(self._waiting)}

    def _run_loop(self) -> None:
        while True:
            with self._changed:
                if not (self._prefilling or self._decoding):
                    self._changed.wait_for(lambda: self._closed or self._waiting)
                    self._changed.wait_for(self._is_full, BATCH_WAIT_SECONDS)
                if self._closed:
                    return
            try:
                self.run_step()
            except Exception as error:  # noqa: BLE001 (the border: the batch goes on, without what was in it)
                traceback.print_exception(error)
                for row in [*self._prefilling, *self._decoding]:
                    self._fail(row.request, error)

    def _is_full(self) -> bool:
        return self._closed or len(self._waiting) >= self._max_rows

    def run_step(self) -> None:
        """Drop, admit, process prompts, and generate a token for every answer."""
        self._drop_finished()
        self._admit_waiting()
        processed = 0
        while self._prefilling and processed < MAX_PROMPT_TOKENS_PER_STEP:
            processed += self._process_prompts(MAX_PROMPT_TOKENS_PER_STEP - processed)
        self._generate_tokens()

    def _drop_finished(self) -> None:
        with self._changed:
            self._waiting = deque(request for request in self._waiting if not request.cancelled.is_set())
        for row in [*self._prefilling, *self._decoding]:
            if row.finished or row.request.cancelled.is_set():
                self._drop(row)

    def _drop(self, row: BatchRow) -> None:
        self._forward.release(row.key)
        if row in self._decoding:
            self._decoding.remove(row)
        if row in self._prefilling:
            self._prefilling.remove(row)

    def _fail(self, request: GenerationRequest, error: Exception) -> None:
        for row in [*self._prefilling, *self._decoding]:
            if row.request is request:
                self._drop(row)
        if not isinstance(error, RequestError):
            log.error("a request failed: %s", "".join(traceback.format_exception(error)))
            error = build_internal_error(error)
        request.send(RequestFailure(error))

    def _admit_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or not self._can_admit(self._waiting[0]):
                    return
                request = self._waiting.popleft()
            row = BatchRow(request, 0)
            row.reserved = self._compute_reservation(request)
            self._prefilling.append(row)

    def _can_admit(self, request: GenerationRequest) -> bool:
        occupied = sum(row.request.choices for row in self._prefilling) + len(self._decoding)
        if occupied + request.choices > self._max_rows:
            return False
        return (
            not occupied
            or self._count_reserved() + self._compute_reservation(request) * request.choices <= self._capacity
        )

    def _count_reserved(self) -> int:
        """Return the reserved tokens; a prompt in progress needs them once for each of its choices."""
        prefilling = sum(row.reserved * row.request.choices for row in self._prefilling)
        return prefilling + sum(row.reserved for row in self._decoding)

    def _compute_reservation(self, request: GenerationRequest) -> int:
        return len(request.prompt) + min(request.max_tokens, ANSWER_CHUNK_TOKENS)

    def _process_prompts(self, max_tokens: int) -> int:
        """Process a chunk of the oldest prompt, and of others up to `max_tokens` tokens.

        Returns the number of tokens.
        """
        chunks: dict[BatchRow, PromptChunk] = {}
        tokens = 0
        for row in self._prefilling:
            prompt_tokens = row.request.prompt[row.processed : row.processed + PROMPT_CHUNK_TOKENS]
            if chunks and (not self._forward.batches_prompts or tokens + len(prompt_tokens) > max_tokens):
                break
            chunks[row] = PromptChunk(row.key, row.request.model.adapter, prompt_tokens)
            tokens += len(prompt_tokens)
        try:
            scores = self._forward.extend(list(chunks.values()))
        except Exception as error:  # noqa: BLE001 (the border: whichever request it is)
            if len(chunks) > 1:
                return self._process_prompts(1)  # the oldest alone, which fails or succeeds
            self._fail(next(iter(chunks)).request, _explain_error(error))
            return tokens
        for (row, chunk), logits in zip(chunks.items(), scores, strict=True):
            self._advance_prompt(row, len(chunk.tokens), logits.cpu())
        return tokens

    def _advance_prompt(self, row: BatchRow, tokens: int, scores: torch.Tensor) -> None:
        """Record the processed tokens of a row's prompt; after the last one its answers begin."""
        row.processed += tokens
        try:
            if row.processed == len(row.request.prompt):
                self._start_answers(row, scores)
        except Exception as error:  # noqa: BLE001 (the border: of this request alone)
            self._fail(row.request, _explain_error(error))

    def _start_answers(self, row: BatchRow, scores: torch.Tensor) -> None:
        """Generate the first token of each choice; all of them start from a copy of the first one's cache."""
        request = row.request
        self._prefilling.remove(row)
        if not request.samplers:
            self._forward.release(row.key)
            request.send(PromptLogits(scores))
            return
        self._decoding.append(row)
        for index in range(1, len(request.samplers)):
            other = BatchRow(request, index)
            other.processed, other.reserved = row.processed, row.reserved
            self._forward.fork(row.key, other.key)
            self._decoding.append(other)
        for choice_row in [row for row in self._decoding if row.request is request]:
            choice_row.add_token(scores)
            if choice_row.finished:
                self._drop(choice_row)

    def _generate_tokens(self) -> None:
        rows = self._list_runnable()
        if not rows:
            return
        scores = self._forward.step([row.key for row in rows], [row.last_token for row in rows]).cpu()
        for row, logits in zip(rows, scores, strict=True):
            if row not in self._decoding:
                continue  # another choice of its request failed
            try:
                row.add_token(logits)
            except Exception as error:  # noqa: BLE001 (the border: of this request alone)
                self._fail(row.request, _explain_error(error))
                continue
            if row.finished:
                self._drop(row)

    def _list_runnable(self) -> list[BatchRow]:
        """Return the answers with room for their next token."""
        reserved = self._count_reserved()
        runnable: list[BatchRow] = []
        for position, row in enumerate(self._decoding):
            if row.length >= row.reserved:
                extra = min(ANSWER_CHUNK_TOKENS, row.request.max_tokens - row.generated)
                if position and reserved + extra > self._capacity:
                    continue
                row.reserved += extra
                reserved += extra
            runnable.append(row)
        return runnable


def _explain_error(error: Exception) -> Exception:
    if isinstance(error, NonFiniteLogitsError):
        return RequestError(
            "The model's logits are not numbers (NaN), so there is no next token: its weights are damaged,"
            " or its precision is too low.",
            status=500,
            code="model_failed",
        )
    return error
