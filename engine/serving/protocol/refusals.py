"""What a backend refuses, in the protocol's form of an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from starlette.responses import JSONResponse

CONTEXT = "context_length_exceeded"


class RefusalDetail(TypedDict):
    """What is wrong, for people and for programs. param: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class RefusalDocument(TypedDict):
    """An error as OpenAI's clients read it."""

    error: RefusalDetail


class Refused(Exception):
    """A request that can't be answered as it is. code: what programs look at; field: of the body."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_value", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.field = message, status, code, field

    def document(self) -> RefusalDocument:
        """As the protocol has it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}

    def response(self) -> JSONResponse:
        """As an answer."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.document(), self.status, headers)


def kinds_in_words(kinds: Sequence[str], asked: str) -> str:
    """What a model answers in the place of what it was asked for, and what can be done."""
    words = f"answers {' and '.join(kinds)} alone, not {asked}"
    if asked == "embedding":
        return f"{words}: embeddings are an encoder's; serve one, such as a BERT, and ask that"
    return words


def failure(error: BaseException) -> Refused:
    """What went wrong here, for the one whose request met it."""
    text = " ".join(str(error).split())[:300]
    return Refused(f"{type(error).__name__}: {text}", status=500, code="internal_error")
