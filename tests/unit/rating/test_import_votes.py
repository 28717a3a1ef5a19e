"""Rounds that were rated elsewhere, out of files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.contract.errors import ConfigError, DataError
from store.queries.rating import ratings, rounds
from tests.unit.rating.round_desk import RoundDesk

PAIR = {"instruction": "Add.", "input": "1 and 1", "response1": "2", "response2": "<b>3</b>"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path, prompts=1)
    yield desk
    desk.database.close()


def imported(desk: RoundDesk, rows: list[dict[str, Any]], **config: Any) -> str:
    file = desk.home.uploads / "votes.json"
    file.write_text(json.dumps(rows))
    job_id = desk("import_round", path=str(file), **config)["job_id"]
    desk.do(job_id)
    return job_id


def test_votes_of_several_people_become_a_closed_round(desk: RoundDesk) -> None:
    rows = [
        PAIR | {"annotator1": 1, "annotator2": 0, "annotator3": 2},
        PAIR | {"annotator1": 2, "annotator2": 2, "annotator3": None},
    ]
    round_id = imported(desk, rows, first="Model one")
    round = rounds.get(desk.database, round_id)
    assert (round["state"], round["name"], round["item_count"]) == ("closed", "votes", 2)
    assert [system["name"] for system in round["systems"]] == ["Model one", "response2"]
    assert round["details"]["notices"] == ["5 votes.", "Left out 1 times: annotator3 has no vote."]
    first = rounds.items(desk.database, round_id)[0]
    assert first["prompt"] == [{"role": "user", "content": "Add.\n\n1 and 1"}]
    assert first["answers"] == ["2", "<b>3</b>"]
    votes = {
        (task["person_name"], task["item_id"]): task["answer"]["choice"]
        for task in ratings.dealt(desk.database, round_id)
    }
    assert votes == {
        **{("annotator1", 0): "A", ("annotator2", 0): "tie", ("annotator3", 0): "B"},
        **{("annotator1", 1): "B", ("annotator2", 1): "B"},
    }


def test_an_empty_answer_is_rated_too(desk: RoundDesk) -> None:
    round_id = imported(desk, [PAIR | {"label": 1}, PAIR | {"label": 1, "response2": ""}])
    assert [item["answers"][1] for item in rounds.items(desk.database, round_id)] == ["<b>3</b>", ""]
    assert rounds.get(desk.database, round_id)["details"]["empty"] == 1


def test_an_imported_round_is_not_opened(desk: RoundDesk) -> None:
    round_id = imported(desk, [PAIR | {"label": 1}, PAIR | {"label": 2}])
    with pytest.raises(Exception, match="elsewhere"):
        desk("open_round", round=round_id)


def test_a_file_without_votes_is_refused_with_what_to_do(desk: RoundDesk) -> None:
    with pytest.raises((DataError, ConfigError)):
        imported(desk, [{"text": "nothing"}])
    with pytest.raises(ConfigError, match="path"):
        desk("import_round", name="R")
