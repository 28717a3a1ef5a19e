"""Where workers start. A launcher starts one for a job folder, and knows processes by pid and start time.

Starting is fire and forget: the worker announces itself in `worker.json`, and from then on whoever has
pid and start time can follow it, this engine or the next one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol


class Exit(NamedTuple):
    """How a worker that this launcher started has ended. `code` is negative where a signal ended it."""

    pid: int
    code: int


class Launcher(Protocol):
    """What scheduler and asks need of a launcher."""

    def start(self, job_dir: Path, kind: str) -> None:
        """Have a worker take the job or ask of this kind in this folder; returns at once."""

    def alive(self, pid: int, started: float) -> bool:
        """Whether the process with this pid is the one that started then (`process_record`)."""

    def stop(self, pid: int, started: float, force: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with `force`, to the worker's process group if it is still that worker."""

    def last_exit(self, job_dir: Path) -> Exit | None:
        """How the last worker of this folder ended, where this launcher saw it end."""
