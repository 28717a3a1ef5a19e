"""Request handling of the torch backend: request bodies to batch rows, and batch events to responses.

`load_answerer` loads the spec's engine: a generating model, a classifier, or an encoder.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import torch
from jinja2.exceptions import TemplateError

from engine.models.tokenization.call_form import detect_call_form
from engine.models.tokenization.rendering import Messages, render_conversation
from engine.models.tokenization.tool_turns import parse_openai_messages, supports_tools
from engine.serving.protocol.answers import (
    CONTEXT_EXCEEDED,
    NO_TOOLS,
    TOOL_FIELDS,
    AnswerToolCall,
    ContentLogprob,
    LogprobTally,
    RequestError,
    ResponseBuilder,
    build_usage,
    prepare_tools,
)
from engine.serving.protocol.app import Answerer, AnswerKind, Stream, WholeAnswer
from engine.serving.protocol.request_bodies import FIELDS, ChatBody, CompletionBody, DecisionBody, parse
from engine.serving.torch_backend import loading
from engine.serving.torch_backend.batch import Batch
from engine.serving.torch_backend.decoding import (
    ChoiceEnd,
    FinishReason,
    GenerationRequest,
    RequestFailure,
    RowEvent,
    SampledToken,
    SamplingParams,
    TextPiece,
    TokenSampler,
)
from engine.serving.torch_backend.loading import LoadedModel, ServedName
from engine.serving.torch_backend.one_pass_models import (
    ClassifierAnswerer,
    EncoderAnswerer,
    is_classifier,
    is_plain_encoder,
    load_classifier,
    load_encoder,
)
from engine.serving.torch_backend.structured_answers import (
    DecisionReader,
    Grammars,
    ToolAnswer,
    ToolOffer,
    build_tool_offer,
)
from store.core.schemas import JsonObject
from store.serving.schemas import BackendSpec, Capabilities


class TorchAnswerer:
    """Engine with one loaded model and its batch."""

    def __init__(self, loaded: LoadedModel, batch: Batch, spec: BackendSpec) -> None:
        self._loaded, self._batch, self._max_rows = loaded, batch, spec["max_streams"]
        self._max_answer_tokens = spec.get("most_answer")
        self._grammars = {
            id(model.tokenizer): Grammars(model.tokenizer, loaded.vocabulary, model.ends)
            for model in loaded.models.values()
        }
        self._template = all(model.tokenizer.has_own_template for model in loaded.models.values())
        # a model whose template doesn't support calls has no form, unless it was trained on written-out calls
        self._forms = {
            name: detect_call_form(model.tokenizer)
            for name, model in loaded.models.items()
            if self._template and (model.calls_written or supports_tools(model.tokenizer))
        }
        self._decisions = DecisionReader(spec.get("labels"))

    @property
    def capabilities(self) -> Capabilities:
        """What the model supports."""
        return Capabilities(
            engine="worker",
            version=importlib.metadata.version("tunebench"),
            kinds=["chat", "completion", "decision"] if self._template else ["completion"],
            fields=[*FIELDS, "state", "questions", *(TOOL_FIELDS if any(self._forms.values()) else ())],
            context=self._loaded.context,
            template=self._template,
            models=list(self._loaded.models),
        )

    @property
    def load(self) -> dict[str, int]:
        """Numbers of running answers and waiting requests."""
        return self._batch.load

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        if kind == "decision":
            return await self._decide(parse(DecisionBody, body, status=422))
        body_type: type[ChatBody | CompletionBody] = ChatBody if kind == "chat" else CompletionBody
        # in a thread: the schemas of functions may be large
        parsed = await asyncio.to_thread(parse, body_type, body)
        if parsed.stream_options and not parsed.stream:
            raise RequestError("stream_options requires stream.", field="stream_options")
        model = self._get_model(parsed.model)
        offer: ToolOffer | None = None
        if isinstance(parsed, ChatBody):
            # in a thread: a template may run for seconds before it is rejected
            prompts = [await asyncio.to_thread(self._encode_conversation, model, parsed)]
            self._check_context(len(prompts[0]), 1, "messages")  # before a grammar is compiled in vain
            offer = await asyncio.to_thread(self._build_tool_offer, model, parsed)
        else:
            prompts = [self._encode_prompt(model, prompt) for prompt in _list_prompts(parsed.prompt)]
        # Grammars of large vocabularies take a second to compile.
        requests = [
            await asyncio.to_thread(self._build_request, model, parsed, prompt, offer) for prompt in prompts
        ]
        form = ResponseBuilder(parsed.model, chat=kind == "chat")
        rows = _RequestRows(self._batch, requests, form, self._grammars, offer)
        rows.submit()
        if parsed.stream:
            with_usage = bool(parsed.stream_options and parsed.stream_options.include_usage)
            return Stream(rows.stream_chunks(with_usage), rows.cancel, rows.get_tally)
        return WholeAnswer(await rows.collect_response(), rows.get_tally())

    async def _decide(self, body: DecisionBody) -> WholeAnswer:
        model = self._get_model(body.model)
        questions = await asyncio.to_thread(self._decisions.read, body, model.tokenizer)
        requests = []
        for question in questions:
            self._check_context(len(question.prompt), 1, "questions")
            requests.append(GenerationRequest(model, question.prompt, 1, [], [], _ignore_event))
        rows = _RequestRows(self._batch, requests, ResponseBuilder(body.model, chat=False), self._grammars)
        rows.submit()
        scores = await rows.collect_scores()
        tokens = sum(len(question.prompt) for question in questions)
        return WholeAnswer(
            {
                "model": body.model,
                "answers": self._decisions.build_answers(questions, scores),
                "usage": {"input_tokens": tokens, "output_tokens": 0},
            }
        )

    def _get_model(self, name: str) -> ServedName:
        if name not in self._loaded.models:
            available = ", ".join(self._loaded.models)
            raise RequestError(
                f"There is no model {name!r} here, but {available}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        return self._loaded.models[name]

    def _build_tool_offer(self, model: ServedName, body: ChatBody) -> ToolOffer | None:
        """Return what the answer may call. Raises RequestError."""
        form = self._forms.get(body.model)
        if form is None:
            if body.uses_tools or body.tool_choice not in (None, "none"):
                raise RequestError(
                    f"{body.model} can't call functions: {NO_TOOLS}.",
                    code="unsupported_parameter",
                    field="tools",
                )
            return None
        return build_tool_offer(body, form, self._grammars[id(model.tokenizer)], model.tokenizer)

    def _encode_conversation(self, model: ServedName, body: ChatBody) -> list[int]:
        turns: Messages = [
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text}
            for turn in body.messages
        ]
        try:
            if body.uses_tools:
                functions = [] if body.tool_choice == "none" else prepare_tools(body.tools or ())
                turns = parse_openai_messages(
                    [turn.model_dump() | plain for turn, plain in zip(body.messages, turns, strict=True)],
                    functions,
                )
            text = render_conversation(model.tokenizer, turns, generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            raise RequestError(
                f"The model's chat template refuses the conversation: {error}.", field="messages"
            ) from error
        return self._encode_prompt(model, text, special=False)

    def _encode_prompt(
        self, model: ServedName, prompt: str | list[int], *, special: bool = True
    ) -> list[int]:
        if isinstance(prompt, str):
            tokens = list(model.tokenizer(prompt, add_special_tokens=special).input_ids)
        else:
            tokens = prompt
        if not tokens:
            raise RequestError("The prompt has no tokens.", field="prompt")
        if invalid := [token for token in tokens if not 0 <= token < self._loaded.vocabulary]:
            raise RequestError(f"The model has no token {invalid[0]}.", field="prompt")
        return tokens

    def _check_context(self, prompt: int, answer: int, field: str) -> None:
        context = self._loaded.context
        if prompt + answer > context:
            raise RequestError(
                f"The model's context has {context:,} tokens; the prompt has {prompt:,}, and {answer:,} are"
                " asked for as the answer.",
                code=CONTEXT_EXCEEDED,
                field=field,
            )

    def _build_request(
        self,
        model: ServedName,
        body: ChatBody | CompletionBody,
        prompt: list[int],
        offer: ToolOffer | None = None,
    ) -> GenerationRequest:
        field = "messages" if isinstance(body, ChatBody) else "prompt"
        requested = body.max_tokens
        if isinstance(body, ChatBody):
            requested = body.max_completion_tokens or body.max_tokens
        self._check_context(len(prompt), requested or 1, field)
        count = body.n or 1
        if count > self._max_rows:
            raise RequestError(
                f"n is {count}, and at most {self._max_rows} answers are made at once.", field="n"
            )
        sampling = self._parse_sampling(body)
        constraint = offer.constraint if offer else None
        schema = body.response_format.required_schema if body.response_format else None
        if schema is not None:
            constraint = self._grammars[id(model.tokenizer)].build_schema_constraint(schema)
        samplers = [
            TokenSampler(sampling, constraint and constraint.copy(), choice) for choice in range(count)
        ]
        available = self._loaded.context - len(prompt)
        max_tokens = requested or min(available, self._max_answer_tokens or available)
        special_tokens = offer.special_tokens if offer else frozenset[int]()
        return GenerationRequest(
            model, prompt, max_tokens, samplers, body.stop or [], _ignore_event, special_tokens
        )

    def _parse_sampling(self, body: ChatBody | CompletionBody) -> SamplingParams:
        bias = {}
        for token, value in (body.logit_bias or {}).items():
            if not token.isdecimal() or int(token) >= self._loaded.vocabulary:
                raise RequestError(f"The model has no token {token!r}.", field="logit_bias")
            bias[int(token)] = value
        return SamplingParams(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=body.top_p or 1.0,
            seed=secrets.randbits(62) if body.seed is None else body.seed,
            logprobs=body.alternatives,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            bias=bias,
        )


def _list_prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("The prompt is empty.", field="prompt")
    if isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [tokens for tokens in prompt if not isinstance(tokens, int)]


def _ignore_event(_: RowEvent) -> None:
    """Placeholder for the event callback until the request begins."""


class _RequestRows:
    """Rows of one HTTP request: submitted to the batch, followed, and released in any case."""

    def __init__(
        self,
        batch: Batch,
        requests: Sequence[GenerationRequest],
        form: ResponseBuilder,
        grammars: Mapping[int, Grammars],
        offer: ToolOffer | None = None,
    ) -> None:
        self._batch, self._requests, self._form = batch, requests, form
        self._grammars = grammars
        self._event_queue: asyncio.Queue[tuple[int, RowEvent]] = asyncio.Queue()
        self._prompt_tokens = sum(len(request.prompt) for request in requests)
        self._tally = LogprobTally(0.0, 0)
        self._readers = [offer.create_reader() for _ in range(self._choice_count)] if offer else []

    def submit(self) -> None:
        """Submit all rows to the batch. Raises RequestError if its queue is full."""
        loop = asyncio.get_running_loop()

        def send(number: int, event: RowEvent) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._event_queue.put_nowait, (number, event))

        try:
            for number, request in enumerate(self._requests):
                request.send = partial(send, number)
                self._batch.submit(request)
        except RequestError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Release the rows: nobody waits for the request any more."""
        for request in self._requests:
            self._batch.cancel(request)

    async def _iterate_events(self, choices: int) -> AsyncGenerator[tuple[int, RowEvent], None]:
        """Yield the batch's events until `choices` choices have ended. Raises the error of a failure."""
        try:
            while choices:
                number, event = await self._event_queue.get()
                if isinstance(event, RequestFailure):
                    raise event.error
                yield number, event
                choices -= not isinstance(event, TextPiece)
        finally:
            self.cancel()

    async def collect_scores(self) -> list[Any]:
        """Return the logits of the token after each prompt."""
        scores: dict[int, Any] = {}
        async for number, event in self._iterate_events(len(self._requests)):
            scores[number] = event.scores  # type: ignore[union-attr]
        return [scores[number] for number in sorted(scores)]

    def _get_choice_index(self, number: int, index: int) -> int:
        """Return the index among all choices of the response."""
        return number * len(self._requests[0].samplers) + index

    @property
    def _choice_count(self) -> int:
        return sum(len(request.samplers) for request in self._requests)

    def get_tally(self) -> LogprobTally | None:
        """Return the log-probability of the first choice's tokens so far; None before the first one."""
        return self._tally if self._tally.tokens else None

    def _count_logprobs(self, choice_index: int, tokens: Sequence[SampledToken]) -> None:
        if choice_index == 0 and tokens:
            total, token_count, invalid = self._tally
            total += sum(token.logprob for token in tokens)
            self._tally = LogprobTally(total, token_count + len(tokens), invalid)

    def _release_text(self, choice_index: int, text: str) -> str:
        """Return the part of a choice's text that can be released, as it isn't part of a call."""
        return self._readers[choice_index].add(text) if self._readers else text

    async def _finish_choice(self, choice_index: int, reason: FinishReason) -> tuple[ToolAnswer, str]:
        """Return what was held back of a choice, and its finish reason in the API's terms."""
        if not self._readers:
            return ToolAnswer(), reason
        # in a thread: checking a caller's schema may take long
        end = await asyncio.to_thread(self._readers[choice_index].finish, truncated=reason == "length")
        self._tally = self._tally._replace(invalid_calls=self._tally.invalid_calls + end.invalid)
        return end, "tool_calls" if end.calls and reason == "stop" else reason

    async def collect_response(self) -> Mapping[str, Any]:
        """Return the complete response."""
        texts = [""] * self._choice_count
        reasons: list[str | None] = [None] * self._choice_count
        tokens: list[list[ContentLogprob]] = [[] for _ in texts]
        calls: list[list[AnswerToolCall]] = [[] for _ in texts]
        generated = 0
        async for number, event in self._iterate_events(self._choice_count):
            if isinstance(event, TextPiece):
                choice_index = self._get_choice_index(number, event.index)
                self._count_logprobs(choice_index, event.tokens)
                texts[choice_index] += self._release_text(choice_index, event.text)
                tokens[choice_index] += self._build_entries(number, event.tokens) or []
            elif isinstance(event, ChoiceEnd):
                choice_index = self._get_choice_index(number, event.index)
                end, reasons[choice_index] = await self._finish_choice(choice_index, event.reason)
                texts[choice_index], calls[choice_index] = texts[choice_index] + end.text, end.calls
                generated += event.tokens
        with_logprobs = self._requests[0].samplers[0].with_logprobs
        choices = [
            self._form.build_choice(
                choice_index,
                text,
                reasons[choice_index],
                tokens[choice_index] if with_logprobs else None,
                calls[choice_index],
            )
            for choice_index, text in enumerate(texts)
        ]
        return self._form.build_response(choices, build_usage(self._prompt_tokens, generated))

    async def stream_chunks(self, with_usage: bool) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the response as chunks, as its pieces are released."""
        form, generated = self._form, 0
        offsets = [0] * self._choice_count
        async with aclosing(self._iterate_events(self._choice_count)) as events:
            for choice_index in range(self._choice_count) if form.chat else ():
                yield form.build_chunk([form.build_opening(choice_index)], with_usage=with_usage)
            async for number, event in events:
                if isinstance(event, TextPiece):
                    choice_index = self._get_choice_index(number, event.index)
                    self._count_logprobs(choice_index, event.tokens)
                    entries = self._build_entries(number, event.tokens)
                    text = self._release_text(choice_index, event.text)
                    if text or entries:
                        piece = form.build_piece(choice_index, text, entries, offsets[choice_index])
                        yield form.build_chunk([piece], with_usage=with_usage)
                        offsets[choice_index] += len(text)
                    elif event.text:  # within a call: its tokens count even if the client disconnects
                        yield form.build_chunk([form.build_empty_delta(choice_index)], with_usage=with_usage)
                elif isinstance(event, ChoiceEnd):
                    generated += event.tokens
                    async for choice in self._close_choice(
                        self._get_choice_index(number, event.index), event.reason
                    ):
                        yield form.build_chunk([choice], with_usage=with_usage)
        if with_usage:
            yield form.build_chunk([], usage=build_usage(self._prompt_tokens, generated), with_usage=True)

    async def _close_choice(
        self, choice_index: int, reason: FinishReason
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield the last pieces of a choice: held-back text, its calls, the end."""
        end, api_reason = await self._finish_choice(choice_index, reason)
        if end.text:
            yield self._form.build_piece(choice_index, end.text, None)
        for choice in self._form.build_call_deltas(choice_index, end.calls):
            yield choice
        yield self._form.build_closing(choice_index, api_reason)

    def _build_entries(self, number: int, tokens: Sequence[SampledToken]) -> list[ContentLogprob] | None:
        """Return tokens with their log-probabilities in the API's form."""
        request = self._requests[number]
        if not request.samplers[0].with_logprobs or not tokens:
            return None
        grammars = self._grammars[id(request.model.tokenizer)]
        return [
            {
                **grammars.describe_token(token.token, token.logprob),
                "top_logprobs": [
                    grammars.describe_token(alternative, logprob)
                    for alternative, logprob in token.alternatives
                ],
            }
            for token in tokens
        ]


def load_answerer(spec: BackendSpec) -> Answerer:
    """Load the spec's engine. Raises whatever loading raises."""
    torch.set_num_threads(spec["threads"] or len(os.sched_getaffinity(0)))
    if is_classifier(spec):
        return ClassifierAnswerer(load_classifier(spec), spec)
    if is_plain_encoder(spec):
        return EncoderAnswerer(load_encoder(spec))
    loaded = loading.load(spec)
    gc.collect()
    batch = Batch(loaded.forward, rows=spec["max_streams"], tokens=spec["max_tokens"])
    batch.start()
    return TorchAnswerer(loaded, batch, spec)
