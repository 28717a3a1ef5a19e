"""A store whose log was cut, removed or overwritten, or that is an older copy: what is missing is known."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from store.core.errors import StateError
from store.db.commit_journal import describe_loss
from store.db.database import Database
from store.people import settings

Harm = Callable[[Path, list[int]], None]


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def killed(tmp_path: Path) -> tuple[Path, list[int]]:
    """A store as an engine leaves it that was killed: its log not merged, and the log's bytes after each of
    ten commits of three rows each."""
    path = tmp_path / "open" / "tunebench.duckdb"
    path.parent.mkdir()
    Database(path, []).close()
    database, sizes = Database(path, []), []
    for number in range(10):
        with database.transaction() as tx:
            for row in range(3):
                tx.execute("INSERT INTO setting VALUES (?, 'x')", [f"row {number}.{row}"])
            tx.execute("UPDATE setting SET value = 'y' WHERE name = ?", [f"row {number}.0"])
        sizes.append(wal(path).stat().st_size)
    shutil.copytree(path.parent, tmp_path / "killed")
    database.close()
    return tmp_path / "killed" / path.name, sizes


def cut_in_the_middle(path: Path, sizes: list[int]) -> None:
    os.truncate(wal(path), (sizes[5] + sizes[6]) // 2)


def cut_between(path: Path, sizes: list[int]) -> None:
    os.truncate(wal(path), sizes[5])


def overwrite_the_end(path: Path, sizes: list[int]) -> None:
    with open(wal(path), "r+b") as file:
        file.seek(sizes[5])
        file.write(b"\0" * (sizes[-1] - sizes[5]))


def remove(path: Path, sizes: list[int]) -> None:
    wal(path).unlink()


@pytest.mark.parametrize(
    ("harm", "commits"), [(cut_in_the_middle, 4), (cut_between, 4), (overwrite_the_end, 4), (remove, 11)]
)
def test_what_a_cut_log_has_taken_is_known(tmp_path: Path, harm: Harm, commits: int) -> None:
    path, sizes = killed(tmp_path)
    harm(path, sizes)
    database = Database(path, [])
    assert database.lost
    own = 1 if commits == 11 else 0  # of the opening, which kept where the home is
    assert (database.lost.commits, database.lost.understood) == (commits, commits)
    assert database.lost.rows == {"setting": 4 * (commits - own) + own}
    assert settings.lost_commits(database) == database.lost
    sentence = describe_loss(database.lost)
    assert sentence.startswith(f"The store lacks the last {commits} commits that were made, from 20")
    assert sentence.endswith(f"UTC: rows added, changed or removed: {4 * (commits - own) + own} of setting.")
    database.close()
    again = Database(path, [])
    assert again.lost is None  # sentence once; for the screens it is kept
    assert settings.lost_commits(again)
    again.close()


def test_a_whole_store_lacks_nothing(tmp_path: Path) -> None:
    path, _ = killed(tmp_path)
    for _ in range(2):  # after a kill, and after an end in order
        database = Database(path, [])
        assert database.lost is None
        assert len(database.query("SELECT * FROM setting WHERE name LIKE 'row %'")) == 30
        database.close()


def test_an_older_copy_is_told_though_its_commits_were_merged(tmp_path: Path) -> None:
    path = tmp_path / "tunebench.duckdb"
    Database(path, []).close()
    shutil.copy(path, tmp_path / "copy")
    database = Database(path, [])
    for number in range(3):
        with database.transaction() as tx:
            tx.execute("INSERT INTO setting VALUES (?, 'x')", [str(number)])
    database.close()
    shutil.copy(tmp_path / "copy", path)
    database = Database(path, [])
    assert database.lost
    assert (database.lost.commits, database.lost.understood) == (4, 0)
    assert describe_loss(database.lost) == (
        "The store lacks the last 4 commits that were made; what they changed is unknown."
    )
    database.close()


def test_a_log_that_does_not_add_up_is_named_with_the_way_on(tmp_path: Path) -> None:
    path, sizes = killed(tmp_path)
    with open(wal(path), "r+b") as file:
        file.seek((sizes[5] + sizes[6]) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    with pytest.raises(StateError, match="Corrupt WAL") as caught:
        Database(path, [])
    assert f"move {wal(path)} away" in str(caught.value.fix)
    wal(path).unlink()
    database = Database(path, [])
    assert database.lost
    assert database.lost.commits == 11
    database.close()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe{", b'{"number": "x"}\n', b'[1]\n{"number": 9'])
def test_a_journal_that_is_gone_or_damaged_says_nothing(tmp_path: Path, content: bytes | None) -> None:
    path, _ = killed(tmp_path)
    journal = path.with_suffix(".commits")
    if content is None:
        journal.unlink()
    else:
        journal.write_bytes(content)
    wal(path).unlink()
    database = Database(path, [])
    assert database.lost is None
    with database.transaction() as tx:
        tx.execute("INSERT INTO setting VALUES ('a', 'x')")
    database.close()


def test_the_journal_is_short_and_for_its_owner_alone(tmp_path: Path) -> None:
    path, _ = killed(tmp_path)
    journal = path.with_suffix(".commits")
    assert journal.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["rows"] for line in lines[-10:]] == [{"setting": 4}] * 10
    Database(path, []).close()
    [last] = journal.read_text().splitlines()  # all is in the store's file
    assert json.loads(last)["number"] == lines[-1]["number"] + 1


def test_what_changes_nothing_is_no_commit_of_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "tunebench.duckdb"
    database = Database(path, [])
    before = path.with_suffix(".commits").read_text()
    with database.transaction() as tx:
        tx.query("SELECT 1")
    with pytest.raises(ZeroDivisionError):
        _give_up(database)
    assert path.with_suffix(".commits").read_text() == before
    database.close()


def _give_up(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute("INSERT INTO setting VALUES ('a', 'x')")
        raise ZeroDivisionError
