"""What all tests have."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.told_messages import messages_without_a_phase


@pytest.fixture(scope="module", autouse=True)
def modules_out_of_the_way() -> None:
    """What is alive between two files of tests is not looked through when garbage is collected in the next.

    Training ends with two collections; in a process that has loaded torch and transformers each takes a third
    of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def every_message_in_a_phase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a job of any test tells belongs to a phase of its kind: else nobody knew how long it takes."""
    yield
    strange = messages_without_a_phase(tmp_path_factory.getbasetemp())
    assert not strange, "\n".join(["Messages of no declared phase:", *strange])
