"""What many unit tests begin with: an empty home folder, a store, an engine whose workers the test plays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.core.home import Home
from store.db.database import Database
from tests.unit.desk import Desk
from tests.unit.played import World
from tests.unit.store_samples import new_store

MEMORY = "/dev/shm"
ROOM = 4 * 1024**3  # bytes; the folders of a whole run take a fraction of it

# A store and a data set wait for the disk with each commit, which no test here looks at: their folders lie in
# memory where there is room. Pytest reads this when the first folder is asked for.
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One store for all tests of a file, each of which adds jobs of its own."""
    _, database = new_store(tmp_path_factory.mktemp("store"))
    yield database
    database.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.database.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "desk")
    yield desk
    desk.database.close()
