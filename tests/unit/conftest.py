"""What many unit tests begin with: an empty home folder, a store, an engine whose workers the test plays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.database import Database
from store.home import Home
from tests.unit.desk import Desk
from tests.unit.played import World
from tests.unit.store_samples import open_store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One store for all tests of a file, each of which adds jobs of its own."""
    _, database = open_store(tmp_path_factory.mktemp("store"))
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
