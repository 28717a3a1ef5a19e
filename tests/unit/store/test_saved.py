"""What people save is theirs or shared; what two change at once is overwritten unseen by neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.commands import Commands
from store.core.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, StateError
from store.core.rights import OWNER
from store.core.schemas import Person
from store.data import datasets, saved_recipes
from store.db import database as database_module
from store.db.schema import MIGRATIONS
from store.people import activity
from store.runs import runs
from tests.unit.desk import Desk
from tests.unit.store_samples import open_store

ADA = Person(person_id="p-ada", name="Ada", role="member")
BOB: Person = Person(person_id="p-bob", name="Bob", role="member")
CHIEF: Person = Person(person_id="p-chief", name="Chief", role="admin")
STEPS = [{"step": "fix_encoding"}]
WHERE = {"search": "x"}
BEFORE_OWNERS = [name for name, _ in MIGRATIONS].index("0008 activity")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.add_dataset()
    yield desk
    desk.database.close()


def names(desk: Desk, person: Person) -> list[str]:
    """Of recipes and of slices: the two are kept in the same way."""
    of_recipes = [row.name for row in saved_recipes.recipes(desk.database, person.person_id)]
    assert of_recipes == [row.name for row in saved_recipes.slices(desk.database, "data-D", person.person_id)]
    return of_recipes


def keep(desk: Desk, person: Person, name: str, **more: Any) -> None:
    desk("save_recipe", by=person, name=name, steps=STEPS, **more)
    desk("save_slice", by=person, dataset="D", name=name, where=WHERE, **more)


def forget(desk: Desk, person: Person, name: str) -> None:
    desk("delete_recipe", by=person, name=name)
    desk("delete_slice", by=person, dataset="D", name=name)


def test_one_sees_ones_own_and_what_is_shared(desk: Desk) -> None:
    keep(desk, ADA, "Private", shared=False)
    keep(desk, ADA, "Shared")
    assert (names(desk, ADA), names(desk, BOB)) == (["Private", "Shared"], ["Shared"])
    keep(desk, ADA, "Private", shared=True)  # the switch
    assert names(desk, BOB) == ["Private", "Shared"]


def test_what_is_private_is_in_no_line_of_the_activity(desk: Desk) -> None:
    keep(desk, ADA, "Private", shared=False)
    forget(desk, ADA, "Private")
    assert activity.listed(desk.database)[0] == 0
    keep(desk, ADA, "Shared")
    forget(desk, ADA, "Shared")
    _, rows = activity.listed(desk.database)
    assert [row.command for row in rows[::-1]] == [
        "save_recipe", "save_slice", "delete_recipe", "delete_slice",
    ]  # fmt: skip
    assert len({row.subject_id for row in rows}) == 2


def test_a_name_is_its_owners(desk: Desk) -> None:
    keep(desk, ADA, "Mend")
    keep(desk, BOB, "Mend")
    keep(desk, ADA, "Mend")  # in place of her own
    assert names(desk, ADA) == ["Mend", "Mend"]
    rows = saved_recipes.recipes(desk.database, "p-ada")
    assert {row.created_by: row.revision for row in rows} == {"p-ada": 2, "p-bob": 1}
    forget(desk, ADA, "Mend")  # her own before the other
    assert [row.created_by for row in saved_recipes.recipes(desk.database, "p-ada")] == ["p-bob"]


def test_the_owner_and_admins_alone_delete(desk: Desk) -> None:
    keep(desk, ADA, "Mend")
    for command, more in (("delete_recipe", {}), ("delete_slice", {"dataset": "D"})):
        with pytest.raises(ForbiddenError, match="Ada"):
            desk(command, by=BOB, name="Mend", **more)
    forget(desk, CHIEF, "Mend")
    assert names(desk, ADA) == []
    with pytest.raises(NotFoundError):
        forget(desk, ADA, "Mend")


def test_of_several_that_share_a_name_the_id_tells(desk: Desk) -> None:
    keep(desk, ADA, "Mend")
    keep(desk, BOB, "Mend")
    with pytest.raises(StateError, match="Several"):
        desk("delete_recipe", by=CHIEF, name="Mend")
    of_bob = next(row for row in saved_recipes.recipes(desk.database, "x") if row.created_by == "p-bob")
    desk("delete_recipe", by=CHIEF, name="Mend", recipe_id=of_bob.recipe_id)
    assert [row.created_by for row in saved_recipes.recipes(desk.database, "x")] == ["p-ada"]


def test_a_revision_that_was_not_seen_is_not_overwritten(desk: Desk) -> None:
    keep(desk, ADA, "Mend", seen=0)
    for command, body in (
        ("save_recipe", {"steps": [{"step": "normalise"}]}),
        ("save_slice", {"dataset": "D", "where": {"search": "y"}}),
    ):
        with pytest.raises(ConflictError, match=r"Ada saved the .* UTC") as caught:
            desk(command, by=ADA, name="Mend", seen=0, **body)
        assert caught.value.status == 409
        desk(command, by=ADA, name="Mend", seen=1, **body)
        with pytest.raises(ConflictError, match="deleted"):
            desk(command, by=ADA, name="Gone", seen=4, **body)
    assert {row.revision for row in saved_recipes.recipes(desk.database, "p-ada")} == {2}


def test_what_was_saved_before_there_were_owners_is_shared_and_kept_by_admins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:BEFORE_OWNERS])
    _, database = open_store(tmp_path)
    with database.transaction() as tx:
        tx.execute(
            """INSERT INTO recipe VALUES ('r', 'Old', '[{"step": "fix_encoding"}]', now()::TIMESTAMP)"""
        )
        tx.execute("""INSERT INTO slice VALUES ('data-D', 'Old', '{"search": "x"}', now()::TIMESTAMP)""")
    database.close()
    monkeypatch.undo()
    home, database = open_store(tmp_path)
    commands = Commands(database, home, lambda name, body: {}).table()

    def kept(person: Person) -> list[str]:
        return [row.name for row in saved_recipes.recipes(database, person.person_id)]

    assert kept(ADA) == kept(OWNER) == ["Old"]
    assert [row.name for row in saved_recipes.slices(database, "data-D", "p-ada")] == ["Old"]
    with pytest.raises(ForbiddenError):
        commands["delete_recipe"]({"name": "Old"}, ADA)
    commands["save_recipe"]({"name": "Old", "steps": STEPS}, OWNER)
    assert kept(OWNER) == ["Old"]  # whoever worked alone goes on with what was there
    commands["delete_recipe"]({"name": "Old"}, OWNER)
    assert kept(OWNER) == []
    database.close()


# -- two who change the same thing ------------------------------------------------------------------


def test_who_edits_what_somebody_changed_is_told_by_whom_and_to_what(desk: Desk) -> None:
    run_id = desk("launch", by=ADA, dataset="D", name="Run", notes="old")["run_id"]
    desk("edit_run", by=ADA, run=run_id, notes="Ada's notes")
    with pytest.raises(
        ConflictError, match=r"^On .* UTC Ada changed Run\. Current values: notes “Ada's notes”"
    ) as caught:
        desk("edit_run", by=BOB, run=run_id, notes="Bob's notes", seen={"notes": "old"})
    assert (caught.value.status, caught.value.field) == (409, "notes")
    assert runs.get_run(desk.database, run_id).notes == "Ada's notes"
    desk("edit_run", by=BOB, run=run_id, name="Other", seen={"name": "Run"})  # another field is no conflict
    desk("edit_run", by=BOB, run=run_id, notes="Bob's notes", seen={"notes": "Ada's notes"})
    desk("edit_run", by=ADA, run=run_id, notes="Bob's notes", seen={"notes": "old"})  # the same is wanted
    desk("edit_run", by=ADA, run=run_id, notes="A script's")  # says nothing of what it saw
    assert runs.get_run(desk.database, run_id).notes == "A script's"


def test_data_sets_are_split_and_named_by_who_saw_how_they_are(desk: Desk) -> None:
    desk("set_split", by=ADA, dataset="D", validation_size=0.3)
    with pytest.raises(ConflictError, match=r"validation size 0\.3"):
        desk(
            "set_split",
            by=BOB,
            dataset="D",
            validation_size=0.1,
            test_size=0.1,
            seen={"validation_size": 0.2},
        )
    assert datasets.get_dataset(desk.database, "D").test_size == 0.05
    desk("rename_dataset", by=ADA, dataset="D", name="E")
    with pytest.raises(ConflictError, match=r"Ada changed E\. Current values: name “E”"):
        desk("rename_dataset", by=BOB, dataset="data-D", name="F", seen={"name": "D"})
    desk("rename_dataset", by=BOB, dataset="data-D", name="F", seen={"name": "E"})


def test_what_was_seen_is_of_what_changes(desk: Desk) -> None:
    run_id = desk("launch", dataset="D", name="Run")["run_id"]
    for seen in ({"notes": ""}, {"dataset": "D"}):
        with pytest.raises(ConfigError, match="not to be changed") as caught:
            desk("edit_run", run=run_id, name="New", seen=seen)
        assert caught.value.field == "seen"
