"""Answers of a GGUF model by llama.cpp's server, inside this process and without its HTTP.

A conversation is rendered here as the template of the file writes it, in a sandbox with limits, and llama.cpp
gets the finished prompt.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xllamacpp
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from engine.models.tokenization.template_limits import limit_templates
from engine.serving.gguf_metadata import GgufHeader
from engine.serving.protocol.answers import (
    CONTEXT_EXCEEDED,
    TOOL_FIELDS,
    RequestError,
    build_completion_logprobs,
)
from engine.serving.protocol.app import AnswerKind, Stream, WholeAnswer
from engine.serving.protocol.request_bodies import FIELDS, ChatBody, ChatTurn, CompletionBody, parse
from store.core.errors import ConfigError
from store.core.schemas import JsonObject
from store.serving.schemas import BackendSpec, Capabilities

TEMPLATE = "tokenizer.chat_template"
BEGIN_TOKEN, END_TOKEN = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"


class ChatTemplate:
    """That of one file; false where it has none."""

    def __init__(self, head: GgufHeader) -> None:
        limit_templates()
        self._source = head.text(TEMPLATE)
        self.begin = head.token(BEGIN_TOKEN)
        self._names: dict[str, Any] = {"bos_token": self.begin, "eos_token": head.token(END_TOKEN)}

    def __bool__(self) -> bool:
        return bool(self._source)

    def prompt(self, turns: Sequence[ChatTurn]) -> str:
        """Raises Refused where the template takes no such conversation, ConfigError at its limits."""
        messages = [
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text}
            for turn in turns
        ]
        try:
            rendered = render_jinja_template(
                [messages], chat_template=self._source, add_generation_prompt=True, **self._names
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise RequestError(
                f"The model's chat template refuses the conversation: {error}.", field="messages"
            ) from error
        return str(rendered[0][0])


# Answers of a GGUF model by llama.cpp's server, inside this process and without its HTTP.
#
# Conversations are rendered here, and llama.cpp goes on with the text. What is let through
# to it is what it was seen to obey; it would drop everything else without a word. Its own defaults of
# sampling are not the protocol's, so that all of them are always said. Bodies are read by our worker's
# rules, and its errors are brought into the protocol's form.

log = logging.getLogger("backend")

# Of all answers, beside what the request says: the model's own distribution, nothing cut off from it.
DEFAULT_SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "cache_prompt": True,
}
SEEDS = 2**32 - 1  # more are none for llama.cpp; the last one of 32 bits stands for a random one
END = object()


class LlamaAnswerer:
    """One loaded GGUF model."""

    def __init__(self, spec: BackendSpec) -> None:
        """Load it. Raises ConfigError and ModelError."""
        self._spec = spec
        path = _find_gguf(spec)
        head = GgufHeader(path)
        context, trained = (
            _compute_context(spec),
            head.number(f"{head.text('general.architecture')}.context_length"),
        )
        self._context = min(context, trained) if trained and trained > 0 else context
        self._template = ChatTemplate(head)
        self._server = xllamacpp.Server(_build_params(spec, path, self._context))
        self._begins = self._adds_begin()
        self._places = asyncio.Semaphore(spec["max_streams"])
        self._running = self._waiting = 0

    @property
    def capabilities(self) -> Capabilities:
        """What it was seen to obey."""
        return Capabilities(
            engine="llama.cpp",
            version=importlib.metadata.version("xllamacpp"),
            kinds=["chat", "completion"] if self._template else ["completion"],
            fields=[field for field in FIELDS if field != "n"],
            context=self._context,
            template=bool(self._template),
            models=self._spec["names"],
        )

    @property
    def load(self) -> dict[str, int]:
        """Answers that are made, and requests that wait."""
        return {"running": self._running, "waiting": self._waiting}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Raises Refused."""
        asked = parse(ChatBody, body) if kind == "chat" else parse(CompletionBody, body)
        if asked.model not in self._spec["names"]:
            others = ", ".join(self._spec["names"])
            raise RequestError(
                f"There is no model {asked.model!r} here, but {others}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        self._check(asked)
        given = _build_request(asked) | {"prompt": await asyncio.to_thread(self._prompt, asked)}
        if most_answer := self._spec.get("most_answer"):
            given.setdefault("max_tokens", most_answer)
        documents = self._documents(given, _LlamaForm(asked))
        first = await anext(documents)
        if "error" in first:
            await documents.aclose()
            raise _convert_error(first["error"], "messages" if kind == "chat" else "prompt")
        if asked.stream:
            return Stream(_continue_stream(first, documents))
        return WholeAnswer(await _collect_stream(_continue_stream(first, documents), asked))

    def _prompt(self, asked: ChatBody | CompletionBody) -> str:
        """The text to go on with. A beginning that llama.cpp adds is not written twice. Raises Refused."""
        if isinstance(asked, CompletionBody):
            return str(asked.prompt)
        text = self._template.prompt(asked.messages)
        return text.removeprefix(self._template.begin) if self._begins else text

    def _adds_begin(self) -> bool:
        """Whether llama.cpp puts the token of the beginning before a text: its count of tokens says so."""
        if not self._template.begin:
            return False
        documents: list[Any] = []

        def keep(document: Any) -> bool:
            documents.append(document)
            return False

        self._call({"prompt": self._template.begin, "max_tokens": 1, "stream": False}, keep)
        counts = _parse_document(documents[-1]).get("usage") or {}
        return bool(counts.get("prompt_tokens", 1) > 1)

    def _check(self, asked: ChatBody | CompletionBody) -> None:
        if asked.stream_options and not asked.stream:
            raise RequestError("stream_options goes with stream.", field="stream_options")
        if isinstance(asked, ChatBody) and (asked.of_tools or asked.tool_choice not in (None, "none")):
            raise RequestError(
                "A GGUF file calls no functions here: serve the model that it was made of by our own worker,"
                " or describe the functions in the system message and ask for JSON by response_format.",
                code="unsupported_parameter",
                field="tools",
            )
        if (asked.n or 1) > 1:  # llama.cpp makes several, and counts the tokens of one
            raise RequestError(
                f"n is {asked.n}, and this backend makes one answer to a request.",
                code="unsupported_parameter",
                field="n",
            )
        if isinstance(asked, CompletionBody) and not isinstance(asked.prompt, str):
            raise RequestError("This backend takes one prompt at a time, as a text.", field="prompt")
        wished = asked.max_tokens
        if isinstance(asked, ChatBody):
            wished = asked.max_completion_tokens or asked.max_tokens
            _ = asked.alternatives  # raises where they contradict each other
        if wished and wished >= self._context:
            raise RequestError(
                f"The model's context has {self._context:,} tokens, and {wished:,} are asked for as answer.",
                code=CONTEXT_EXCEEDED,
                field="max_tokens",
            )

    async def _documents(
        self, given: Mapping[str, Any], form: _LlamaForm
    ) -> AsyncGenerator[JsonObject, None]:
        """What the server gives for one request; closing it cancels that at its next token."""
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        happened: asyncio.Queue[Any] = asyncio.Queue()
        gone = threading.Event()
        self._running += 1

        def take(document: Any) -> bool:
            loop.call_soon_threadsafe(happened.put_nowait, document)
            return gone.is_set()  # true ends it

        working = asyncio.ensure_future(asyncio.to_thread(self._call, given, take))
        working.add_done_callback(lambda _: happened.put_nowait(END))
        working.add_done_callback(lambda _: self._done())
        try:
            while (document := await happened.get()) is not END:
                for each in document if isinstance(document, list) else [document]:
                    yield form.document(each)
            working.result()
        finally:
            gone.set()

    def _done(self) -> None:
        self._running -= 1
        self._places.release()

    def _call(self, given: Mapping[str, Any], take: Callable[[Any], bool]) -> None:
        self._server.handle_completions(dict(given), take)


async def _continue_stream(
    first: JsonObject, documents: AsyncGenerator[JsonObject, None]
) -> AsyncGenerator[Mapping[str, Any], None]:
    try:
        yield first
        async for document in documents:
            if "error" in document:
                raise _convert_error(document["error"], None)
            yield document
    finally:
        await documents.aclose()


async def _collect_stream(
    documents: AsyncIterator[Mapping[str, Any]], asked: ChatBody | CompletionBody
) -> Mapping[str, Any]:
    """The chunks of a stream as one answer: llama.cpp is always asked for a stream, as nothing else can be
    left in the middle."""
    chat = isinstance(asked, ChatBody)
    gathered = [_ChoiceBuilder() for _ in range(asked.n or 1)]
    head: JsonObject = {}
    counts = None
    async for document in documents:
        head, counts = dict(document), document.get("usage") or counts
        for piece in document["choices"]:
            gathered[piece["index"]].add(piece)
    kind = "chat.completion" if chat else "text_completion"
    choices = [each.whole(index, chat=chat) for index, each in enumerate(gathered)]
    return head | {"object": kind, "choices": choices, "usage": counts}


class _ChoiceBuilder:
    """One choice, put together from its pieces."""

    def __init__(self) -> None:
        self._text, self._reason = "", None
        self._logprobs: dict[str, list[Any]] | None = None

    def add(self, piece: Mapping[str, Any]) -> None:
        """A piece more."""
        self._text += (piece["delta"].get("content") if "delta" in piece else piece["text"]) or ""
        self._reason = piece.get("finish_reason") or self._reason
        for name, values in (piece.get("logprobs") or {}).items():
            self._logprobs = self._logprobs or {}
            self._logprobs[name] = self._logprobs.get(name, []) + (values or [])

    def whole(self, index: int, *, chat: bool) -> JsonObject:
        """As a choice of a whole answer."""
        own: JsonObject = {"message": {"role": "assistant", "content": self._text, "refusal": None}}
        if not chat:
            own = {"text": self._text}
        return {"index": index, **own, "logprobs": self._logprobs, "finish_reason": self._reason}


def _find_gguf(spec: BackendSpec) -> Path:
    """The file. Raises ConfigError."""
    if spec["adapters"]:
        names = ", ".join(adapter.name for adapter in spec["adapters"])
        raise ConfigError(
            f"llama.cpp serves GGUF files without adapters, and there are some: {names}.",
            fix="Serve them by our own worker, or export each as a GGUF file.",
            field="adapters",
        )
    labels = spec.get("labels")
    if labels:
        raise ConfigError("llama.cpp gives no labels.", fix="Leave labels out.", field="labels")
    path = Path(spec["model"])
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise ConfigError(f"{path} holds {len(files)} GGUF files.", fix="Name the file.", field="model")
        path = files[0]
    if not path.is_file():
        raise ConfigError(f"There is no GGUF file {path}.", fix="Name a file that is there.", field="model")
    return path


def _compute_context(spec: BackendSpec) -> int:
    """Tokens of one prompt and its answer: llama.cpp deals its memory out to the streams beforehand."""
    each = spec["max_tokens"] // spec["max_streams"]
    return min(each, spec["context"] or each)


def _build_params(spec: BackendSpec, path: Path, context: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {spec["names"][0]}
    params.n_parallel = spec["max_streams"]
    params.n_ctx = context * spec["max_streams"]
    params.warmup = False
    params.verbosity = 0
    params.chat_template = "chatml"  # one of its own, never used: else it tries that of the file as it loads
    params.ctx_shift = False
    if spec["threads"]:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec["threads"]
    return params


def _build_request(asked: ChatBody | CompletionBody) -> JsonObject:
    """The body as llama.cpp is given it, without the prompt: always that of a completion."""
    dropped = {
        "model", "user", "messages", "prompt", "response_format", "logprobs", "top_logprobs", *TOOL_FIELDS,
    }  # fmt: skip
    asked_fields = asked.model_dump(exclude_none=True, by_alias=True, exclude=dropped)
    given = DEFAULT_SAMPLING | asked_fields | {"stream": True}
    if not asked.stream:
        given["stream_options"] = {"include_usage": True}
    given["seed"] = secrets.randbelow(SEEDS) if asked.seed is None else asked.seed % SEEDS
    if isinstance(asked, ChatBody) and asked.max_completion_tokens:
        given["max_tokens"] = given.pop("max_completion_tokens")
    if asked.alternatives is not None:
        given["logprobs"] = max(1, asked.alternatives)  # of none it would give no log-probabilities at all
    schema = asked.response_format.wanted if asked.response_format else None
    if schema is not None:
        given["json_schema"] = schema
    return given


def _parse_document(document: Any) -> JsonObject:
    parsed: JsonObject = json.loads(document) if isinstance(document, str | bytes) else dict(document)
    return parsed


class _LlamaForm:
    """Documents of llama.cpp's completions in the form of one request's answer, without its own additions."""

    def __init__(self, asked: ChatBody | CompletionBody) -> None:
        self._model, self._chat = asked.model, isinstance(asked, ChatBody)
        self._alternatives = asked.alternatives
        self._offsets: dict[int, int] = {}  # characters of each choice so far

    def document(self, document: Any) -> JsonObject:
        """One chunk; an error as it is."""
        parsed = _parse_document(document)
        if "error" in parsed:
            return parsed
        for own in ("timings", "__verbose"):
            parsed.pop(own, None)
        head = "chatcmpl-" if self._chat else "cmpl-"
        parsed["id"] = head + str(parsed.get("id", "")).rpartition("-")[2]
        if self._chat:
            parsed["object"] = "chat.completion.chunk"
        parsed["choices"] = [self._choice(choice) for choice in parsed.get("choices") or []]
        return parsed | {"model": self._model}

    def _choice(self, choice: JsonObject) -> JsonObject:
        index, text = choice["index"], choice["text"]
        begun, offset = index in self._offsets, self._offsets.get(index, 0)
        self._offsets[index] = offset + len(text)
        tokens = (choice.get("logprobs") or {}).get("content")
        for token in tokens or ():
            token["top_logprobs"] = token.get("top_logprobs", [])[: self._alternatives]
        own: JsonObject = {"text": text}
        if self._chat:
            own = {"delta": {"content": text} if begun else {"role": "assistant", "content": text}}
            logprobs: Any = None if tokens is None else {"content": tokens}
        else:
            logprobs = None if tokens is None else build_completion_logprobs(tokens, offset)
        return {"index": index, **own, "logprobs": logprobs, "finish_reason": choice["finish_reason"]}


def _convert_error(error: Any, field: str | None) -> RequestError:
    """Its error in the protocol's form."""
    message, kind = str(error.get("message", error)), error.get("type", "")
    if kind == "exceed_context_size_error":
        return RequestError(message, code=CONTEXT_EXCEEDED, field=field)
    status = error.get("code", 500)
    return RequestError(
        message, status=status if isinstance(status, int) else 500, code=kind or "engine_error"
    )
