"""All errors shown to users; each names what is at fault and what to do.

    TunebenchError
    ├── ConfigError        a field of a form, a YAML file or a command
    ├── DataError          a file, or a row of it
    ├── ModelError         a model folder, hub id or tokenizer
    ├── NotFoundError      a run, job or data set that is not in the store
    ├── StateError         an action that the current state does not allow
    │   └── ConflictError  a change to something that was changed by someone else after it was read
    ├── QueryError         a statement that `/sql` rejects or that fails
    ├── TooLargeError      a body that exceeds its size limit
    ├── WrongTokenError    neither the token of the home folder nor of its screens
    ├── SignedOutError     not signed in, or no longer
    ├── ForbiddenError     something that a person's role does not allow
    ├── BusyError          the limit of concurrent work of this kind is reached; retry
    └── EngineUnavailable  no engine responds (client side)
        └── EngineSilent   its process exists but does not respond

Errors cross processes as `to_dict()` and are restored by `from_dict()`; `message` says what happened, with
the value, and `fix` what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.core.schemas import ErrorDocument


class TunebenchError(Exception):
    """Base class. `message` is one sentence; `fix` is one sentence or empty; `field` names a form field;
    `change` is `fix` as config fields, for a button that launches with them; `retry_after`: seconds until
    a retry makes sense.
    """

    status = 400  # HTTP status
    MAX_CHARACTERS = 1_000  # of a message, fix or field name, since user input may be very long

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
        """Return the error as JSON, with `change` and `retry_after` if set."""
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
    """Cut the middle out of a long text; its end often says what to do."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 3 :]}"


class ConfigError(TunebenchError):
    """A field with an invalid value; `field` is always set."""

    status = 422


class DataError(TunebenchError):
    """A file that can't be read as a data set, or a row of one."""

    status = 422


class ModelError(TunebenchError):
    """A model that can't be loaded or trained."""

    status = 422


class NotFoundError(TunebenchError):
    """Something named that is not in the store."""

    status = 404


class StateError(TunebenchError):
    """An action that the current state does not allow, such as cancelling a finished run."""

    status = 409


class ConflictError(StateError):
    """A change to something that was changed by someone else after it was read; nothing was overwritten."""


class QueryError(TunebenchError):
    """A statement that is not a single read, or that DuckDB rejects."""

    status = 400


class TooLargeError(TunebenchError):
    """A request body or file that exceeds its size limit."""

    status = 413


class WrongTokenError(TunebenchError):
    """A secret other than that of the home folder."""

    status = 401

    def __init__(self, message: str = "", **about: Any) -> None:
        wrong = "The token is missing or wrong; it is in the file token of the home folder."
        super().__init__(message or wrong, **about)


class SignedOutError(TunebenchError):
    """An expired session, a revoked token, or neither where one is required."""

    status = 401


class ForbiddenError(TunebenchError):
    """Something that the requester's role does not allow."""

    status = 403


class BusyError(TunebenchError):
    """The limit of concurrent work of the same kind is reached."""

    status = 429


class EngineUnavailable(TunebenchError):
    """No engine responds at the recorded address."""

    status = 503


class EngineSilent(EngineUnavailable):
    """The engine's process exists but does not respond: it is suspended or very busy."""


def from_dict(document: ErrorDocument) -> TunebenchError:
    """Restore an error from `to_dict()`; an unknown class becomes `TunebenchError`."""
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
