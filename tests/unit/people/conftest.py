"""A team of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.people_samples import Company


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """Sign-in is on, and nobody has an account."""
    made = Company(tmp_path)
    yield made
    made.database.close()
