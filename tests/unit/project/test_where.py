"""Each file that docs/where.md sends newcomers to is there, and so is the test that holds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "where.md").read_text("utf-8")
PATH = re.compile(r"`([^` ]+)`")


class Task(NamedTuple):
    """A row of the tables: what somebody wants to change, what to open, and the test that holds it."""

    title: str
    files: list[str]
    tests: list[str]


def tasks(page: str) -> list[Task]:
    """The rows of all tables, without their heads."""
    rows = (line.strip("|").split("|") for line in page.splitlines() if line.startswith("| "))
    cells = [[cell.strip() for cell in row] for row in rows if not row[0].strip().startswith("you want")]
    return [Task(title, PATH.findall(files), PATH.findall(tests)) for title, files, tests in cells]


def test_twenty_tasks_or_more_are_named_once() -> None:
    titles = [task.title for task in tasks(PAGE)]
    assert len(titles) == len(set(titles)) >= 20


@pytest.mark.parametrize("task", tasks(PAGE), ids=lambda task: task.title)
def test_every_path_is_there(task: Task) -> None:
    assert 1 <= len(task.files) <= 2
    assert len(task.tests) == 1
    assert task.tests[0].startswith("tests/")
    assert [path for path in task.files + task.tests if not (ROOT / path).exists()] == []


def test_a_path_that_is_gone_is_found() -> None:
    head = "| you want to change | open | its test |\n|---|---|---|\n"
    (task,) = tasks(head + "| a door | `pages/door.py` | `tests/door.py` |")
    assert task == Task("a door", ["pages/door.py"], ["tests/door.py"])
    assert not (ROOT / task.files[0]).exists()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_page_is_linked(page: str) -> None:
    assert "where.md)" in (ROOT / page).read_text("utf-8")
