"""What callers send: read up to a limit and in time, parsed strictly, held against what the endpoint takes,
or refused.

Refusals are in the form that OpenAI's clients read. The most tokens that a request can take are known from
its body before it goes out.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Receive, Scope

from engine.serving.protocol.answers import NO_TOOLS, TOOL_FIELDS, RefusalDetail, RefusalDocument
from store.core.json_schema import check_schema
from store.core.schemas import JsonObject
from store.serving.schemas import RequestKind


class Refusal(Exception):
    """What a caller is told in place of an answer. `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after = None if retry_after is None else max(1, round(retry_after + 0.49))

    @property
    def kind(self) -> str:
        """The `type` of OpenAI's errors."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> bytes:
        """The document."""
        error: RefusalDetail = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        document: RefusalDocument = {"error": error}
        return json.dumps(document, ensure_ascii=False).encode()

    def event(self) -> bytes:
        """The same as an event of a stream that has begun."""
        return b"data: " + self.body() + b"\n\n"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of the answer."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def build_key_refusal() -> Refusal:
    """For a key that is missing, unknown or revoked: which of them is nobody's business."""
    return Refusal(
        401,
        "invalid_api_key",
        "The API key is missing, unknown or revoked. Send it as the header Authorization: Bearer KEY.",
    )


def build_draining_refusal() -> Refusal:
    """While the endpoint stops."""
    return Refusal(503, "endpoint_stopping", "The endpoint is being stopped; ask again soon.", retry_after=5)


def build_not_ready_refusal(model: str, why: str) -> Refusal:
    """Nothing can answer at present."""
    return Refusal(503, "model_not_ready", f"{model} can't answer at present: {why}", retry_after=5)


def build_timeout_refusal(seconds: float) -> Refusal:
    """An answer that took longer than the endpoint's limit."""
    return Refusal(
        504, "timeout", f"The answer took longer than this endpoint's limit of {seconds:g} seconds."
    )


# What callers send: read up to a limit and in time, parsed strictly, and held against what backends obey.
#
# A field that the backend would ignore is refused by its name. A null, and a value that asks for what is done
# anyway (`store: false`), asks for nothing and is left out.

BODY_SECONDS = 20.0  # for a whole body: a caller that sends a byte at a time holds no place for longer
GATEWAY_FIELDS = {"user", "metadata"}  # what the gateway obeys itself
GROUP = "group"  # the one entry of metadata that means something here
TOKENS = ("max_tokens", "max_completion_tokens")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
MAX_REASON = 500  # characters of what a backend says is wrong
DEFAULT_VALUES: Mapping[str, tuple[object, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "parallel_tool_calls": (True,),
    "tools": ([],),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "truncation": ("disabled",),
}
DEFAULT_VALUES_WITHOUT_TOOLS: Mapping[str, tuple[object, ...]] = {
    "parallel_tool_calls": (False,),
    "tool_choice": ("none", "auto"),
}
_MAX_QUOTED = 80  # characters of a caller's own words in a message


class ClientGone(Exception):
    """The caller went away before the request was whole."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises Refusal where it is too long or too slow, ClientGone."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _build_size_refusal(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _build_size_refusal(limit)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(
            408, "request_timeout", f"The body did not come within {BODY_SECONDS:g} seconds."
        ) from None


def _build_size_refusal(limit: int) -> Refusal:
    return Refusal(
        413,
        "request_too_large",
        f"The body is longer than this endpoint's limit of {limit / 2**20:g} MiB.",
    )


def parse(body: bytes) -> JsonObject:
    """The JSON object. Raises Refusal for anything else, however deep or odd it is."""
    try:
        content = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else shorten(str(error))
        raise Refusal(400, "invalid_json", f"The body is not JSON: {reason}.") from error
    if not isinstance(content, dict):
        raise Refusal(400, "invalid_json", "The body is not a JSON object.")
    if _SURROGATE.search(body):
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise Refusal(400, "invalid_json", "The body holds half of a character.") from error
    usual = DEFAULT_VALUES if content.get("tools") else {**DEFAULT_VALUES, **DEFAULT_VALUES_WITHOUT_TOOLS}
    return {name: value for name, value in content.items() if not _is_default(value, usual.get(name, ()))}


def _is_default(value: object, usual: Collection[object]) -> bool:
    """Whether a field asks for no more than what is done without it: clients send their defaults, too."""
    return value is None or any(type(value) is type(each) and value == each for each in usual)


def extract_error_message(content: bytes) -> str:
    """What an answer in OpenAI's form of an error, or one like it, says is wrong; "" for any other."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    detail = document.get("error") if isinstance(document, dict) else None
    message = detail.get("message") if isinstance(detail, dict) else detail
    return " ".join(message.split())[:MAX_REASON] if isinstance(message, str) else ""


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def shorten(text: str) -> str:
    """A caller's own words, as much of them as a message has room for."""
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]} …"


def list_requested_fields(body: Mapping[str, Any]) -> set[str]:
    """Fields that have to be obeyed: those of the body, and `tools` where its messages call functions."""
    messages = body.get("messages")
    calls = isinstance(messages, list) and any(
        isinstance(turn, dict) and (turn.get("role") == "tool" or turn.get("tool_calls")) for turn in messages
    )
    return {*body, "tools"} if calls else {*body}


def check_fields(
    body: Mapping[str, Any], needed: Collection[str], obeyed: Collection[str], model: str
) -> None:
    """Refuse what is missing, and what would be ignored, by its name."""
    for name in needed:
        if name not in body:
            raise Refusal(400, "missing_parameter", f"{name} is missing.", param=name)
    for name in sorted(list_requested_fields(body)):
        if name in TOOL_FIELDS and name not in obeyed:
            why = f"{shorten(model)} can't call functions: {NO_TOOLS}."
            raise Refusal(400, "unsupported_parameter", why, param=name)
        if name not in needed and name not in obeyed and name not in GATEWAY_FIELDS:
            raise Refusal(
                400,
                "unsupported_parameter",
                f"{shorten(model)} does not obey {shorten(name)}, so it is refused. It obeys:"
                f" {', '.join(sorted({*obeyed, *GATEWAY_FIELDS}))}.",
                param=shorten(name),
            )


def get_user(body: Mapping[str, Any]) -> str | None:
    """Whom the caller names, for routes that stick to a person."""
    user = body.get("user")
    if user is None or (isinstance(user, str) and 0 < len(user) <= 512):
        return user
    raise Refusal(400, "invalid_value", "user has to be a text of 1 to 512 characters.", param="user")


def get_group(body: Mapping[str, Any]) -> str | None:
    """By which the caller wants figures apart: the entry `group` of metadata, which has no other."""
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise Refusal(400, "invalid_value", "metadata has to be an object.", param="metadata")
    for name in metadata:
        if name != GROUP:
            raise Refusal(
                400,
                "unsupported_parameter",
                f"metadata.{shorten(name)} means nothing here, so it is refused; metadata.{GROUP} does.",
                param=f"metadata.{shorten(name)}",
            )
    group = metadata.get(GROUP)
    if group is None or (isinstance(group, str) and 0 < len(group) <= 64):
        return group
    raise Refusal(
        400, "invalid_value", f"metadata.{GROUP} has to be a text of 1 to 64 characters.", param="metadata"
    )


def check_format(body: Mapping[str, Any]) -> None:
    """Refuse a schema that no backend should be given: one that never ends, or takes its whole stack."""
    schema = body.get("response_format")
    for name in ("json_schema", "schema"):
        schema = schema.get(name) if isinstance(schema, dict) else None
    try:
        check_schema(schema)
    except ValueError as error:
        raise Refusal(400, "invalid_value", f"response_format: {error}.", param="response_format") from error


def check_tools(body: Mapping[str, Any]) -> None:
    """Refuse functions that no backend should be given, as those whose schemas never end."""
    from engine.serving.protocol.tools import check_tools as check  # pyarrow: for requests with tools alone

    try:
        check(body.get("tools"))
    except ValueError as error:
        raise Refusal(400, "invalid_value", f"tools: {error}.", param="tools") from error


def check_tokens(body: Mapping[str, Any], limit: int) -> None:
    """Refuse an answer that is asked to be longer than the endpoint's limit."""
    for name in TOKENS:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refusal(400, "invalid_value", f"{name} has to be a whole number from 1.", param=name)
        if value > limit:
            raise Refusal(
                400, "invalid_value", f"{name} is {value}; this endpoint's limit is {limit}.", param=name
            )


# The most tokens that a request can take, as it is known before it goes out.
#
# No tokenizer runs in the gateway: a prompt counts a token for each byte of its JSON, which hardly any text
# exceeds, and some for the template. What a request did take is charged when that is known.

TEMPLATE_TOKENS = 32  # that a chat template adds, beyond the JSON around each message: its own system message
TOOL_TOKENS = 512  # that it adds where there are tools: how to call them
QUESTION_TOKENS = 64  # that the prompt of a question of /v1/systemone has, beside its state and its options
BYTES_PER_TOKEN = 4  # of usual text: for a prompt that nobody counted
HIDDEN_FIELDS = {
    "model", "user", "metadata", "stream", "stream_options", "n", "best_of", "seed", "stop", "temperature",
    "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", *TOKENS,
}  # fmt: skip  # fields of which no model sees anything; of any other one it may


@dataclass(frozen=True)
class TokenBound:
    """prompt: tokens of all prompts. answers: how many are made. length: tokens of each, at most."""

    prompt: int
    answers: int
    length: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.prompt + self.answers * self.length

    def room(self, tokens: int) -> int:
        """How long each answer may become, so that all of it is no more than so many tokens."""
        return max(0, tokens - self.prompt) // self.answers if self.answers else 0

    def shortened(self, tokens: int) -> TokenBound:
        """With answers as long as there is room in so many tokens."""
        return replace(self, length=min(self.length, self.room(tokens)))


def compute_token_bound(
    kind: RequestKind, body: Mapping[str, Any], length: int, context: int | None = None
) -> TokenBound:
    """Of one request. length: of each of its answers; context: the most tokens that a prompt can have."""
    if kind == "decision":
        return TokenBound(_estimate_decision_tokens(body, context), 0, 0)
    given = {"completion": "prompt", "embedding": "input"}.get(kind)
    prompts = _count_prompts(body.get(given)) if given else 1
    tokens = count_prompt_bytes(body) + TEMPLATE_TOKENS * prompts
    if context is not None:
        tokens = min(tokens, context * prompts)
    choices = max((_count_choices(body.get(name)) for name in ("n", "best_of")), default=1)
    writes = kind not in ("labels", "embedding")
    return TokenBound(tokens, prompts * choices, length) if writes else TokenBound(tokens, 0, 0)


def count_prompt_bytes(body: Mapping[str, Any]) -> int:
    """Of all that a model may be shown of a request, tools as templates write them."""
    return sum(
        _count_bytes(value) for name, value in body.items() if name not in HIDDEN_FIELDS
    ) + _estimate_tool_tokens(body)


def _estimate_tool_tokens(body: Mapping[str, Any]) -> int:
    """What a template adds to tools: how to call them, and line ends and blanks in their JSON."""
    if not isinstance(tools := body.get("tools"), list) or not tools:
        return 0
    return TOOL_TOKENS + len(json.dumps(tools, indent=4, ensure_ascii=False).encode("utf-8", "replace"))


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a prompt that nobody counted, as its answer was cut or its server doesn't count."""
    return -(-count_prompt_bytes(body) // BYTES_PER_TOKEN)


def _estimate_decision_tokens(body: Mapping[str, Any], context: int | None) -> int:
    """Each question is a prompt of its own, with the state in it."""
    questions = body.get("questions")
    count = len(questions) if isinstance(questions, dict) else 1
    each = _count_bytes(body.get("state")) + QUESTION_TOKENS + TEMPLATE_TOKENS
    tokens = count * each + _count_bytes(questions)
    return tokens if context is None else min(tokens, count * context)


def _count_prompts(prompt: object) -> int:
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return len(prompt)
    return 1  # a text, or its tokens


def _count_choices(value: object) -> int:
    """A number of choices; what is none is refused by the backend."""
    return value if isinstance(value, int) and value > 1 else 1


def _count_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
