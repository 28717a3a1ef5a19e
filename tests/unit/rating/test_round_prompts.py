"""Which prompts a round is of: rows that a filter means, and the prompts of a file with its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.job_handlers import HANDLERS
from engine.rating.rater_commands import HELD_TASKS
from engine.server.file_removal import remove_stale_held
from engine.server.local_launcher import Worker
from engine.server.scheduler import Scheduler
from pages.rating.rounds import describe_prompts
from store.core.errors import ConfigError, DataError, NotFoundError, StateError
from store.core.job_folder import JobDir, write_json
from store.core.rights import OWNER
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.jobs import job_queue
from store.rating import rounds
from store.rating.config import RoundConfig
from tests.unit.rating.round_desk import RoundDesk, person
from tests.unit.store_samples import add_job

BOB = person("Bob", "rater")
WHERE = {"conditions": [{"column": "row_id", "op": "<", "value": 6}]}
TWO = [{"answers": "gpt-4o"}, {"answers": "llama"}]
FILE = "prompts.jsonl"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    yield desk
    desk.database.close()


def upload(desk: RoundDesk, rows: list[dict[str, Any]] | None = None, name: str = FILE) -> str:
    """Twelve prompts, of which llama has not answered the last two."""
    if rows is None:
        rows = [{"prompt": f"File question {n}?", "reference": f"R{n}"} for n in range(12)]
        for n, row in enumerate(rows):
            row["answers"] = {"gpt-4o": f"Long answer number {n}"} | (
                {"llama": f"Short {n}"} if n < 10 else {}
            )
    (desk.home.uploads / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def of_file(desk: RoundDesk, models: list[dict[str, Any]] | None = None, **config: Any) -> str:
    upload(desk)
    return desk.round(models=models or TWO, prompts_file={"upload": FILE}, **config)


# -- a filter ---------------------------------------------------------------------------------------


def test_answers_that_are_there_are_narrowed_to_what_the_filter_means(desk: RoundDesk) -> None:
    round = rounds.get(desk.database, desk.round(where=WHERE))
    assert {item.row_id for item in rounds.items(desk.database, round.round_id)} == set(range(6))
    assert round.details.notices == ["Only rows where row id < 6."]
    assert RoundConfig.parse(round.config).where is not None


def test_a_filter_that_means_no_answered_prompt_is_named(desk: RoundDesk) -> None:
    for where in ({"search": "nobody asked this"}, {"expression": "row_id IN (SELECT 1)"}):
        with pytest.raises(ConfigError) as refused:
            desk.round(where=where)
        assert refused.value.field == "where"


def test_a_round_passes_its_filter_to_the_evaluations_it_queues(desk: RoundDesk) -> None:
    models = [{"model": "One"}, {"model": "Two"}]
    desk("start_round", name="R", models=models, dataset="Questions", where=WHERE, part="all")
    for job in evaluations.unfinished(desk.database):
        assert (
            EvaluateConfig.parse(job.config).where
            == RoundConfig.parse({"name": "R", "models": models, "where": WHERE}).where
        )
        assert job.title.endswith("all rows where row id < 6")


def test_a_round_says_what_the_evaluations_were_narrowed_to(desk: RoundDesk) -> None:
    ids = desk.both()
    with desk.database.transaction() as tx:
        config = evaluations.get(tx, ids[1]).config | {"where": WHERE}
        tx.execute("UPDATE evaluation SET config = ? WHERE evaluation_id = ?", [json.dumps(config), ids[1]])
    round = rounds.get(desk.database, desk.round(models=[{"evaluation": each} for each in ids]))
    assert round.details.notices == ["One model has answers only for rows where row id < 6."]
    line = rounds.line(desk.database, round.round_id)
    assert describe_prompts(line).endswith("prompts where row id < 6")


def test_the_rows_of_an_evaluation_take_its_filter_along(desk: RoundDesk) -> None:
    first = desk.both()[0]
    asked = {"model": "X", "rows_of": first, "where": WHERE, "metrics": ["chrf"]}
    with pytest.raises(ConfigError) as refused:
        desk("evaluate", **asked)
    assert refused.value.field == "where"


# -- a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"models": TWO}, "prompts_file: answers come from a file"),
        ({"models": TWO, "prompts_file": {}}, "exactly one of path and upload"),
        ({"models": TWO, "prompts_file": {"path": "/a", "upload": "b"}}, "exactly one of path and upload"),
        ({"models": TWO, "prompts_file": {"path": "/a"}, "dataset": "Questions"}, "dataset: the prompts are"),
        ({"models": TWO, "prompts_file": {"path": "/a"}, "where": WHERE}, "where: the prompts are"),
        ({"models": [TWO[0], TWO[0]], "prompts_file": {"path": "/a"}}, "the same answers"),
        ({"models": [TWO[0], {"evaluation": "E"}], "prompts_file": {"path": "/a"}}, "an evaluation has no"),
        ({"models": [TWO[0], {"answers": "x", "evaluation": "E"}]}, "with answers, give the run or model"),
        (
            {"models": [TWO[0], {"answers": "x", "run": "R", "model": "M"}]},
            "with answers, give the run or model",
        ),
        ({"models": [TWO[0], {}]}, "exactly one of evaluation, run, model and answers"),
    ],
)
def test_a_config_that_is_no_round_of_a_file_says_why(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        RoundConfig.parse({"name": "R"} | config)


def test_answers_of_a_file_become_a_round(desk: RoundDesk) -> None:
    round_id = of_file(desk)
    round = rounds.get(desk.database, round_id)
    assert (round.state, round.item_count, round.dataset_id) == ("open", 10, None)
    assert [system.name for system in round.systems] == ["gpt-4o", "llama"]
    assert {system.evaluation_id for system in round.systems} == {None}
    assert round.details.notices == [
        "12 prompts of the file prompts.jsonl.",
        "Left out 2 prompts without an answer from every model.",
    ]
    first = rounds.items(desk.database, round_id)[0]
    assert first.row_id is None
    assert first.prompt == [{"role": "user", "content": "File question 0?"}]
    assert (first.reference, first.answers) == ("R0", ["Long answer number 0", "Short 0"])
    assert len(desk("next_rating_tasks", BOB, round=round_id)["tasks"]) == HELD_TASKS


def test_hostile_rows_come_to_raters_as_they_are(desk: RoundDesk) -> None:
    asked = "<script>alert('x')</script> and a zero \0 in it"
    upload(desk, [{"prompt": asked, "answers": {"gpt-4o": "<b>\0</b>", "llama": "DROP TABLE rating;"}}])
    round_id = desk.round(models=TWO, prompts_file={"upload": FILE})
    (task,) = desk("next_rating_tasks", BOB, round=round_id)["tasks"]
    assert task["prompt"] == [{"role": "user", "content": asked}]
    assert sorted(task["answers"]) == ["<b>\0</b>", "DROP TABLE rating;"]


def test_fewer_prompts_are_drawn_at_random_or_where_answers_part(desk: RoundDesk) -> None:
    for choice in ("random", "telling"):
        round_id = of_file(desk, items=4, choice=choice)
        items = rounds.items(desk.database, round_id)
        assert len(items) == 4
        assert all(item.weight > 1 for item in items) == (choice == "telling")


def test_the_file_is_held_until_the_round_is_there(desk: RoundDesk) -> None:
    upload(desk)
    made = desk("start_round", name="R", models=TWO, prompts_file={"upload": FILE})
    held = JobDir(desk.home.jobs / made["round_id"]).held / FILE
    assert held.exists()
    assert not (desk.home.uploads / FILE).exists()
    assert made["job_ids"] == []
    desk.do(made["round_id"])
    assert rounds.get(desk.database, made["round_id"]).item_count == 10


def test_the_scheduler_removes_the_file_once_the_round_is_in_the_store(desk: RoundDesk) -> None:
    upload(desk)
    round_id = desk("start_round", name="R", models=TWO, prompts_file={"upload": FILE})["round_id"]
    folder = JobDir(desk.home.jobs / round_id)
    result = desk.gathered(round_id)
    write_json(folder.result, {"status": "finished", "result": result})
    Scheduler(desk.database, NoLauncher(), desk.home, ["cpu"], HANDLERS).step(desk.now)
    assert job_queue.get_job(desk.database, round_id).status == "finished"
    assert not folder.held.exists()
    assert (folder.path / "items.parquet").exists()


class NoLauncher:
    """Nothing is started, and nothing lives."""

    def alive(self, worker: Worker) -> bool:
        return False

    def last_exit(self, folder: Path) -> None:
        return None


def test_a_refused_round_gives_the_upload_back(desk: RoundDesk) -> None:
    upload(desk)
    with pytest.raises(ConfigError) as refused:
        desk("start_round", name="R", models=[TWO[0], {"run": "nobody"}], prompts_file={"upload": FILE})
    assert refused.value.field == "models.1.run"
    assert (desk.home.uploads / FILE).exists()
    assert not list(desk.home.jobs.glob("round-*"))
    for file in ({"upload": "../token"}, {"path": str(desk.home.path / "token")}, {"path": "/nowhere.jsonl"}):
        with pytest.raises(DataError) as unread:
            desk("start_round", by=OWNER, name="R", models=TWO, prompts_file=file)
        assert unread.value.field == "prompts_file"


def test_the_name_of_a_round_tells_raters_nothing_of_its_models(desk: RoundDesk) -> None:
    first, second = desk.both()
    add_job(desk.database, "tuned", status="finished")
    upload(desk)
    file = {"prompts_file": {"upload": FILE}}
    for name, models, more in (
        ("GPT 4o or not", TWO, file),
        ("lora_of_Tuned, pairwise", [TWO[0] | {"run": "tuned"}, TWO[1]], file),
        ("Is the base model better?", [{"evaluation": first}, {"evaluation": second}], {}),
        ("SmolLM2 again", [{"evaluation": first}, {"model": "HuggingFaceTB/SmolLM2"}], {}),
    ):
        with pytest.raises(ConfigError, match="raters see the name") as refused:
            desk("start_round", name=name, models=models, **more)
        assert refused.value.field == "name"
    assert (desk.home.uploads / FILE).exists()
    desk("start_round", name="Llamas, and GPT", models=TWO, **file)


@pytest.mark.parametrize("name", [".mine.jsonl", f"{'x' * 240}.jsonl", f"{'é' * 120}.jsonl"])
def test_a_file_is_held_whatever_it_is_called(desk: RoundDesk, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((desk.home.uploads / upload(desk)).read_bytes())
    round_id = desk.round(models=TWO, prompts_file={"path": str(path)}, by=OWNER)
    assert rounds.get(desk.database, round_id).item_count == 10


def test_what_a_killed_engine_held_is_removed_at_the_next_start(desk: RoundDesk) -> None:
    upload(desk)
    waiting = desk("start_round", name="R", models=TWO, prompts_file={"upload": FILE})["round_id"]
    stored = of_file(desk)
    for round_id in ("round-never-queued", stored):
        held = desk.home.jobs / round_id / "held"
        held.mkdir(parents=True, exist_ok=True)
        (held / FILE).write_text("{}")
    remove_stale_held(desk.database, desk.home)
    assert not (desk.home.jobs / "round-never-queued").exists()
    assert not (desk.home.jobs / stored / "held").exists()
    assert (desk.home.jobs / stored / "items.parquet").exists()
    assert (desk.home.jobs / waiting / "held" / FILE).exists()


def test_a_file_that_nobody_could_rate_is_refused(desk: RoundDesk) -> None:
    with open(desk.home.uploads / upload(desk), "r+b") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(ConfigError, match="300 MiB; files of a round may have 256 MiB") as refused:
        desk("start_round", name="R", models=TWO, prompts_file={"upload": FILE})
    assert refused.value.field == "prompts_file"


def test_a_file_on_the_machine_is_copied_and_stays(desk: RoundDesk, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text((desk.home.uploads / upload(desk)).read_text())
    round_id = desk.round(models=TWO, prompts_file={"path": str(path)}, by=OWNER)
    assert rounds.get(desk.database, round_id).item_count == 10
    assert path.exists()


def test_answers_that_the_file_has_not_are_named_with_those_it_has(desk: RoundDesk) -> None:
    with pytest.raises(DataError, match="no answers of 'mistral'") as refused:
        of_file(desk, models=[TWO[0], {"answers": "mistral"}])
    assert refused.value.field == "models.1.answers"
    assert "gpt-4o, llama" in refused.value.fix


def test_who_wrote_answers_may_be_told(desk: RoundDesk) -> None:
    round = rounds.get(desk.database, of_file(desk, models=[TWO[0] | {"model": "openai/gpt-4o"}, TWO[1]]))
    assert [(each.name, each.model) for each in round.systems] == [
        ("gpt-4o", "openai/gpt-4o"),
        ("llama", ""),
    ]


def test_answers_of_a_run_stand_on_its_page(desk: RoundDesk) -> None:
    add_job(desk.database, "tuned", status="finished")
    models = [TWO[0] | {"run": "Tuned"}, TWO[1] | {"run": "tuned", "checkpoint": "base"}]
    round_id = of_file(desk, models=models)
    first, second = rounds.get(desk.database, round_id).systems
    assert (first.name, first.run_id, first.model) == ("gpt-4o", "tuned", "m")
    assert (second.name, second.run_id, second.model) == ("llama", None, "m")
    assert [round.round_id for round in rounds.of_run(desk.database, "tuned")] == [round_id]


def test_a_run_answers_the_file_where_it_left_a_model_that_writes(desk: RoundDesk) -> None:
    add_job(desk.database, "tuned", status="finished")
    upload(desk)
    models = [TWO[0], {"run": "tuned"}]
    with pytest.raises(StateError, match="folder of the run") as refused:
        desk("start_round", name="R", models=models, prompts_file={"upload": FILE})
    assert refused.value.field == "models.1.run"
    (desk.home.jobs / "tuned").mkdir()
    write_json(desk.home.jobs / "tuned" / "config.json", {})
    (job_id,) = desk("start_round", name="R", models=models, prompts_file={"upload": FILE})["job_ids"]
    job = job_queue.get_job(desk.database, job_id)
    assert (job.config["run"], job.title) == ("tuned", "Tuned answers for R")
    with desk.database.transaction() as tx:
        tx.execute("UPDATE run SET config = ?", [json.dumps({"task": "classification"})])
    upload(desk)
    with pytest.raises(ConfigError, match="classifier") as headed:
        desk("start_round", name="R", models=models, prompts_file={"upload": FILE})
    assert headed.value.field == "models.1.run"


def test_what_a_round_that_is_being_made_needs_can_not_be_deleted(desk: RoundDesk) -> None:
    add_job(desk.database, "tuned", status="finished")
    add_job(desk.database, "writer", status="finished")
    (desk.home.jobs / "tuned").mkdir()
    write_json(desk.home.jobs / "tuned" / "config.json", {})
    upload(desk)
    models = [TWO[0] | {"run": "writer"}, {"run": "tuned"}]
    made = desk("start_round", name="R", models=models, prompts_file={"upload": FILE})
    for run in ("tuned", "writer"):
        with pytest.raises(StateError, match="needed by “Round R”"):
            desk("delete", job=run)
    desk("cancel", job=made["round_id"])
    desk("delete", job="tuned")

    first, second = desk.both()
    with desk.database.transaction() as tx:
        tx.execute("UPDATE evaluation SET run_id = NULL")
    made = desk("start_round", name="S", models=[{"evaluation": first}, {"evaluation": second}])
    with pytest.raises(StateError, match="needed by “Round S”"):
        desk("delete", job=first)
    desk.do(made["round_id"])
    desk("delete", job=first)


def test_a_model_without_answers_answers_first(desk: RoundDesk) -> None:
    upload(desk)
    models = [TWO[0], {"model": "Other"}]
    made = desk("start_round", name="R", models=models, prompts_file={"upload": FILE}, max_new_tokens=9)
    (job_id,) = made["job_ids"]
    job = job_queue.get_job(desk.database, job_id)
    assert (job.kind, job.lane, job.title) == ("answer_prompts", "device", "Other answers for R")
    assert (job.config["round"], job.config["max_new_tokens"]) == (made["round_id"], 9)
    answered(desk, job_id, {n: f"Other answer {n}" for n in range(3, 12)})
    desk.do(made["round_id"])
    round = rounds.get(desk.database, made["round_id"])
    assert [system.name for system in round.systems] == ["gpt-4o", "Other"]
    items = rounds.items(desk.database, made["round_id"])
    assert [item.answers[1] for item in items] == [f"Other answer {n}" for n in range(3, 12)]
    desk("delete", job=made["round_id"])
    with pytest.raises(NotFoundError):
        job_queue.get_job(desk.database, job_id)
    assert not (desk.home.jobs / job_id).exists()


def answered(desk: RoundDesk, job_id: str, answers: dict[int, str]) -> None:
    folder = JobDir(desk.home.jobs / job_id)
    folder.path.mkdir()
    rows = [
        {"row_id": row, "prompt": "p", "prediction": text, "reference": None} for row, text in answers.items()
    ]
    schema = pa.schema(
        [("row_id", pa.int64()), *((name, pa.string()) for name in rows[0] if name != "row_id")]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder.predictions)
    desk.finish(job_id, {"n": len(answers), "unasked": 0, "device": "cpu", "device_name": "A processor"})


def test_cancelling_a_round_cancels_the_answers_that_it_waits_for(desk: RoundDesk) -> None:
    upload(desk)
    made = desk("start_round", name="R", models=[TWO[0], {"model": "Other"}], prompts_file={"upload": FILE})
    desk("cancel", job=made["round_id"])
    assert job_queue.get_job(desk.database, made["job_ids"][0]).status == "cancelled"
    desk("resume", job=made["round_id"])
    assert job_queue.get_job(desk.database, made["job_ids"][0]).status == "queued"


def test_a_round_of_a_file_is_opened_again_and_no_judge_rates_it(desk: RoundDesk) -> None:
    round_id = of_file(desk)
    desk("close_round", round=round_id)
    desk("open_round", round=round_id)
    assert rounds.get(desk.database, round_id).state == "open"
    first, second = desk.both()
    endpoint = {"base_url": "https://judge.example/v1", "model": "J"}
    judging = desk("judge", first=first, second=second, judge=endpoint)["job_id"]
    with pytest.raises(StateError, match="no evaluation"):
        desk("judge_rates", round=round_id, judging=judging)


def test_a_prompt_of_a_file_is_never_on_both_sides_of_the_split(desk: RoundDesk) -> None:
    rows = [
        {"prompt": f"Question {n // 3}?", "answers": {"gpt-4o": f"Better {n}", "llama": f"Worse {n}"}}
        for n in range(30)
    ]
    upload(desk, rows)
    round_id = desk.round(models=TWO, prompts_file={"upload": FILE}, overlap=1)
    while tasks := desk("next_rating_tasks", BOB, round=round_id)["tasks"]:
        for task in tasks:
            choice = "A" if task["answers"][0].startswith("Better") else "B"
            desk(
                "rate",
                BOB,
                round=round_id,
                task=task["task_id"],
                answer={"choice": choice},
                seconds=5.0,
                want=1,
            )
    desk("close_round", round=round_id)
    made = desk("rows_from_round", round=round_id)
    assert made["rows"] == 30
    (file,) = desk.home.uploads.glob("*preferences*.jsonl")
    by_prompt: dict[str, set[str]] = {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        by_prompt.setdefault(row["chosen"][0]["content"], set()).add(row["prompt_id"])
    assert len(by_prompt) == 10
    assert all(len(ids) == 1 for ids in by_prompt.values())
    assert len(set.union(*by_prompt.values())) == 10
