"""Answers as streams of events, token by token, from a loaded model or an OpenAI-compatible endpoint.

A conversation that doesn't fit the model's context, or that its template rejects, is rejected before the
model runs. Endpoint addresses and keys follow the rules of `engine.evaluation.metrics.judge_client`: the
key is read when it is needed, sent to no other address, and removed from everything that the server
returns.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from jinja2.exceptions import TemplateError

from engine.evaluation.metrics.judge_client import EXCERPT_LENGTH, MAX_ANSWER_BYTES, read_api_key
from engine.models.generation import find_end_tokens
from engine.models.token_stream import (
    ALTERNATIVES,
    NonFiniteScores,
    PendingPiece,
    SamplingOptions,
    StopStrings,
    TokenStep,
    TokenText,
    stream_tokens,
)
from engine.models.tokenization.rendering import Messages, render_conversation
from engine.playground.model_cache import ReadyModel
from store.core.address_policy import AddressPolicy
from store.core.errors import ConfigError, ModelError
from store.core.metric_options import Endpoint
from store.http.outgoing import create_checked_client
from store.playground.config import ChatSampling
from store.playground.schemas import ChatEvent, ChatFigures, ChatToken, EndReason, TokenAlternative

UNMEASURED: ChatToken = {"text": "", "logprob": None, "top": []}  # trailing bytes that form no character


def encode_prompt(ready: ReadyModel, messages: Messages, sampling: ChatSampling) -> list[int]:
    """Return the tokens of the conversation as a prompt. Raises ConfigError (messages, max_new_tokens)."""
    try:
        text = render_conversation(ready.tokenizer, messages, generation_prompt=True)
    except (TemplateError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The model's chat template refuses the conversation: {error}.",
            fix="Some take no system prompt, or want the turns to alternate: leave the system prompt empty.",
            field="messages",
        ) from error
    tokens: list[int] = ready.tokenizer(text, add_special_tokens=False).input_ids
    if not tokens:
        raise ConfigError(
            "The conversation has no tokens for this model.", fix="Write more.", field="messages"
        )
    context = ready.positions
    if context and len(tokens) >= context:
        raise ConfigError(
            f"The conversation has {len(tokens):,} tokens, and the model can see {context:,}.",
            fix="Continue from an earlier message, or write less.",
            field="messages",
        )
    if context and len(tokens) + sampling.max_new_tokens > context:
        raise ConfigError(
            f"The conversation has {len(tokens):,} tokens; with {sampling.max_new_tokens:,} new ones they are"
            f" more than the {context:,} that the model can see.",
            fix=f"Set max new tokens to {context - len(tokens):,} or less, or go on from an earlier turn.",
            field="max_new_tokens",
        )
    return tokens


class LocalAnswer:
    """An answer of a loaded model while it is generated."""

    def __init__(
        self,
        ready: ReadyModel,
        messages: Messages,
        sampling: ChatSampling,
        device: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.ready, self._sampling, self._clock, self._device = ready, sampling, clock, device
        self._prompt = encode_prompt(ready, messages, sampling)
        self._times: list[float] = []
        self._started_at = clock()

    def stream_events(self) -> Iterator[ChatEvent]:
        """Yield `begin`, each token and `end`; requesting the next event generates one more token.

        Raises ModelError if the model's scores are not finite.
        """
        self._started_at = self._clock()
        yield {"type": "begin", "prompt_tokens": len(self._prompt)}
        text = TokenText(self.ready.tokenizer)
        stops: StopStrings[ChatToken] = StopStrings(self._sampling.stop)
        reason: EndReason = "length"
        for step in self._generate_steps():
            self._times.append(self._clock())
            if step is None:
                reason = "end"
                break
            yield from _build_token_events(stops.add(text.add(step.token), self._build_token(text, step)))
            if stops.stopped:
                reason = "stop"
                break
        if not stops.stopped:
            yield from _build_token_events(
                [*stops.rest(), *([PendingPiece(rest)] if (rest := text.rest()) else [])]
            )
        yield {"type": "end", "reason": reason, "figures": self._build_figures()}

    def _generate_steps(self) -> Iterator[TokenStep | None]:
        """Yield steps up to a closing token, which is yielded as None."""
        sampling = self._sampling
        options = SamplingOptions(
            sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty, sampling.seed
        )
        model = self.ready.activate()
        ends = find_end_tokens(model, self.ready.tokenizer)
        stream = stream_tokens(model, self._prompt, options, self._device)
        for _ in range(sampling.max_new_tokens):
            self.ready.activate()
            try:
                step = next(stream)
            except NonFiniteScores as error:
                raise ModelError(
                    f"After {len(self._times):,} tokens the model's scores are not numbers (NaN), so there is"
                    " no next token.",
                    fix="Its weights are damaged, or its precision is too small for it: look at the run's"
                    " curves, or choose an earlier checkpoint.",
                    field="model",
                ) from error
            if step.token in ends:
                yield None
                return
            yield step

    def _build_token(self, text: TokenText, step: TokenStep) -> ChatToken:
        """Return the token with its alternatives; its text is added when it is known."""
        top: list[TokenAlternative] = [
            {"text": text.alone(token), "logprob": logprob} for token, logprob in step.alternatives
        ]
        return {"text": "", "logprob": step.logprob, "top": top}

    def _build_figures(self) -> ChatFigures:
        times = self._times
        intervals = len(times) - 1
        return {
            "prompt_tokens": len(self._prompt),
            "tokens": len(times),
            "first_token_seconds": times[0] - self._started_at if times else None,
            "tokens_per_second": intervals / (times[-1] - times[0])
            if intervals > 0 and times[-1] > times[0]
            else None,
        }


def _build_token_events(pieces: list[PendingPiece[ChatToken]]) -> Iterator[ChatEvent]:
    for piece in pieces:
        yield {"type": "token", **(piece.about or UNMEASURED), "text": piece.text}


REASONS: dict[str, EndReason] = {"stop": "end", "length": "length"}
UNKNOWN_FIELD = (400, 422)  # status codes for an unknown field


class RemoteAnswer:
    """An answer of an endpoint while it is received; `stop` may be called by another thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        messages: Messages,
        sampling: ChatSampling,
        policy: AddressPolicy,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._endpoint, self._messages, self._sampling = endpoint, messages, sampling
        self._policy, self._clock = policy, clock
        self._key = read_api_key(endpoint)
        self._times: list[float] = []
        self._prompt_tokens: int | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop reading; the connection is closed at the next piece."""
        self._stopped.set()

    def stream_events(self) -> Iterator[ChatEvent]:
        """Yield `begin`, each piece and `end`.

        Raises ModelError for errors of the endpoint, and ConfigError if its address is not allowed.
        """
        started_at = self._clock()
        yield {"type": "begin", "prompt_tokens": None}
        reason: EndReason = "end"
        address = f"{self._endpoint.base_url}/chat/completions"
        try:
            with create_checked_client(self._endpoint.base_url, self._policy, self._endpoint.timeout) as http:
                for piece in self._stream_pieces(http, address):
                    reason = piece.pop("ended", None) or reason
                    if piece:
                        self._times.append(self._clock())
                        yield {"type": "token", **piece}  # type: ignore[typeddict-item]
        except httpx.TimeoutException as error:
            raise self._build_error(f"gave nothing for {self._endpoint.timeout:g} seconds") from error
        except httpx.HTTPError as error:
            raise self._build_error(f"can't be reached ({type(error).__name__}: {error})") from error
        times, intervals = self._times, len(self._times) - 1
        yield {
            "type": "end",
            "reason": reason,
            "figures": {
                "prompt_tokens": self._prompt_tokens,
                "tokens": len(times),
                "first_token_seconds": times[0] - started_at if times else None,
                "tokens_per_second": intervals / (times[-1] - times[0])
                if intervals > 0 and times[-1] > times[0]
                else None,
            },
        }

    def _stream_pieces(self, http: httpx.Client, address: str) -> Iterator[dict[str, Any]]:
        """Yield the pieces with probabilities, or without if the endpoint doesn't support them."""
        logprob_fields = {"logprobs": True, "top_logprobs": ALTERNATIVES}
        for body in (self._build_body() | logprob_fields, self._build_body()):
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            with http.stream("POST", address, json=body, headers=headers) as answer:
                if answer.status_code in UNKNOWN_FIELD and "logprobs" in body:
                    continue
                if answer.status_code != 200:
                    message = answer.read()[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
                    raise self._build_error(f"answered with HTTP {answer.status_code}: {message}")
                yield from self._parse_stream(answer)
                return

    def _build_body(self) -> dict[str, object]:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": self._messages,
            "stream": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": sampling.seed,
        }
        if sampling.stop:
            body["stop"] = sampling.stop
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        return {name: value for name, value in (body | self._endpoint.extra).items() if value is not None}

    def _parse_stream(self, answer: httpx.Response) -> Iterator[dict[str, object]]:
        size = 0
        for line in answer.iter_lines():
            size += len(line)
            if self._stopped.is_set():
                return
            if size > 50 * MAX_ANSWER_BYTES:
                raise self._build_error("sent more than any answer has")
            document = line.removeprefix("data:").strip()
            if not line.startswith("data:") or document == "[DONE]":
                continue
            try:
                yield from self._parse_chunk(json.loads(document))
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise self._build_error(
                    f"sent something other than a chat completion chunk: {document}"
                ) from error

    def _parse_chunk(self, chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if usage := chunk.get("usage"):
            self._prompt_tokens = usage.get("prompt_tokens")
        if not chunk.get("choices"):
            return
        choice = chunk["choices"][0]
        text = (choice.get("delta") or {}).get("content") or ""
        entries = ((choice.get("logprobs") or {}).get("content")) or []
        if len(entries) == 1:
            entry = entries[0]
            top: list[TokenAlternative] = [
                {"text": self._mask_key(str(alternative["token"])), "logprob": float(alternative["logprob"])}
                for alternative in (entry.get("top_logprobs") or [])[:ALTERNATIVES]
            ]
            yield {"text": self._mask_key(text), "logprob": float(entry["logprob"]), "top": top}
        elif text:
            yield {"text": self._mask_key(text), "logprob": None, "top": []}
        if finish_reason := choice.get("finish_reason"):
            yield {"ended": REASONS.get(finish_reason, "end")}

    def _mask_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _build_error(self, problem: str) -> ModelError:
        problem = " ".join(self._mask_key(problem).split())[: EXCERPT_LENGTH * 2]
        return ModelError(
            f"The endpoint {self._endpoint.base_url} {problem}.",
            fix="Check its address, the name of the model and the key.",
            field="endpoint",
        )
