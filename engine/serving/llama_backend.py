"""Answers of a GGUF model by llama.cpp's server, in this process and without its HTTP layer.

A conversation is rendered here by the file's own template, in a sandbox with limits, and llama.cpp gets
the finished prompt.
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
    """Chat template of a GGUF file; false if the file has none."""

    def __init__(self, head: GgufHeader) -> None:
        limit_templates()
        self._source = head.get_text(TEMPLATE)
        self.begin_token = head.get_token_text(BEGIN_TOKEN)
        self._names: dict[str, Any] = {
            "bos_token": self.begin_token,
            "eos_token": head.get_token_text(END_TOKEN),
        }

    def __bool__(self) -> bool:
        return bool(self._source)

    def render_prompt(self, turns: Sequence[ChatTurn]) -> str:
        """Render the prompt.

        Raises RequestError if the template rejects the conversation, ConfigError at its limits.
        """
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


# Only fields that llama.cpp was verified to support are passed to it; it would silently drop any other. Its
# sampling defaults differ from OpenAI's, so all of them are always set. Bodies are validated as for our own
# backend, and errors are converted to OpenAI's form.

log = logging.getLogger("backend")

# Defaults for all answers: sampling from the model's own, untruncated distribution.
DEFAULT_SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "cache_prompt": True,
}
SEEDS = 2**32 - 1  # llama.cpp's seeds have 32 bits, of which the highest means random
END = object()


class LlamaAnswerer:
    """One loaded GGUF model."""

    def __init__(self, spec: BackendSpec) -> None:
        """Load the model. Raises ConfigError and ModelError."""
        self._spec = spec
        path = _find_gguf(spec)
        head = GgufHeader(path)
        context, trained_context = (
            _compute_context(spec),
            head.get_number(f"{head.get_text('general.architecture')}.context_length"),
        )
        self._context = min(context, trained_context) if trained_context and trained_context > 0 else context
        self._template = ChatTemplate(head)
        self._server = xllamacpp.Server(_build_params(spec, path, self._context))
        self._strips_begin = self._detect_begin_token()
        self._slots = asyncio.Semaphore(spec["max_streams"])
        self._running = self._waiting = 0

    @property
    def capabilities(self) -> Capabilities:
        """What llama.cpp was verified to support."""
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
        """Numbers of running and waiting requests."""
        return {"running": self._running, "waiting": self._waiting}

    async def answer(self, kind: AnswerKind, body: Mapping[str, Any]) -> WholeAnswer | Stream:
        """Answer the request. Raises RequestError."""
        request = parse(ChatBody, body) if kind == "chat" else parse(CompletionBody, body)
        if request.model not in self._spec["names"]:
            available = ", ".join(self._spec["names"])
            raise RequestError(
                f"There is no model {request.model!r} here, but {available}.",
                status=404,
                code="model_not_found",
                field="model",
            )
        self._check(request)
        params = _build_request(request) | {"prompt": await asyncio.to_thread(self._render_prompt, request)}
        if most_answer := self._spec.get("most_answer"):
            params.setdefault("max_tokens", most_answer)
        documents = self._stream_documents(params, _LlamaForm(request))
        first_document = await anext(documents)
        if "error" in first_document:
            await documents.aclose()
            raise _convert_error(first_document["error"], "messages" if kind == "chat" else "prompt")
        if request.stream:
            return Stream(_continue_stream(first_document, documents))
        return WholeAnswer(await _collect_stream(_continue_stream(first_document, documents), request))

    def _render_prompt(self, request: ChatBody | CompletionBody) -> str:
        """Return the prompt, without the begin token if llama.cpp adds one. Raises RequestError."""
        if isinstance(request, CompletionBody):
            return str(request.prompt)
        text = self._template.render_prompt(request.messages)
        return text.removeprefix(self._template.begin_token) if self._strips_begin else text

    def _detect_begin_token(self) -> bool:
        """Return whether llama.cpp prepends the begin token to a text, judging by its token count."""
        if not self._template.begin_token:
            return False
        documents: list[Any] = []

        def collect(document: Any) -> bool:
            documents.append(document)
            return False

        self._run_completion(
            {"prompt": self._template.begin_token, "max_tokens": 1, "stream": False}, collect
        )
        usage = _parse_document(documents[-1]).get("usage") or {}
        return bool(usage.get("prompt_tokens", 1) > 1)

    def _check(self, request: ChatBody | CompletionBody) -> None:
        if request.stream_options and not request.stream:
            raise RequestError("stream_options requires stream.", field="stream_options")
        if isinstance(request, ChatBody) and (
            request.uses_tools or request.tool_choice not in (None, "none")
        ):
            raise RequestError(
                "Function calls are not supported for GGUF files: serve the original model, or describe the"
                " functions in the system message and request JSON by response_format.",
                code="unsupported_parameter",
                field="tools",
            )
        if (request.n or 1) > 1:  # llama.cpp supports several, but counts the tokens of one
            raise RequestError(
                f"n is {request.n}, and this backend makes one answer to a request.",
                code="unsupported_parameter",
                field="n",
            )
        if isinstance(request, CompletionBody) and not isinstance(request.prompt, str):
            raise RequestError("This backend accepts one prompt at a time, as a string.", field="prompt")
        length = request.max_tokens
        if isinstance(request, ChatBody):
            length = request.max_completion_tokens or request.max_tokens
            _ = request.alternatives  # raises if they contradict each other
        if length and length >= self._context:
            raise RequestError(
                f"The model's context has {self._context:,} tokens, and {length:,} are asked for as answer.",
                code=CONTEXT_EXCEEDED,
                field="max_tokens",
            )

    async def _stream_documents(
        self, params: Mapping[str, Any], form: _LlamaForm
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield the server's documents for one request.

        Closing the generator cancels the request at its next token.
        """
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Any] = asyncio.Queue()
        cancelled = threading.Event()
        self._running += 1

        def receive(document: Any) -> bool:
            loop.call_soon_threadsafe(events.put_nowait, document)
            return cancelled.is_set()  # true cancels it

        task = asyncio.ensure_future(asyncio.to_thread(self._run_completion, params, receive))
        task.add_done_callback(lambda _: events.put_nowait(END))
        task.add_done_callback(lambda _: self._release_slot())
        try:
            while (document := await events.get()) is not END:
                for part in document if isinstance(document, list) else [document]:
                    yield form.convert(part)
            task.result()
        finally:
            cancelled.set()

    def _release_slot(self) -> None:
        self._running -= 1
        self._slots.release()

    def _run_completion(self, params: Mapping[str, Any], receive: Callable[[Any], bool]) -> None:
        self._server.handle_completions(dict(params), receive)


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
    documents: AsyncIterator[Mapping[str, Any]], request: ChatBody | CompletionBody
) -> Mapping[str, Any]:
    """Combine a stream's chunks into one answer.

    llama.cpp is always asked for a stream, since only that can be cancelled.
    """
    chat = isinstance(request, ChatBody)
    builders = [_ChoiceBuilder() for _ in range(request.n or 1)]
    head: JsonObject = {}
    counts = None
    async for document in documents:
        head, counts = dict(document), document.get("usage") or counts
        for piece in document["choices"]:
            builders[piece["index"]].add(piece)
    kind = "chat.completion" if chat else "text_completion"
    choices = [builder.build_choice(index, chat=chat) for index, builder in enumerate(builders)]
    return head | {"object": kind, "choices": choices, "usage": counts}


class _ChoiceBuilder:
    """Builder of one choice from its pieces."""

    def __init__(self) -> None:
        self._text, self._reason = "", None
        self._logprobs: dict[str, list[Any]] | None = None

    def add(self, piece: Mapping[str, Any]) -> None:
        """Add a piece."""
        self._text += (piece["delta"].get("content") if "delta" in piece else piece["text"]) or ""
        self._reason = piece.get("finish_reason") or self._reason
        for name, values in (piece.get("logprobs") or {}).items():
            self._logprobs = self._logprobs or {}
            self._logprobs[name] = self._logprobs.get(name, []) + (values or [])

    def build_choice(self, index: int, *, chat: bool) -> JsonObject:
        """Return the choice of a complete answer."""
        content_fields: JsonObject = {
            "message": {"role": "assistant", "content": self._text, "refusal": None}
        }
        if not chat:
            content_fields = {"text": self._text}
        return {"index": index, **content_fields, "logprobs": self._logprobs, "finish_reason": self._reason}


def _find_gguf(spec: BackendSpec) -> Path:
    """Return the GGUF file. Raises ConfigError."""
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
            raise ConfigError(
                f"{path} contains {len(files)} GGUF files.", fix="Name the file.", field="model"
            )
        path = files[0]
    if not path.is_file():
        raise ConfigError(f"There is no GGUF file {path}.", fix="Name a file that is there.", field="model")
    return path


def _compute_context(spec: BackendSpec) -> int:
    """Return the tokens for one prompt and its answer.

    llama.cpp divides its memory among the streams in advance.
    """
    stream_tokens = spec["max_tokens"] // spec["max_streams"]
    return min(stream_tokens, spec["context"] or stream_tokens)


def _build_params(spec: BackendSpec, path: Path, context: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {spec["names"][0]}
    params.n_parallel = spec["max_streams"]
    params.n_ctx = context * spec["max_streams"]
    params.warmup = False
    params.verbosity = 0
    params.chat_template = "chatml"  # built in, never used: avoids a test of the file's template on load
    params.ctx_shift = False
    if spec["threads"]:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec["threads"]
    return params


def _build_request(request: ChatBody | CompletionBody) -> JsonObject:
    """Build llama.cpp's request body without the prompt: always a completion."""
    dropped = {
        "model", "user", "messages", "prompt", "response_format", "logprobs", "top_logprobs", *TOOL_FIELDS,
    }  # fmt: skip
    request_fields = request.model_dump(exclude_none=True, by_alias=True, exclude=dropped)
    params = DEFAULT_SAMPLING | request_fields | {"stream": True}
    if not request.stream:
        params["stream_options"] = {"include_usage": True}
    params["seed"] = secrets.randbelow(SEEDS) if request.seed is None else request.seed % SEEDS
    if isinstance(request, ChatBody) and request.max_completion_tokens:
        params["max_tokens"] = params.pop("max_completion_tokens")
    if request.alternatives is not None:
        params["logprobs"] = max(
            1, request.alternatives
        )  # with 0 it would return no log-probabilities at all
    schema = request.response_format.required_schema if request.response_format else None
    if schema is not None:
        params["json_schema"] = schema
    return params


def _parse_document(document: Any) -> JsonObject:
    parsed: JsonObject = json.loads(document) if isinstance(document, str | bytes) else dict(document)
    return parsed


class _LlamaForm:
    """Conversion of llama.cpp's completions to the API's form, without llama.cpp's own additions."""

    def __init__(self, request: ChatBody | CompletionBody) -> None:
        self._model, self._chat = request.model, isinstance(request, ChatBody)
        self._alternatives = request.alternatives
        self._offsets: dict[int, int] = {}  # characters per choice so far

    def convert(self, document: Any) -> JsonObject:
        """Convert one chunk; an error is returned unchanged."""
        parsed = _parse_document(document)
        if "error" in parsed:
            return parsed
        for extra in ("timings", "__verbose"):
            parsed.pop(extra, None)
        head = "chatcmpl-" if self._chat else "cmpl-"
        parsed["id"] = head + str(parsed.get("id", "")).rpartition("-")[2]
        if self._chat:
            parsed["object"] = "chat.completion.chunk"
        parsed["choices"] = [self._convert_choice(choice) for choice in parsed.get("choices") or []]
        return parsed | {"model": self._model}

    def _convert_choice(self, choice: JsonObject) -> JsonObject:
        index, text = choice["index"], choice["text"]
        started, offset = index in self._offsets, self._offsets.get(index, 0)
        self._offsets[index] = offset + len(text)
        tokens = (choice.get("logprobs") or {}).get("content")
        for token in tokens or ():
            token["top_logprobs"] = token.get("top_logprobs", [])[: self._alternatives]
        content_fields: JsonObject = {"text": text}
        if self._chat:
            content_fields = {
                "delta": {"content": text} if started else {"role": "assistant", "content": text}
            }
            logprobs: Any = None if tokens is None else {"content": tokens}
        else:
            logprobs = None if tokens is None else build_completion_logprobs(tokens, offset)
        return {
            "index": index,
            **content_fields,
            "logprobs": logprobs,
            "finish_reason": choice["finish_reason"],
        }


def _convert_error(error: Any, field: str | None) -> RequestError:
    """Convert llama.cpp's error to OpenAI's form."""
    message, kind = str(error.get("message", error)), error.get("type", "")
    if kind == "exceed_context_size_error":
        return RequestError(message, code=CONTEXT_EXCEEDED, field=field)
    status = error.get("code", 500)
    return RequestError(
        message, status=status if isinstance(status, int) else 500, code=kind or "engine_error"
    )
