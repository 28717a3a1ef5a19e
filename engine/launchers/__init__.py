"""Where workers start. A launcher starts one for a job folder, and knows it by folder, pid and start time.

Starting is fire and forget: the worker announces itself in `worker.json`, and from then on whoever has
pid and start time can follow it, this engine or the next one. The engine of a copied home folder has them
too, of the original's workers: only the one that holds the lock of the folder is the folder's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol


class Exit(NamedTuple):
    """How a worker that this launcher started has ended. `code` is negative where a signal ended it."""

    pid: int
    code: int


class Worker(NamedTuple):
    """A process that has announced itself in its folder."""

    folder: Path
    pid: int
    started: float


class Launcher(Protocol):
    """What scheduler and asks need of a launcher."""

    def start(self, job_dir: Path, kind: str) -> None:
        """Have a worker take the job or ask of this kind in this folder; returns at once."""

    def alive(self, worker: Worker) -> bool:
        """Whether the process with this pid started then and works in this folder (`process_record`)."""

    def halted(self, worker: Worker) -> bool:
        """Whether that process is there and halted by a signal (SIGSTOP, Ctrl-Z), so that it does nothing."""

    def stop(self, worker: Worker, force: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with `force`, to the worker's process group if it is still that worker."""

    def last_exit(self, job_dir: Path) -> Exit | None:
        """How the last worker of this folder ended, where this launcher saw it end."""
