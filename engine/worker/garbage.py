"""Python's collector of garbage, and work that goes without it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector, for work that makes many objects and none of them garbage.

    It would go through all objects of the process again and again: a fifth of the time of imports and of
    rows that wait to be written, a third of that of a model in GGUF.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
