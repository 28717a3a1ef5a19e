"""A model answers the prompts of a file for a rating round, and the round is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.rating.jobs import answer_prompts
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import JobDir, write_json
from store.core.rating_schemas import PromptAnswersResult
from store.rating import rounds
from store.rating.config import AnswerPrompts
from tests.engine.evaluating import home_with_rows, trained
from tests.engine.job_events import cancel_when
from tests.shapes import held_to
from tests.tiny import write_model
from tests.unit.rating.round_desk import RoundDesk

ROWS: list[dict[str, Any]] = [
    {"prompt": "What is 1 + 1?", "reference": "2", "answers": {"people": "Two."}},
    {"nothing": "here"},
    {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]},
    {"prompt": "Last?", "answers": {"people": "Yes."}},
]


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = home_with_rows(tmp_path)
    write(JobDir(home.jobs / "round-1").held / "prompts.jsonl")
    return home


def asked(home: Home, name: str, **fields: Any) -> WorkerJob:
    config = AnswerPrompts.parse({"round": "round-1", "max_new_tokens": 4} | fields)
    folder = home.jobs / name
    folder.mkdir()
    order = {"job_id": name, "kind": "answer_prompts", "home": str(home.path), "device": "cpu"}
    write_json(folder / "config.json", order | {"config": config.model_dump()})
    return WorkerJob(folder)


def answers(job: WorkerJob) -> list[dict[str, Any]]:
    return pq.read_table(
        job.dir.predictions, columns=["row_id", "prompt", "prediction", "reference"]
    ).to_pylist()


def test_every_prompt_is_answered_at_its_place_in_the_file(home: Home) -> None:
    job = asked(home, "a", model="tiny")
    result = held_to(PromptAnswersResult, answer_prompts.run(job))
    assert (result["n"], result["unasked"], result["device"]) == (3, 0, "cpu")
    rows = answers(job)
    assert [row["row_id"] for row in rows] == [0, 2, 3]
    assert [row["prompt"] for row in rows] == ["What is 1 + 1?", "Hello?", "Last?"]
    assert [row["reference"] for row in rows] == ["2", "Hi.", None]
    assert all(isinstance(row["prediction"], str) for row in rows)
    assert "Answering the prompts" in job.dir.events.read_text()


def test_answers_are_greedy_or_drawn_by_the_seed(home: Home) -> None:
    drawn = {"model": "tiny", "do_sample": True, "temperature": 2.0}
    drawn_answers = []
    for name, fields in (("a", {}), ("b", {}), ("c", {"seed": 1})):
        job = asked(home, name, **drawn, **fields)
        answer_prompts.run(job)
        drawn_answers.append([row["prediction"] for row in answers(job)])
    assert drawn_answers[0] == drawn_answers[1] != drawn_answers[2]


def test_a_run_and_what_it_began_with_answer(home: Home) -> None:
    trained(home)
    for checkpoint in ("tuned", "base"):
        job = asked(home, checkpoint, run="run", checkpoint=checkpoint)
        assert answer_prompts.run(job)["n"] == 3


def test_it_stops_when_asked_and_says_what_it_lacks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    job = asked(home, "stopped", model="tiny")
    cancel_when(job, lambda event: event.get("message") == "Answering the prompts")
    with pytest.raises(JobCancelled):
        answer_prompts.run(job)
    with pytest.raises(DataError, match="no longer exists"):
        answer_prompts.run(asked(home, "lost", model="tiny", round="round-2"))

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(answer_prompts, "generate_row_answers", full)
    with pytest.raises(Exception, match="out of memory") as caught:
        answer_prompts.run(asked(home, "full", model="tiny"))
    assert caught.value.field == "max_new_tokens"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    write_model(desk.home.models / "tiny")
    yield desk
    desk.database.close()


def test_a_round_of_a_file_from_its_start_to_its_items(desk: RoundDesk) -> None:
    write(desk.home.uploads / "prompts.jsonl")
    models = [{"answers": "people"}, {"model": "tiny"}]
    made = desk(
        "start_round", name="R", models=models, prompts_file={"upload": "prompts.jsonl"}, max_new_tokens=4
    )
    for job_id in (*made["job_ids"], made["round_id"]):
        desk.do(job_id)
    round = rounds.get(desk.database, made["round_id"])
    assert [system.name for system in round.systems] == ["people", "tiny"]
    assert round.details.notices == [
        "3 prompts of the file prompts.jsonl.",
        "Left out 1 row: it has no prompt.",
        "Left out 1 prompt without an answer from every model.",
    ]
    items = rounds.items(desk.database, made["round_id"])
    assert [item.answers[0] for item in items] == ["Two.", "Yes."]
    assert items[0].reference == "2"
