"""Tests that train in this process do it as a worker would: its threads spin briefly while they wait."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Set before torch is loaded: with the long spin, other work on the machine costs a test ten times its time.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch with one thread, for which a model of two layers is large enough."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
