"""The activity: every change leaves its line in its own transaction, and no line is ever changed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.commands import Commands
from engine.server.command import CREATED, PERSONAL
from engine.server.people_commands import People
from store.core.errors import NotFoundError, StateError
from store.core.rights import OWNER
from store.core.schemas import Activity, NewActivity, Person, PersonName
from store.db.database import utc_now
from store.jobs import job_queue
from store.people import activity
from store.people.activity import ActivityFilter
from store.people.activity_text import ACTIONS, get_action, group_commands_by_kind
from store.runs import runs
from tests.unit.desk import Desk

ROOT = Path(__file__).parents[3]
ADA: Person = Person(person_id="p-ada", name="Ada", role="member")
BOB: Person = Person(person_id="p-bob", name="Bob", role="member")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.add_dataset()
    yield desk
    desk.database.close()


def newest(desk: Desk) -> Activity:
    return activity.listed(desk.database)[1][0]


def lines(desk: Desk, **which: Any) -> list[tuple[str, str, str, str]]:
    """(who, command, name of the subject, detail), oldest first."""
    _, rows = activity.listed(desk.database, ActivityFilter(**which), limit=1_000)
    return [(r.person_name, r.command, r.subject_name, r.detail) for r in rows[::-1]]


def test_every_command_says_what_it_is_about_and_has_its_words(desk: Desk) -> None:
    people = People(desk.database, "t", "s").commands
    table = Commands(desk.database, desk.home, desk.ask, people=people).commands()
    assert len(table) > 20
    for name, command in table.items():
        assert callable(command.subject) or command.subject in (CREATED, PERSONAL), name
        if command.subject is not PERSONAL:
            assert name in ACTIONS, f"store.people.activity_text has no words for {name}"
    assert set(ACTIONS) <= set(table), "words for commands that there are not"


def test_nothing_changes_or_removes_a_line() -> None:
    statement = re.compile(
        r"\b(UPDATE|DELETE\s+FROM|REPLACE\s+INTO|DROP\s+TABLE|TRUNCATE)\s+activity\b", re.I
    )
    sources = [
        path for folder in ("store", "engine", "pages", "tunebench") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 300
    assert [path for path in sources if statement.search(path.read_text("utf-8"))] == []
    assert "activity" not in job_queue.JOB_TABLES  # whose rows go with a job


def test_who_launched_changed_and_deleted_what_is_told_with_the_names_of_then(desk: Desk) -> None:
    run_id = desk("launch", by=ADA, dataset="D", name="First")["run_id"]
    desk("edit_run", by=BOB, run=run_id, name="Second", notes="why")
    desk("cancel", by=replace(ADA, name="Ada L."), job=run_id)
    desk("resume", by=BOB, job=run_id)
    desk("cancel", by=BOB, job=run_id)
    desk("delete", by=ADA, job=run_id)
    assert lines(desk) == [
        ("Ada", "launch", "First", "LoRA on D"),
        ("Bob", "edit_run", "First", "now Second, notes"),
        ("Ada L.", "cancel", "Second", ""),
        ("Bob", "resume", "Second", ""),
        ("Bob", "cancel", "Second", ""),
        ("Ada", "delete", "Second", ""),
    ]
    _, rows = activity.listed(desk.database)
    assert {(row.subject_kind, row.subject_id, row.present) for row in rows} == {("run", run_id, False)}
    assert sorted(rows, key=lambda row: row.activity_id) == sorted(rows, key=lambda row: row.done_at)


def test_a_thing_knows_who_made_it(desk: Desk) -> None:
    mine = desk("launch", by=ADA, dataset="D", name="Mine")["run_id"]
    theirs = desk("launch", by=BOB, dataset="D", name="Theirs")["run_id"]
    assert [run.run_id for run in runs.list_runs(desk.database, created_by="p-ada")] == [mine]
    assert runs.count_runs(desk.database, created_by="p-bob") == 1
    assert desk.job(theirs).created_by == "p-bob"
    job_id = desk("import_dataset", by=BOB, name="New", source={"hub_id": "owner/name"})["job_id"]
    assert desk.job(job_id).created_by == "p-bob"
    assert (newest(desk).subject_kind, newest(desk).subject_id) == ("dataset", f"data-{job_id[4:]}")


def test_what_the_engine_does_by_itself_is_nobodys(desk: Desk) -> None:
    with desk.database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob("job-x", "convert", "X", {}, desk.now))
    assert desk.job("job-x").created_by is None
    assert lines(desk) == []


def test_a_refused_command_leaves_no_line(desk: Desk) -> None:
    run_id = desk("launch", dataset="D", name="R")["run_id"]
    with pytest.raises(StateError):
        desk("delete", job=run_id)
    with pytest.raises(NotFoundError):
        desk("cancel", job="nobody")
    assert [line[1] for line in lines(desk)] == ["launch"]


def test_a_line_that_can_not_be_written_undoes_the_change(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = desk("launch", dataset="D", name="R")["run_id"]

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(activity, "add", fail)
    with pytest.raises(OSError, match="no space"):
        desk("cancel", job=run_id)
    assert desk.job(run_id).status == "queued"
    with pytest.raises(OSError, match="no space"):
        desk("launch", dataset="D", name="S")
    assert runs.count_runs(desk.database) == 1


def test_the_sample_is_one_line_also_where_it_takes_several_transactions(desk: Desk) -> None:
    desk("launch_sample")
    assert [line[:3] for line in lines(desk)] == [("you", "launch_sample", newest(desk).subject_name)]
    assert newest(desk).subject_kind == "run"
    desk("prepare_sample")  # all of it is under way: nothing is made
    assert len(lines(desk)) == 1


def test_what_others_change_of_data_is_told(desk: Desk) -> None:
    desk("set_split", by=ADA, dataset="D", validation_size=0.3)
    desk("rename_dataset", by=ADA, dataset="D", name="E")
    desk("export", by=BOB, dataset="E", format="csv")
    desk("set_price", by=BOB, per_hour=2.5)
    desk("clean", by=BOB, dataset="E", recipe={"steps": [{"step": "fix_encoding"}]})
    assert lines(desk) == [
        ("Ada", "set_split", "D", "validation size 0.3"),
        ("Ada", "rename_dataset", "D", "now E"),
        ("Bob", "export", "E", "as csv"),
        ("Bob", "set_price", "the price of an hour", "2.5 EUR"),
        ("Bob", "clean", "E v2", ""),
    ]
    assert lines(desk, subject_kind="dataset", subject_id="data-D", person_id="p-ada")[0][1] == "set_split"


def test_filters_and_pages(desk: Desk) -> None:
    for number in range(7):
        desk("launch", by=(ADA, BOB)[number % 2], dataset="D", name=f"Run {number}")
    total, page = activity.listed(desk.database, ActivityFilter(person_id="p-ada"), limit=2, offset=2)
    assert (total, [row.subject_name for row in page]) == (4, ["Run 2", "Run 0"])
    assert len(lines(desk, commands=group_commands_by_kind()["Launched"])) == 7
    assert lines(desk, commands=("delete",)) == []
    assert [line[2] for line in lines(desk, search="rUn 5")] == ["Run 5"]
    assert lines(desk, search="100%") == []
    assert activity.names(desk.database) == [
        PersonName(person_id="p-ada", name="Ada"),
        PersonName(person_id="p-bob", name="Bob"),
    ]


def test_days_count_back_from_now(desk: Desk) -> None:
    for days in (0, 3, 40):
        with desk.database.transaction() as tx:
            activity.add(tx, entry(f"{days} days ago", utc_now() - timedelta(days=days)))
    assert {line[2] for line in lines(desk, days=7)} == {"3 days ago", "0 days ago"}
    assert {line[2] for line in lines(desk, days=1)} == {"0 days ago"}
    assert len(lines(desk)) == 3


def entry(name: str, at: datetime) -> NewActivity:
    return NewActivity(
        done_at=at,
        person_id=OWNER.person_id,
        person_name=OWNER.name,
        command="rate_as_a_newer_version_does",
        subject_kind="run",
        subject_id="r",
        subject_name=name,
        detail="",
        comment_id=None,
    )


def test_a_command_of_a_newer_version_goes_by_its_name() -> None:
    assert get_action("rate_pair").words == "rate pair"


def test_a_page_of_a_hundred_thousand_lines_is_fast(desk: Desk) -> None:
    count = 100_000
    rows = pa.table({"n": pa.array(range(count), pa.int64())})
    with desk.database.transaction() as tx, tx.table("seeded", rows):
        tx.execute(
            "INSERT INTO activity SELECT nextval('activity_number'), TIMESTAMP '2026-01-01' + to_seconds(n),"
            " 'p' || n % 9, 'P' || n % 9, 'launch', 'run', 'r' || n, 'Run ' || n, '', NULL FROM seeded"
        )
    which = ActivityFilter(person_id="p3", search="run 9", commands=("launch", "delete"))
    began = time.perf_counter()
    total, page = activity.listed(desk.database, which, limit=25, offset=50)
    everybody = activity.names(desk.database)
    assert time.perf_counter() - began < 1.0  # some 0.2 s on a core that others use too
    meant = sum(n % 9 == 3 and str(n).startswith("9") for n in range(count))
    assert (total, len(page), len(everybody)) == (meant, 25, 9)
    assert page[0].activity_id > page[-1].activity_id
