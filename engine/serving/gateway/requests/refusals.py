"""Refusals in the form that OpenAI's clients read: {"error": {message, type, param, code}}."""

from __future__ import annotations

import json


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
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

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


def wrong_key() -> Refusal:
    """For a key that is missing, unknown or revoked: which of them is nobody's business."""
    return Refusal(
        401,
        "invalid_api_key",
        "The API key is missing, unknown or revoked. Send it as the header Authorization: Bearer KEY.",
    )


def draining() -> Refusal:
    """While the endpoint stops."""
    return Refusal(503, "endpoint_stopping", "The endpoint is being stopped; ask again soon.", retry_after=5)


def not_ready(model: str, why: str) -> Refusal:
    """Nothing can answer at present."""
    return Refusal(503, "model_not_ready", f"{model} can't answer at present: {why}", retry_after=5)


def too_slow(seconds: float) -> Refusal:
    """An answer that took longer than the endpoint's limit."""
    return Refusal(
        504, "timeout", f"The answer took longer than this endpoint's limit of {seconds:g} seconds."
    )
