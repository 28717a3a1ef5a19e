"""Request bodies: reading with size and time limits, strict parsing, validation, and bounds on their tokens.

Errors have the form that OpenAI's clients read.
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
    """An error response for the caller. `param` names the field at fault."""

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

    def encode_body(self) -> bytes:
        """Return the JSON document."""
        error: RefusalDetail = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        document: RefusalDocument = {"error": error}
        return json.dumps(document, ensure_ascii=False).encode()

    def encode_event(self) -> bytes:
        """Return the document as an event of a stream that has begun."""
        return b"data: " + self.encode_body() + b"\n\n"

    def build_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the response headers."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers


def build_key_refusal() -> Refusal:
    """Build the error for a missing, unknown or revoked key, without saying which."""
    return Refusal(
        401,
        "invalid_api_key",
        "The API key is missing, unknown or revoked. Send it as the header Authorization: Bearer KEY.",
    )


def build_draining_refusal() -> Refusal:
    """Build the error for requests while the endpoint stops."""
    return Refusal(503, "endpoint_stopping", "The endpoint is being stopped; ask again soon.", retry_after=5)


def build_not_ready_refusal(model: str, reason: str) -> Refusal:
    """Build the error for a model that can't answer at present."""
    return Refusal(503, "model_not_ready", f"{model} can't answer at present: {reason}", retry_after=5)


def build_timeout_refusal(seconds: float) -> Refusal:
    """Build the error for an answer that exceeded the endpoint's time limit."""
    return Refusal(
        504, "timeout", f"The answer took longer than this endpoint's limit of {seconds:g} seconds."
    )


# A field that the backend would ignore is rejected by name. A null, and a value that asks for the default
# (`store: false`), are dropped.

BODY_SECONDS = 20.0  # for a whole body, so that a client sending a byte at a time can't block longer
GATEWAY_FIELDS = {"user", "metadata"}  # handled by the gateway itself
GROUP = "group"  # the only supported entry of metadata
TOKENS = ("max_tokens", "max_completion_tokens")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
MAX_REASON = 500  # characters of a backend's error message
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
_MAX_QUOTED = 80  # characters of a caller's text in a message


class ClientGone(Exception):
    """Raised if the client disconnects before the request is complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the whole body. Raises Refusal if it is too long or too slow, and ClientGone."""
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
    """Parse a JSON object. Raises Refusal for anything else, however deeply nested or malformed."""
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
            raise Refusal(400, "invalid_json", "The body contains an unpaired surrogate.") from error
    defaults = DEFAULT_VALUES if content.get("tools") else {**DEFAULT_VALUES, **DEFAULT_VALUES_WITHOUT_TOOLS}
    return {  # without fields that only ask for the default: clients send default values too
        name: value
        for name, value in content.items()
        if value is not None
        and not any(type(value) is type(default) and value == default for default in defaults.get(name, ()))
    }


def extract_error_message(content: bytes) -> str:
    """Return the message of an error response in OpenAI's form or a similar one; "" for any other."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    detail = document.get("error") if isinstance(document, dict) else None
    message = detail.get("message") if isinstance(detail, dict) else detail
    return " ".join(message.split())[:MAX_REASON] if isinstance(message, str) else ""


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def shorten(text: str) -> str:
    """Shorten a caller's text for a message."""
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]} …"


def list_requested_fields(body: Mapping[str, Any]) -> set[str]:
    """Return the fields that must be supported: the body's, plus `tools` if its messages call functions."""
    messages = body.get("messages")
    calls = isinstance(messages, list) and any(
        isinstance(turn, dict) and (turn.get("role") == "tool" or turn.get("tool_calls")) for turn in messages
    )
    return {*body, "tools"} if calls else {*body}


def check_fields(
    body: Mapping[str, Any], required: Collection[str], supported: Collection[str], model: str
) -> None:
    """Reject missing fields, and fields that would be ignored, by name."""
    for name in required:
        if name not in body:
            raise Refusal(400, "missing_parameter", f"{name} is missing.", param=name)
    for name in sorted(list_requested_fields(body)):
        if name in TOOL_FIELDS and name not in supported:
            message = f"{shorten(model)} can't call functions: {NO_TOOLS}."
            raise Refusal(400, "unsupported_parameter", message, param=name)
        if name not in required and name not in supported and name not in GATEWAY_FIELDS:
            raise Refusal(
                400,
                "unsupported_parameter",
                f"{shorten(model)} does not support {shorten(name)}. It supports:"
                f" {', '.join(sorted({*supported, *GATEWAY_FIELDS}))}.",
                param=shorten(name),
            )


def get_user(body: Mapping[str, Any]) -> str | None:
    """Return the user named by the caller, for sticky routing."""
    user = body.get("user")
    if user is None or (isinstance(user, str) and 0 < len(user) <= 512):
        return user
    raise Refusal(400, "invalid_value", "user has to be a text of 1 to 512 characters.", param="user")


def get_group(body: Mapping[str, Any]) -> str | None:
    """Return the entry `group` of metadata, by which figures are kept apart; other entries are rejected."""
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
    """Reject a schema unsuitable for any backend: one that never ends, or is nested too deeply."""
    schema = body.get("response_format")
    for name in ("json_schema", "schema"):
        schema = schema.get(name) if isinstance(schema, dict) else None
    try:
        check_schema(schema)
    except ValueError as error:
        raise Refusal(400, "invalid_value", f"response_format: {error}.", param="response_format") from error


def check_tools(body: Mapping[str, Any]) -> None:
    """Reject functions unsuitable for any backend, such as those whose schemas never end."""
    from engine.serving.protocol.tools import check_tools as check  # imports pyarrow: for tools only

    try:
        check(body.get("tools"))
    except ValueError as error:
        raise Refusal(400, "invalid_value", f"tools: {error}.", param="tools") from error


def check_tokens(body: Mapping[str, Any], limit: int) -> None:
    """Reject a requested length above the endpoint's limit."""
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


# Upper bound of a request's tokens, before it is forwarded.
#
# The gateway has no tokenizer: a prompt counts as one token per byte of its JSON, which hardly any text
# exceeds, plus some for the template. The request is charged its actual tokens once they are known.

TEMPLATE_TOKENS = 32  # added by a chat template, such as a system message, beyond each message's JSON
TOOL_TOKENS = 512  # added if there are tools: instructions to call them
QUESTION_TOKENS = 64  # per question of /v1/systemone, beside its state and options
BYTES_PER_TOKEN = 4  # for typical text, to estimate an uncounted prompt
HIDDEN_FIELDS = {
    "model", "user", "metadata", "stream", "stream_options", "n", "best_of", "seed", "stop", "temperature",
    "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", *TOKENS,
}  # fmt: skip  # fields that a model never sees; it may see any other


@dataclass(frozen=True)
class TokenBound:
    """Upper bound of a request's tokens.

    - prompt: tokens of all prompts
    - choices: number of answers
    - length: maximum tokens of each answer
    """

    prompt: int
    choices: int
    length: int

    @property
    def total(self) -> int:
        """Maximum tokens in total."""
        return self.prompt + self.choices * self.length

    def compute_max_length(self, tokens: int) -> int:
        """Return the maximum length of each answer for which the total is at most `tokens`."""
        return max(0, tokens - self.prompt) // self.choices if self.choices else 0

    def shorten(self, tokens: int) -> TokenBound:
        """Return the bound with answers shortened so that the total is at most `tokens`."""
        return replace(self, length=min(self.length, self.compute_max_length(tokens)))


def compute_token_bound(
    kind: RequestKind, body: Mapping[str, Any], length: int, context: int | None = None
) -> TokenBound:
    """Compute the bound of one request; `length`: of each answer; `context`: maximum tokens of a prompt."""
    if kind == "decision":
        return TokenBound(_estimate_decision_tokens(body, context), 0, 0)
    prompt_field = {"completion": "prompt", "embedding": "input"}.get(kind)
    prompt = body.get(prompt_field) if prompt_field else None
    # a list of texts, or of lists of tokens; else a single text or its tokens
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1
    tokens = count_prompt_bytes(body) + TEMPLATE_TOKENS * prompts
    if context is not None:
        tokens = min(tokens, context * prompts)
    counts = (body.get(name) for name in ("n", "best_of"))  # an invalid one is rejected by the backend
    choices = max((count for count in counts if isinstance(count, int) and count > 1), default=1)
    generates = kind not in ("labels", "embedding")
    return TokenBound(tokens, prompts * choices, length) if generates else TokenBound(tokens, 0, 0)


def count_prompt_bytes(body: Mapping[str, Any]) -> int:
    """Count the bytes of everything a model may see of a request, with tools as templates write them."""
    size = sum(_count_bytes(value) for name, value in body.items() if name not in HIDDEN_FIELDS)
    if isinstance(tools := body.get("tools"), list) and tools:  # a template adds instructions and indents
        size += TOOL_TOKENS + len(json.dumps(tools, indent=4, ensure_ascii=False).encode("utf-8", "replace"))
    return size


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Estimate a prompt's tokens if the answer was cancelled or the server doesn't count."""
    return -(-count_prompt_bytes(body) // BYTES_PER_TOKEN)


def _estimate_decision_tokens(body: Mapping[str, Any], context: int | None) -> int:
    """Estimate the tokens of questions: each is a prompt of its own that includes the state."""
    questions = body.get("questions")
    count = len(questions) if isinstance(questions, dict) else 1
    question_tokens = _count_bytes(body.get("state")) + QUESTION_TOKENS + TEMPLATE_TOKENS
    tokens = count * question_tokens + _count_bytes(questions)
    return tokens if context is None else min(tokens, count * context)


def _count_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
