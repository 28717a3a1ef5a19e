"""What all tests have."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def modules_out_of_the_way() -> None:
    """What is alive between two files of tests is not looked through when garbage is collected in the next.

    Training ends with two collections; in a process that has loaded torch and transformers each takes a third
    of a second.
    """
    gc.collect()
    gc.freeze()
