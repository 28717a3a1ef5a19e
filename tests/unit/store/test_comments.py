"""Comments: on what is there, by whom, with the people that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.server.comment_commands import MAX_CHARACTERS
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, TunebenchError
from store.core.schemas import Person, PersonName
from store.people import activity, activity_text
from store.people.activity import ActivityFilter
from tests.unit.desk import Desk

ADA = Person(person_id="p-ada", name="Ada", role="member")
BOB: Person = Person(person_id="p-bob", name="Bob", role="member")
CHIEF: Person = Person(person_id="p-chief", name="Chief", role="admin")
VIEWER: Person = Person(person_id="p-v", name="V", role="viewer")
ANNA = [PersonName(person_id="1", name="Ann"), PersonName(person_id="2", name="Ann Lee")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.add_dataset()
    yield desk
    desk.database.close()


@pytest.fixture
def run_id(desk: Desk) -> str:
    return str(desk("launch", by=BOB, dataset="D", name="First")["run_id"])


def texts(desk: Desk, kind: Any, subject_id: str) -> list[str]:
    return [comment.text for comment in activity.list_comments(desk.database, kind, subject_id)]


def test_a_comment_is_written_changed_and_taken_back_by_its_author(desk: Desk, run_id: str) -> None:
    about = {"subject_kind": "run", "subject_id": run_id}
    first = desk("comment", by=ADA, **about, text="  Looks <b>good</b>\nto me ")["comment_id"]
    desk("comment", by=BOB, **about, text="Why?")
    assert texts(desk, "run", run_id) == ["Looks <b>good</b>\nto me", "Why?"]
    desk("edit_comment", by=ADA, comment=first, text="Better")
    with pytest.raises(ForbiddenError, match="Ada"):
        desk("edit_comment", by=CHIEF, comment=first, text="Worse")
    assert activity.list_comments(desk.database, "run", run_id)[0].edited_at is not None
    with pytest.raises(ForbiddenError):
        desk("delete_comment", by=BOB, comment=first)
    desk("delete_comment", by=CHIEF, comment=first)
    assert texts(desk, "run", run_id) == ["Why?"]
    assert activity.comment_counts(desk.database, "run", [run_id, "other"]) == {run_id: 1}
    with pytest.raises(NotFoundError):
        desk("edit_comment", by=ADA, comment=first, text="Again")
    with pytest.raises(NotFoundError, match=r"^There is no comment 'a\\nb'\."):
        desk("delete_comment", by=ADA, comment="a\nb")
    kept = desk.database.query("SELECT text FROM comment WHERE comment_id = ?", [first])
    assert kept.to_pylist() == [{"text": ""}]


@pytest.mark.parametrize("text", ["a\x00b", "\u202eturned", "é" * MAX_CHARACTERS, "\U0001f9e0", "a\r\nb"])
def test_any_text_comes_back_as_it_was_written(desk: Desk, run_id: str, text: str) -> None:
    desk("comment", by=ADA, subject_kind="run", subject_id=run_id, text=text)
    assert texts(desk, "run", run_id) == [text]


def test_a_viewer_reads_alone(desk: Desk, run_id: str) -> None:
    with pytest.raises(ForbiddenError):
        desk("comment", by=VIEWER, subject_kind="run", subject_id=run_id, text="Hi")


@pytest.mark.parametrize(
    ("kind", "subject_id", "text", "error", "field"),
    [
        ("run", "nobody", "x", NotFoundError, None),
        ("evaluation", "nobody", "x", NotFoundError, None),
        ("row", "data-D/9", "x", NotFoundError, "subject_id"),
        ("row", "data-D/-1", "x", NotFoundError, "subject_id"),
        ("row", "nowhere/0", "x", NotFoundError, "dataset"),
        ("comparison", "runs=a", "x", ConfigError, "subject_id"),
        ("comparison", "runs=a,b", "x", NotFoundError, None),
        ("dataset", "data-D", "x", ConfigError, "subject_kind"),
        ("row", "data-D/0", "  ", ConfigError, "text"),
        ("row", "data-D/0", "x" * (MAX_CHARACTERS + 1), ConfigError, "text"),
    ],
)
def test_what_is_not_there_is_not_commented_on(
    desk: Desk, kind: str, subject_id: str, text: str, error: type[TunebenchError], field: str | None
) -> None:
    with pytest.raises(error) as caught:
        desk("comment", subject_kind=kind, subject_id=subject_id, text=text)
    if field:
        assert caught.value.field == field
    assert activity.listed(desk.database)[0] == 0


def test_rows_and_comparisons_have_one_name_each(desk: Desk, run_id: str) -> None:
    second = desk("launch", by=ADA, dataset="D", name="Second")["run_id"]
    desk(
        "comment", by=ADA, subject_kind="comparison", subject_id=f"runs={second},{run_id}", text="Second wins"
    )
    desk("comment", by=ADA, subject_kind="row", subject_id="D/3", text="Odd")
    assert texts(desk, "comparison", activity.format_comparison_key([run_id, second])) == ["Second wins"]
    assert texts(desk, "row", activity.format_row_key("data-D", 3)) == ["Odd"]
    _, rows = activity.listed(desk.database, ActivityFilter(commands=("comment",)))
    assert [(row.subject_name, row.comment, row.present) for row in rows] == [
        ("row 3 of D", "Odd", True),
        ("First against Second", "Second wins", True),
    ]


def test_mentions_of_a_person_are_found_as_the_comment_stands_now(desk: Desk, run_id: str) -> None:
    desk("rename_dataset", by=ADA, dataset="D", name="E")  # Ada is somebody from now on
    about = {"subject_kind": "run", "subject_id": run_id}
    first = desk("comment", by=BOB, **about, text="See @ada, please")["comment_id"]
    desk("comment", by=BOB, **about, text="Mail ada@example.org")
    desk("comment", by=ADA, **about, text="@Bob: yes")
    (comment, *_) = activity.list_comments(desk.database, "run", run_id)
    assert comment.mentions == [PersonName(person_id="p-ada", name="Ada")]
    which = ActivityFilter(mentions="p-ada")
    assert [row.comment for row in activity.listed(desk.database, which)[1]] == ["See @ada, please"]
    desk("edit_comment", by=BOB, comment=first, text="See nobody")
    assert activity.listed(desk.database, which) == (0, [])


def test_what_goes_takes_its_comments_along_and_says_so(desk: Desk, run_id: str) -> None:
    second = desk("launch", by=ADA, dataset="D", name="Second")["run_id"]
    both = activity.format_comparison_key([run_id, second])
    for kind, subject_id in (("run", run_id), ("comparison", both), ("run", second), ("row", "data-D/0")):
        desk("comment", subject_kind=kind, subject_id=subject_id, text="Hm")
    for run in (run_id, second):
        desk("cancel", job=run)
    desk("delete", job=run_id)
    assert activity.listed(desk.database)[1][0].detail == "2 comments went with it"
    assert (texts(desk, "run", run_id), texts(desk, "comparison", both)) == ([], [])
    assert texts(desk, "run", second) == ["Hm"]
    desk("delete", job=second)
    desk("delete_dataset", dataset="D")
    assert [row.detail for row in activity.listed(desk.database)[1][:2]] == ["1 comment went with it"] * 2
    assert desk.database.query("SELECT count(*) AS n FROM comment").to_pylist() == [{"n": 0}]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("@Ann Lee and @ann", ["2", "1"]),
        ("@Ann, @ANN!", ["1"]),
        ("x@Ann @Anna @ Ann", []),
        ("(@Ann)", ["1"]),
        ("", []),
    ],
)
def test_a_name_counts_where_it_stands_alone(text: str, ids: list[str]) -> None:
    assert [person.person_id for person in activity_text.resolve_mentions(text, ANNA)] == ids


def test_pieces_are_the_whole_text_whatever_names_hold() -> None:
    people = [PersonName(person_id="1", name="A.*(b"), PersonName(person_id="2", name="İ")]
    text = "To @A.*(b and @İ and @i."
    parts = activity_text.split_mentions(text, people)
    assert people[0] in parts
    assert "".join(part if isinstance(part, str) else f"@{part.name}" for part in parts) == text
    assert activity_text.split_mentions("@x", []) == ["@x"]
