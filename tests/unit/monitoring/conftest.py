"""An endpoint whose log the test writes, and the engine's steps over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.made.monitored import Monitored


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[Monitored]:
    monitored = Monitored(tmp_path / "home", "endpoint-1", "Bank")
    yield monitored
    monitored.close()
