"""A process on record as a server of a home folder, whose lock this test holds in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.core.processes import acquire_lock, write_record


@contextmanager
def on_record(path: Path, address: str = "http://127.0.0.1:8600", pid: int | None = None) -> Iterator[None]:
    """The process, this one unless said, in NAME.json with NAME.lock held."""
    write_record(path, address, pid or os.getpid())
    lock = acquire_lock(path.with_suffix(".lock"))
    assert lock is not None
    with lock:
        yield
