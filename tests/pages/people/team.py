"""A store in which several people have done something, and an engine that does what they ask.

The test says who is looking at the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.commands import Commands
from store.core.home import Home
from store.core.rights import OWNER
from store.core.schemas import Person
from store.db.database import Database
from tests.pages.seeds.seed import seed
from tests.unit.store_samples import serving

ADA = Person(person_id="p-ada", name="Ada <b>", role="member")
BOB: Person = Person(person_id="p-bob", name="Bob", role="member")
VIEWER: Person = Person(person_id="p-vi", name="Vi", role="viewer")


class Team:
    """The commands of one store, by whoever asks."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home, self.database = home, database
        self.looking: Person = OWNER  # who sits at the browser
        self.commands = Commands(database, home, lambda name, body: {}).table()

    def __call__(self, person: Person, command: str, /, **body: Any) -> Any:
        return self.commands[command](body, person)

    async def who(self, headers: object) -> Person:
        return self.looking


@contextmanager
def team(path: Path) -> Iterator[Team]:
    """Six runs on two data sets, made by two people in turn."""
    home = seed(path, runs=6, sets=2, rows=20)
    database = Database(home.database, [home.datasets, home.jobs])
    people = Team(home, database)
    with database.transaction() as tx:
        tx.execute("UPDATE run SET created_by = CASE number % 2 WHEN 0 THEN 'p-ada' ELSE 'p-bob' END")
        tx.execute("UPDATE dataset SET created_by = 'p-ada' WHERE dataset_id = 'd00001'")
    people(ADA, "edit_run", run="r000001", notes="Preliminary")
    people(BOB, "rename_dataset", dataset="d00001", name="Sums, mended")
    try:
        with serving(home, database, people.commands, people.who):
            yield people
    finally:
        database.close()
