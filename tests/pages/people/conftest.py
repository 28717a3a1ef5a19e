"""A team, and its pages as one of them sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store.core.schemas import Person
from tests.pages.conftest import Open
from tests.pages.people.team import Team, team

OpenAs = Callable[..., AppTest]


@pytest.fixture
def people(tmp_path: Path) -> Iterator[Team]:
    with team(tmp_path / "team") as people:
        yield people


@pytest.fixture
def open_as(people: Team, open_page: Open) -> OpenAs:
    """`open_as(ADA, "pages/runs/run.py", run="r1")`: the page as that person sees it."""

    def open_it(person: Person, page: str, **query: str) -> AppTest:
        people.looking = person
        return open_page(people.home, page, **query)

    return open_it
