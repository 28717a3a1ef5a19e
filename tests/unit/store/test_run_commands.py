"""Tags and the archive: for many runs at once, all or nothing, and told in the activity."""

from __future__ import annotations

import pytest

from engine.server.run_commands import MAX_TAGS
from store.core.errors import ConfigError, NotFoundError, StateError
from store.people import activity
from store.runs import runs
from tests.unit.desk import Desk


@pytest.fixture
def run_ids(desk: Desk) -> list[str]:
    desk.add_dataset()
    return [desk("launch", dataset="D", name=name)["run_id"] for name in ("One", "Two", "Three")]


def read_tags(desk: Desk, run_ids: list[str]) -> list[list[str]]:
    return [run.tags for run in runs.get_runs(desk.database, run_ids)]


def test_tags_are_added_and_removed_and_kept_sorted(desk: Desk, run_ids: list[str]) -> None:
    assert read_tags(desk, run_ids) == [[], [], []]
    desk("organize_runs", runs=["One", run_ids[1], run_ids[0]], add_tags=["sweep", " a tag ", "sweep"])
    desk("organize_runs", runs=run_ids[:1], add_tags=["b"], remove_tags=["sweep", "never there"])
    assert read_tags(desk, run_ids) == [["a tag", "b"], ["a tag", "sweep"], []]


def test_archived_runs_are_left_out_until_they_are_asked_for(desk: Desk, run_ids: list[str]) -> None:
    desk("organize_runs", runs=run_ids[:2], archived=True)
    listed = runs.list_runs(desk.database)
    assert [run.run_id for run in listed] == run_ids[2:]
    assert runs.count_runs(desk.database) == 1
    assert [choice.run_id for choice in runs.list_run_choices(desk.database)] == run_ids[2:]
    assert {run.run_id: run.archived for run in runs.list_runs(desk.database, archived=True)} == {
        run_ids[0]: True,
        run_ids[1]: True,
        run_ids[2]: False,
    }
    assert runs.get_run(desk.database, "One").run_id == run_ids[0]  # by its name and in comparisons as before
    desk("organize_runs", runs=["One"], archived=False)
    assert runs.count_runs(desk.database) == 2


def test_a_run_that_is_not_there_changes_nothing(desk: Desk, run_ids: list[str]) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        desk("organize_runs", runs=[run_ids[0], "nobody"], add_tags=["x"], archived=True)
    desk("launch", dataset="D", name="One")
    with pytest.raises(StateError, match="2 runs are named 'One'"):
        desk("organize_runs", runs=["Two", "One"], add_tags=["x"])
    assert read_tags(desk, run_ids) == [[], [], []]
    assert runs.count_runs(desk.database) == 4


def test_more_tags_than_a_run_takes_change_nothing(desk: Desk, run_ids: list[str]) -> None:
    desk("organize_runs", runs=run_ids[:1], add_tags=[f"t{place}" for place in range(MAX_TAGS)])
    with pytest.raises(ConfigError, match=f"One would have more than {MAX_TAGS} tags"):
        desk("organize_runs", runs=run_ids, add_tags=["one more"])
    assert read_tags(desk, run_ids)[1:] == [[], []]
    desk("organize_runs", runs=run_ids, add_tags=["one more"], remove_tags=["t0"])  # removed first
    assert "one more" in read_tags(desk, run_ids)[0]


@pytest.mark.parametrize("tag", ["", "  ", "a,b", "two\nlines", "x" * 41])
def test_a_tag_is_one_short_line_without_a_comma(desk: Desk, run_ids: list[str], tag: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desk("organize_runs", runs=run_ids, add_tags=[tag])
    assert "add_tags" in str(caught.value.field)
    with pytest.raises(ConfigError):
        desk("organize_runs", runs=[], add_tags=["x"])


def test_the_activity_names_the_run_or_how_many(desk: Desk, run_ids: list[str]) -> None:
    desk("organize_runs", runs=run_ids[:1], add_tags=["x"], remove_tags=["y"])
    desk("organize_runs", runs=run_ids, archived=True)
    desk("organize_runs", runs=run_ids, archived=False)
    desk("organize_runs", runs=run_ids)  # asks for nothing
    _, lines = activity.listed(desk.database)
    entries = [
        (line.subject_kind, line.subject_name, line.detail)
        for line in lines
        if line.command == "organize_runs"
    ]
    assert entries[::-1] == [
        ("run", "One", "tag x, without tag y"),
        ("setting", "3 runs", "archived"),
        ("setting", "3 runs", "out of the archive"),
    ]
