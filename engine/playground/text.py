"""Sentences of the playground that people read: why models were unloaded, and names of its jobs."""

from __future__ import annotations

from store.core.errors import StateError, TunebenchError


def build_run_ended_error() -> StateError:
    """Build the reason for ending a process that shared the machine with a run."""
    return StateError("The run has ended: the models are loaded again with all resources.")


def build_idle_error() -> StateError:
    """Build the reason for ending a process that nobody used."""
    return StateError("Idle for some minutes, so the models were unloaded.")


def build_displaced_error(title: str) -> StateError:
    """Build the reason for giving way to the job with this title."""
    return StateError(
        f"“{title}” is running, so the models were unloaded.",
        fix="Ask again: the answer begins when that is over.",
    )


def build_stopped_error() -> StateError:
    """Build the error of turns that the end of the engine interrupts or prevents."""
    return StateError("The engine was stopped.", fix="Start it again, then ask again.")


def build_exit_error(code: str) -> TunebenchError:
    """Build the error of a process that ended unasked; `code`: its exit code in words, or ""."""
    return TunebenchError(
        f"The process of the models ended{code}.",
        fix="Ask again: another one is started. If memory was short, talk to fewer or smaller models.",
    )


def name_saved_rows(dataset: str) -> str:
    """Name the data set of saved rows that is mixed into another one."""
    return f"Rows saved for {dataset}"[:80]


def title_extension(rows: int, dataset: str) -> str:
    """Return the title of the job that adds saved rows to a data set."""
    return f"Add {rows:,} saved rows to {dataset}"
