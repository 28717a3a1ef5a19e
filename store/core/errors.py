"""Every error that a user may see, with the name of the thing at fault and what to do.

    TunebenchError
    ├── ConfigError        a field of a form, a YAML file or a command
    ├── DataError          a file, or a row of it
    ├── ModelError         a model folder, hub id or tokenizer
    ├── NotFoundError      a run, job or data set that is not in the store
    ├── StateError         an action that the present state does not allow
    │   └── ConflictError  a change of what somebody else has changed since it was read
    ├── QueryError         a statement that `/sql` refuses or that fails
    ├── TooLargeError      a body that is longer than its limit
    ├── WrongTokenError    neither the token of the home folder nor of its screens
    ├── SignedOutError     nobody is signed in, or no longer
    ├── ForbiddenError     what the role of a person does not allow
    ├── BusyError          as much of this kind is under way as may be; try again
    └── EngineUnavailable  no engine answers (client side)
        └── EngineSilent   its process is there and does not answer

An error crosses processes as `to_dict()` and comes back by `from_dict()`; `message` says what happened,
with the value, and `fix` what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.core.schemas import ErrorDocument


class TunebenchError(Exception):
    """The root. `message` is one sentence; `fix` is one sentence or empty; `field` names a form field;
    `change` is what `fix` says as fields of a config, for a button that launches it so;
    `retry_after`: seconds until it is worth another try.
    """

    status = 400  # of the HTTP answer
    MAX_CHARACTERS = 1_000  # characters of a message and of a field's name: what was given may be endless

    def __init__(
        self,
        message: str,
        *,
        fix: str = "",
        field: str = "",
        change: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        message = _truncate_middle(message, self.MAX_CHARACTERS)
        super().__init__(message)
        self.message = message
        self.fix = _truncate_middle(fix, self.MAX_CHARACTERS)
        self.field = _truncate_middle(field, self.MAX_CHARACTERS)
        self.change = change
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()

    def to_dict(self) -> ErrorDocument:
        """The error as JSON, with `change` where there is one."""
        document: ErrorDocument = {
            "error": type(self).__name__,
            "message": self.message,
            "fix": self.fix,
            "field": self.field,
        }
        if self.change:
            document["change"] = self.change
        if self.retry_after:
            document["retry_after"] = self.retry_after
        return document


def _truncate_middle(text: str, most: int) -> str:
    """A longer text without its middle: its end says what to do with what stands in it."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 3 :]}"


class ConfigError(TunebenchError):
    """A field with a value that can't be used; `field` is always set."""

    status = 422


class DataError(TunebenchError):
    """A file that can't be read as a data set, or a row of it."""

    status = 422


class ModelError(TunebenchError):
    """A model that can't be loaded or trained."""

    status = 422


class NotFoundError(TunebenchError):
    """Something named that the store does not hold."""

    status = 404


class StateError(TunebenchError):
    """An action that the present state does not allow, such as cancelling a finished run."""

    status = 409


class ConflictError(StateError):
    """A change of what somebody else has changed since it was read; nothing was overwritten."""


class QueryError(TunebenchError):
    """A statement that is not a single read, or that DuckDB rejects."""

    status = 400


class TooLargeError(TunebenchError):
    """A body of a request, or a file, that is longer than its limit."""

    status = 413


class WrongTokenError(TunebenchError):
    """A secret that is not the one of the home folder."""

    status = 401

    def __init__(self, message: str = "", **about: Any) -> None:
        wrong = "The token is missing or wrong; it is in the file token of the home folder."
        super().__init__(message or wrong, **about)


class SignedOutError(TunebenchError):
    """A session that has ended, a token that was revoked, or neither where there has to be one."""

    status = 401


class ForbiddenError(TunebenchError):
    """Something that the role of the person who asks does not allow."""

    status = 403


class BusyError(TunebenchError):
    """As much of the same kind is under way as may be at once."""

    status = 429


class EngineUnavailable(TunebenchError):
    """No engine answers at the recorded address."""

    status = 503


class EngineSilent(EngineUnavailable):
    """The process of the engine is there but does not answer: it is halted, or very busy."""


def from_dict(document: ErrorDocument) -> TunebenchError:
    """The error that `to_dict()` wrote; an unknown class comes back as `TunebenchError`."""
    kinds: dict[str, type[TunebenchError]] = {kind.__name__: kind for kind in TunebenchError.__subclasses__()}
    kinds[ConflictError.__name__] = ConflictError
    kind = kinds.get(document.get("error", ""), TunebenchError)
    return kind(
        document.get("message", "The engine gave no reason."),
        fix=document.get("fix", ""),
        field=document.get("field", ""),
        change=document.get("change"),
        retry_after=document.get("retry_after"),
    )
