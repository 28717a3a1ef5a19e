"""What happened while runs trained, on the screens: warnings, what was forgotten when, the metric beside the
loss."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.pages.conftest import Open, everything_said
from tests.pages.seed_runs import seed_runs
from tests.pages.still_engine import StillEngine, still_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_runs(tmp_path_factory.mktemp("course"))) as running:
        yield running


def test_warnings_name_the_run_what_is_sure_and_since_when(engine: StillEngine, open_page: Open) -> None:
    said = everything_said(open_page(engine.home)).replace("\\", "")
    assert "Warnings" in said
    assert re.search(r":red-badge\[Overfits · step \d+\]", said)
    assert "It overfits since step" in said
    assert ":red-badge[Forgot much" in said
    assert "Forgot some" not in said  # the higher threshold says it
