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
        self._loaded, self._batch, self._most_rows = loaded, batch, spec["max_streams"]
        self._most_answer = spec.get("most_answer")
        self._grammars = {
            id(named.tokenizer): Grammars(named.tokenizer, loaded.vocabulary, named.ends)
            for named in loaded.named.values()
        }
        self._template = all(named.tokenizer.has_own_template for named in loaded.named.values())
        # a model whose template doesn't support calls has no form, unless it was trained on written-out calls
        self._forms = {
            name: detect_call_form(named.tokenizer)
            for name, named in loaded.named.items()
            if self._template and (named.calls_written or supports_tools(named.tokenizer))
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
            models=list(self._loaded.named),
        )

    @property
    def load(self) -> dict[str, int]:
        """Numbers of running answers and waiting requests."""
        return self._batch.load

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        if kind == "decision":
            return await self._decide(parse(DecisionBody, body, status=422))
        asked: ChatBody | CompletionBody
        # in a thread: the schemas of functions may be large
        asked = await asyncio.to_thread(_parse_body, kind, body)
        if asked.stream_options and not asked.stream:
            raise RequestError("stream_options requires stream.", field="stream_options")
        model = self._named(asked.model)
        calling: ToolOffer | None = None
        if isinstance(asked, ChatBody):
            # in a thread: a template may run for seconds before it is rejected
            prompts = [await asyncio.to_thread(self._conversation, model, asked)]
            self._check_room(len(prompts[0]), 1, "messages")  # before a grammar is compiled in vain
            calling = await asyncio.to_thread(self._calling, model, asked)
        else:
            prompts = [self._prompt(model, prompt) for prompt in _list_prompts(asked.prompt)]
        # Grammars of large vocabularies take a second to compile.
        requests = [
            await asyncio.to_thread(self._request, model, asked, prompt, calling) for prompt in prompts
        ]
        form = ResponseBuilder(asked.model, chat=kind == "chat")
        answering = _RequestRows(self._batch, requests, form, self._grammars, calling)
        answering.begin()
        if asked.stream:
            counted = bool(asked.stream_options and asked.stream_options.include_usage)
            return Stream(answering.chunks(counted), answering.leave, answering.tally)
        return WholeAnswer(await answering.whole(), answering.tally())

    async def _decide(self, body: DecisionBody) -> WholeAnswer:
        model = self._named(body.model)
        questions = await asyncio.to_thread(self._decisions.read, body, model.tokenizer)
        requests = []
        for question in questions:
            self._check_room(len(question.prompt), 1, "questions")
            requests.append(GenerationRequest(model, question.prompt, 1, [], [], _ignore_event))
        answering = _RequestRows(
            self._batch, requests, ResponseBuilder(body.model, chat=False), self._grammars
        )
        answering.begin()
        scores = await answering.scores()
        tokens = sum(len(question.prompt) for question in questions)
        return WholeAnswer(
            {
                "model": body.model,
                "answers": self._decisions.answers(questions, scores),
                "usage": {"input_tokens": tokens, "output_tokens": 0},
            }
        )

    def _named(self, name: str) -> ServedName:
        if name not in self._loaded.named:
            others = ", ".join(self._loaded.named)
            raise RequestError(
                f"There is no model {name!r} here, but {others}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        return self._loaded.named[name]

    def _calling(self, model: ServedName, body: ChatBody) -> ToolOffer | None:
        """Return what the answer may call. Raises RequestError."""
        form = self._forms.get(body.model)
        if form is None:
            if body.of_tools or body.tool_choice not in (None, "none"):
                raise RequestError(
                    f"{body.model} can't call functions: {NO_TOOLS}.",
                    code="unsupported_parameter",
                    field="tools",
                )
            return None
        return build_tool_offer(body, form, self._grammars[id(model.tokenizer)], model.tokenizer)

    def _conversation(self, model: ServedName, body: ChatBody) -> list[int]:
        turns: Messages = [
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text}
            for turn in body.messages
        ]
        try:
            if body.of_tools:
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
        return self._prompt(model, text, special=False)

    def _prompt(self, model: ServedName, prompt: str | list[int], *, special: bool = True) -> list[int]:
        if isinstance(prompt, str):
            tokens = list(model.tokenizer(prompt, add_special_tokens=special).input_ids)
        else:
            tokens = prompt
        if not tokens:
            raise RequestError("The prompt has no tokens.", field="prompt")
        if wrong := [token for token in tokens if not 0 <= token < self._loaded.vocabulary]:
            raise RequestError(f"The model has no token {wrong[0]}.", field="prompt")
        return tokens

    def _check_room(self, prompt: int, answer: int, field: str) -> None:
        context = self._loaded.context
        if prompt + answer > context:
            raise RequestError(
                f"The model's context has {context:,} tokens; the prompt has {prompt:,}, and {answer:,} are"
                " asked for as the answer.",
                code=CONTEXT_EXCEEDED,
                field=field,
            )

    def _request(
        self,
        model: ServedName,
        body: ChatBody | CompletionBody,
        prompt: list[int],
        calling: ToolOffer | None = None,
    ) -> GenerationRequest:
        field = "messages" if isinstance(body, ChatBody) else "prompt"
        wished = body.max_tokens
        if isinstance(body, ChatBody):
            wished = body.max_completion_tokens or body.max_tokens
        self._check_room(len(prompt), wished or 1, field)
        count = body.n or 1
        if count > self._most_rows:
            raise RequestError(
                f"n is {count}, and at most {self._most_rows} answers are made at once.", field="n"
            )
        sampling = self._sampling(body)
        constraint = calling.constraint if calling else None
        schema = body.response_format.wanted if body.response_format else None
        if schema is not None:
            constraint = self._grammars[id(model.tokenizer)].of_schema(schema)
        choosers = [
            TokenSampler(sampling, constraint and constraint.copy(), choice) for choice in range(count)
        ]
        room = self._loaded.context - len(prompt)
        most = wished or min(room, self._most_answer or room)
        kept = calling.kept if calling else frozenset[int]()
        return GenerationRequest(model, prompt, most, choosers, body.stop or [], _ignore_event, kept)

    def _sampling(self, body: ChatBody | CompletionBody) -> SamplingParams:
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


def _parse_body(kind: AnswerKind, body: Mapping[str, Any]) -> ChatBody | CompletionBody:
    return parse(ChatBody, body) if kind == "chat" else parse(CompletionBody, body)


def _list_prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("The prompt is empty.", field="prompt")
    if isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [each for each in prompt if not isinstance(each, int)]


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
        calling: ToolOffer | None = None,
    ) -> None:
        self._batch, self._requests, self._form = batch, requests, form
        self._grammars = grammars
        self._happened: asyncio.Queue[tuple[int, RowEvent]] = asyncio.Queue()
        self._prompt_tokens = sum(len(asked.prompt) for asked in requests)
        self._tally = LogprobTally(0.0, 0)
        self._readers = [calling.reader() for _ in range(self._choices)] if calling else []

    def begin(self) -> None:
        """Submit all rows to the batch. Raises RequestError if its queue is full."""
        loop = asyncio.get_running_loop()

        def tell(number: int, event: RowEvent) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._happened.put_nowait, (number, event))

        try:
            for number, asked in enumerate(self._requests):
                asked.tell = partial(tell, number)
                self._batch.ask(asked)
        except RequestError:
            self.leave()
            raise

    def leave(self) -> None:
        """Release the rows: nobody waits for the request any more."""
        for asked in self._requests:
            self._batch.leave(asked)

    async def _events(self, wanted: int) -> AsyncGenerator[tuple[int, RowEvent], None]:
        """Yield the batch's events until `wanted` choices have ended. Raises the error of a failure."""
        try:
            while wanted:
                number, event = await self._happened.get()
                if isinstance(event, RequestFailure):
                    raise event.error
                yield number, event
                wanted -= not isinstance(event, TextPiece)
        finally:
            self.leave()

    async def scores(self) -> list[Any]:
        """Return the logits of the token after each prompt."""
        scores: dict[int, Any] = {}
        async for number, event in self._events(len(self._requests)):
            scores[number] = event.scores  # type: ignore[union-attr]
        return [scores[number] for number in sorted(scores)]

    def _place(self, number: int, index: int) -> int:
        """Return the index among all choices of the response."""
        return number * len(self._requests[0].choosers) + index

    @property
    def _choices(self) -> int:
        return sum(len(asked.choosers) for asked in self._requests)

    def tally(self) -> LogprobTally | None:
        """Return the log-probability of the first choice's tokens so far; None before the first one."""
        return self._tally if self._tally.tokens else None

    def _count(self, place: int, tokens: Sequence[SampledToken]) -> None:
        if place == 0 and tokens:
            total, count, invalid = self._tally
            total += sum(token.logprob for token in tokens)
            self._tally = LogprobTally(total, count + len(tokens), invalid)

    def _free(self, place: int, text: str) -> str:
        """Return the part of a choice's text that can be released, as it isn't part of a call."""
        return self._readers[place].add(text) if self._readers else text

    async def _ended(self, place: int, reason: FinishReason) -> tuple[ToolAnswer, str]:
        """Return what was held back of a choice, and its finish reason in the API's terms."""
        if not self._readers:
            return ToolAnswer(), reason
        # in a thread: checking a caller's schema may take long
        ended = await asyncio.to_thread(self._readers[place].end, cut=reason == "length")
        self._tally = self._tally._replace(invalid_calls=self._tally.invalid_calls + ended.invalid)
        return ended, "tool_calls" if ended.calls and reason == "stop" else reason

    async def whole(self) -> Mapping[str, Any]:
        """Return the complete response."""
        texts = [""] * self._choices
        reasons: list[str | None] = [None] * self._choices
        tokens: list[list[ContentLogprob]] = [[] for _ in texts]
        calls: list[list[AnswerToolCall]] = [[] for _ in texts]
        made = 0
        async for number, event in self._events(self._choices):
            if isinstance(event, TextPiece):
                place = self._place(number, event.index)
                self._count(place, event.tokens)
                texts[place] += self._free(place, event.text)
                tokens[place] += self._entries(number, event.tokens) or []
            elif isinstance(event, ChoiceEnd):
                place = self._place(number, event.index)
                ended, reasons[place] = await self._ended(place, event.reason)
                texts[place], calls[place] = texts[place] + ended.text, ended.calls
                made += event.tokens
        with_logprobs = self._requests[0].choosers[0].with_logprobs
        choices = [
            self._form.choice(
                place, text, reasons[place], tokens[place] if with_logprobs else None, calls[place]
            )
            for place, text in enumerate(texts)
        ]
        return self._form.whole(choices, build_usage(self._prompt_tokens, made))

    async def chunks(self, counted: bool) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the response as chunks, as its pieces are released."""
        form, made = self._form, 0
        offsets = [0] * self._choices
        async with aclosing(self._events(self._choices)) as events:
            for place in range(self._choices) if form.chat else ():
                yield form.chunk([form.opening(place)], counted=counted)
            async for number, event in events:
                if isinstance(event, TextPiece):
                    place = self._place(number, event.index)
                    self._count(place, event.tokens)
                    entries = self._entries(number, event.tokens)
                    text = self._free(place, event.text)
                    if text or entries:
                        piece = form.piece(place, text, entries, offsets[place])
                        yield form.chunk([piece], counted=counted)
                        offsets[place] += len(text)
                    elif event.text:  # within a call: its tokens count even if the client disconnects
                        yield form.chunk([form.waiting(place)], counted=counted)
                elif isinstance(event, ChoiceEnd):
                    made += event.tokens
                    async for choice in self._closing(self._place(number, event.index), event.reason):
                        yield form.chunk([choice], counted=counted)
        if counted:
            yield form.chunk([], counts=build_usage(self._prompt_tokens, made), counted=True)

    async def _closing(self, place: int, reason: FinishReason) -> AsyncGenerator[JsonObject, None]:
        """Yield the last pieces of a choice: held-back text, its calls, the end."""
        ended, reason_given = await self._ended(place, reason)
        if ended.text:
            yield self._form.piece(place, ended.text, None)
        for choice in self._form.calling(place, ended.calls):
            yield choice
        yield self._form.closing(place, reason_given)

    def _entries(self, number: int, tokens: Sequence[SampledToken]) -> list[ContentLogprob] | None:
        """Return tokens with their log-probabilities in the API's form."""
        asked = self._requests[number]
        if not asked.choosers[0].with_logprobs or not tokens:
            return None
        grammars = self._grammars[id(asked.model.tokenizer)]
        return [
            {
                **grammars.entry(token.token, token.logprob),
                "top_logprobs": [grammars.entry(other, logprob) for other, logprob in token.alternatives],
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
