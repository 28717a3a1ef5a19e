"""Sentences about gateways and backends that don't answer, as the screens and the command line show them.

HTTP errors of a gateway are worded where they are raised, since callers read them rather than people here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from socket import gaierror

from store.core.errors import ConfigError, ModelError, StateError
from store.core.schemas import ErrorDocument


def describe_unavailability(phase: str, error: ErrorDocument | None) -> str:
    """Describe why a backend can't answer, as a sentence."""
    if error:
        return f"{error['message']} {error.get('fix', '')}".strip()
    return "it is still starting." if phase == "starting" else "it has ended."


def describe_switching(backends: int) -> str:
    """Describe the start of new backends beside the current ones; "" if there are none."""
    return f"{backends} new backends start" if backends else ""


def build_start_error(model: str, error: Exception) -> ModelError:
    """Build the error of a backend whose process could not be started or reached."""
    return ModelError(f"{model} could not be started: {error}.")


def build_backend_exit_error(
    model: str, code: int | None, last_line: str, log: Path, *, was_ready: bool
) -> ModelError:
    """Build the error of a backend whose process ended unasked; `last_line`: of its log, or ""."""
    consequence = "and is started again" if was_ready else "before it was ready"
    return ModelError(
        f"{model} ended with code {code} {consequence}. {last_line}".strip(), fix=f"Its whole log is {log}."
    )


def build_missing_key_error(variable: str, url: str) -> ConfigError:
    """Build the error of an address whose key is not in the environment."""
    return ConfigError(
        f"The variable {variable} of the environment is not set, so that {url} can't be asked.",
        fix=f"Set {variable}, restart the engine, and then the endpoint.",
        field="key_env",
    )


def build_unreachable_error(url: str | None, since: float, reason: str, pause: float) -> ModelError:
    """Build the error of an address that can't be reached; `pause`: seconds between attempts."""
    day = datetime.fromtimestamp(since, UTC)
    return ModelError(
        f"{url} is unreachable since {day.day} {day:%b %Y, %H:%M} UTC: {reason}.",
        fix=f"Start the server there, or give the endpoint another address. It is tried every"
        f" {pause:.0f} seconds, and used as soon as it can be reached.",
    )


def describe_connection_failure(error: Exception, timeout: float) -> str:
    """Describe why a connection failed, within its `timeout` in seconds."""
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(cause, TimeoutError):
        return f"no connection came about within {timeout:.0f} seconds"
    if isinstance(cause, gaierror):
        return "its name can't be resolved"
    return str(error)


def build_config_error(reason: object) -> ConfigError:
    """Build the error of a gateway whose new config can't be used."""
    return ConfigError(f"config.json can't be used: {reason}", field="config")


def build_gateway_exit_error(endpoint: str, code: int | None, last_line: str, log: Path) -> StateError:
    """Build the error of a gateway that ended unasked; `last_line`: of its log, or ""."""
    return StateError(
        f"The gateway of {endpoint} ended with code {code} and is started again. {last_line}".strip(),
        fix=f"Its whole log is {log}.",
    )


def build_supervision_error(error: Exception) -> StateError:
    """Build the error of an endpoint whose supervision failed unexpectedly."""
    return StateError(f"The endpoint could not be seen to: {error!r}.", fix="See logs/engine.log.")
