"""Tests that train in this process do it with one thread: two processes of tests have two cores."""

from __future__ import annotations

import os

import pytest

# Set before torch is loaded: with the long spin, other work on the machine costs a test ten times its time.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Of torch, in this process alone: what is started here has as many as it would have."""
    import torch

    torch.set_num_threads(1)
