"""What all tests have."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from store.core.features import FEATURES
from tests.told_messages import messages_without_a_phase

MAIN = sys.modules["__main__"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is about a feature that is removed."""
    for item in items:
        for mark in item.iter_markers("feature"):
            if missing := [name for name in mark.args if name not in FEATURES]:
                item.add_marker(pytest.mark.skip(reason=f"without {missing[0]}"))


@pytest.fixture(scope="module", autouse=True)
def own_main() -> None:
    """Put back the module of the test process itself, which a page under test leaves replaced by its script.

    A process that is spawned runs the file of `__main__` again.
    """
    sys.modules["__main__"] = MAIN


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
