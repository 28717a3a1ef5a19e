"""Every command over a real store; the preview is answered by the test."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.server.job_results import build_dataset_id
from store.core.errors import ConfigError, NotFoundError, StateError, TunebenchError
from store.core.job_folder import JobDir, write_json
from store.data import datasets
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import RunChoice
from store.training.train_config import BUNDLED_MODEL, SAMPLE_DATASET
from tests.unit.desk import START, Desk


def test_launch_queues_a_resolved_run_with_the_split_of_its_data_set(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", test_size=0.1)["run_id"]
    run = runs.get_run(desk.database, run_id)
    assert run.status == "queued"
    assert run.name == "LoRA on D"
    assert run.data_fingerprint == "f"
    wanted = {"learning_rate": 1e-4, "num_train_epochs": 3.0, "lora_alpha": 32, "weight_decay": 0.0}
    split = {"split_seed": 3, "validation_size": 0.2, "test_size": 0.1}
    assert {key: run.config[key] for key in wanted | split} == wanted | split
    assert desk.job(run_id).config == run.config
    assert run.facts == {
        **{"estimated_memory_gib": 1.5, "estimated_memory_low_gib": 1.2, "estimated_memory_high_gib": 1.9},
        **{"counted_memory_gib": 1.4, "process_memory_gib": 0.6},
        **{"estimated_seconds": 90.0, "estimated_low_seconds": 60.0, "estimated_high_seconds": 140.0},
        **{"counted_seconds": 80.0, "course_seconds": 50.0, "estimated_steps": 30, "steps_timed": True},
    }
    assert desk.asked[0]["split"] == {**split, "split_by": "random", "split_column": None}
    assert desk.asked[0]["fingerprint"] == "f"


def test_launch_is_refused_with_the_first_error_of_the_preview(desk: Desk) -> None:
    desk.add_dataset()
    desk.problems = [
        {"level": "warning", "field": "r", "message": "A warning.", "fix": ""},
        {"level": "error", "field": "max_length", "message": "No rows are left.", "fix": "Raise it."},
    ]
    with pytest.raises(ConfigError, match="No rows are left") as caught:
        desk("launch", dataset="D")
    assert caught.value.field == "max_length"
    assert job_queue.queue(desk.database) == []
    assert runs.count_runs(desk.database) == 0


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One store for all that is refused: each test sees that it left nothing there."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.add_dataset()
    yield desk
    desk.database.close()


@pytest.mark.parametrize(
    ("name", "body", "error", "field"),
    [
        ("launch", {"dataset": "D", "learning_rate": "abc"}, ConfigError, "learning_rate"),
        ("launch", {"dataset": "D", "per_device_train_batch_size": 0}, ConfigError, None),
        ("launch", {"dataset": "D", "learning_rte": 1}, ConfigError, "learning_rte"),
        ("launch", {"dataset": "nowhere"}, NotFoundError, "dataset"),
        ("import_dataset", {"name": "D", "source": {"path": "/f"}}, ConfigError, "name"),
        ("import_dataset", {"name": "E", "source": {}}, ConfigError, "source"),
        ("rename_dataset", {"dataset": "D", "name": ""}, ConfigError, "name"),
        ("set_split", {"dataset": "D", "validation_size": 0.9}, ConfigError, "validation_size"),
        ("cancel", {"job": "nobody"}, NotFoundError, None),
        ("resume", {}, ConfigError, "job"),
        ("edit_run", {"run": "nobody", "notes": "n"}, NotFoundError, None),
        ("launch_sample", {"x": 1}, ConfigError, "x"),
        ("launch", {"dataset": "D", "learning_rate": True}, ConfigError, "learning_rate"),
        ("launch", {"dataset": "D", "live_metric": "own/nope"}, ConfigError, "live_metric"),
        ("launch", {"dataset": "D", "model": "m" * 5_000}, ConfigError, "model"),
        ("launch", {"dataset": "D", "target_modules": [5]}, ConfigError, "target_modules"),
        ("launch", {"dataset": "D", "name": "one\ntwo"}, ConfigError, "name"),
        ("import_dataset", {"name": "a\x00b", "source": {"path": "/f"}}, ConfigError, "name"),
        ("rename_dataset", {"dataset": "D", "name": "a\nb"}, ConfigError, "name"),
        ("save_recipe", {"name": "a\nb", "steps": [{"step": "normalise"}]}, ConfigError, "name"),
        ("evaluate", {"model": "m", "dataset": "D", "name": "a\u2028b"}, ConfigError, "name"),
        (
            "evaluate",
            {"model": "m", "dataset": "D", "metrics": ["bleu", {"metric": "own", "file": "nope"}]},
            ConfigError,
            "metrics.1.file",
        ),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    unchanged: Desk, name: str, body: dict[str, Any], error: type[TunebenchError], field: str | None
) -> None:
    before = datasets.list_datasets(unchanged.database)
    with pytest.raises(error) as caught:
        unchanged(name, **body)
    if field:
        assert caught.value.field == field
    assert job_queue.recent_jobs(unchanged.database) == []
    assert datasets.list_datasets(unchanged.database) == before
    assert [row.name for row in before] == ["D"]


def test_a_name_is_taken_while_its_import_is_queued(desk: Desk) -> None:
    job_id = desk("import_dataset", name="E", source={"path": "/f"})["job_id"]
    with pytest.raises(ConfigError, match="already"):
        desk("import_dataset", name="E", source={"path": "/g"})
    with pytest.raises(ConfigError, match="still being imported"):
        desk("launch", dataset="E")
    desk.add_dataset()
    with pytest.raises(ConfigError, match="already"):
        desk("rename_dataset", dataset="D", name="E")
    desk("cancel", job=job_id)
    desk("rename_dataset", dataset="D", name="E")
    with pytest.raises(ConfigError, match="already"):
        desk("resume", job=job_id)


def test_a_data_set_is_deleted_with_its_rows_once_no_run_needs_it(desk: Desk) -> None:
    desk.add_dataset()
    desk.add_dataset("Twin")
    run_id = desk("launch", dataset="D", name="My run")["run_id"]
    with pytest.raises(StateError, match="My run"):
        desk("delete_dataset", dataset="D")
    desk("cancel", job="My run")
    desk("delete", job=run_id)
    desk("delete_dataset", dataset="D")
    assert desk.home.rows("f").exists()  # the twin has the same rows
    desk("delete_dataset", dataset="Twin")
    assert not desk.home.rows("f").parent.exists()


def test_the_sample_waits_for_what_it_needs_and_is_prepared_once(desk: Desk) -> None:
    prepared = desk("prepare_sample")["job_ids"]
    assert desk("prepare_sample")["job_ids"] == prepared
    run_id = desk("launch_sample")["run_id"]
    job = desk.job(run_id)
    assert job.after_jobs == prepared
    assert [desk.job(job_id).kind for job_id in prepared] == ["convert", "import"]
    assert desk.job(prepared[1]).config["name"] == SAMPLE_DATASET
    run = runs.get_run(desk.database, run_id)
    assert run.dataset_id == build_dataset_id(prepared[1])
    assert run.data_fingerprint is None
    assert None not in [run.config[key] for key in ("weight_decay", "lora_alpha", "split_seed")]
    assert desk.asked == []


def test_the_sample_is_an_ordinary_launch_where_all_is_there(desk: Desk) -> None:
    desk.add_dataset(SAMPLE_DATASET)
    write_json(_made(desk.home.models / BUNDLED_MODEL) / "config.json", {})
    assert desk("prepare_sample") == {"job_ids": []}
    run_id = desk("launch_sample")["run_id"]
    assert len(desk.asked) == 1
    assert desk.job(run_id).after_jobs == []


def test_cancel_ends_a_queued_job_and_asks_an_active_one(desk: Desk) -> None:
    queued, active = (desk("import_dataset", name=n, source={"path": "/f"})["job_id"] for n in "EF")
    with desk.database.transaction() as tx:
        job_queue.claim(tx, active, "cpu", desk.now)
    desk("cancel", job=queued)
    desk("cancel", job=active)
    assert desk.job(queued).status == "cancelled"
    assert desk.job(active).status == "preparing"
    assert desk.job(active).cancel_requested_at
    with pytest.raises(StateError, match="already"):
        desk("cancel", job=queued)


def test_resume_keeps_the_folder_and_sets_the_ended_attempt_aside(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", name="R")["run_id"]
    folder = JobDir(_made(desk.home.jobs / run_id))
    _made(folder.checkpoints)
    write_json(folder.worker, {"pid": 1, "started": 1.0})
    write_json(folder.result, {"status": "failed"})
    desk.end(run_id, "failed")
    desk("resume", job="R")
    job = desk.job(run_id)
    assert (job.status, job.attempt, job.pid, job.error) == ("queued", 2, None, None)
    assert not folder.result.exists()
    assert not folder.worker.exists()
    assert folder.checkpoints.exists()
    with pytest.raises(StateError, match="queued"):
        desk("resume", job="R")


def test_resuming_a_run_resumes_what_it_waited_for(desk: Desk) -> None:
    run_id = desk("launch_sample")["run_id"]
    model, rows = desk.job(run_id).after_jobs
    desk.end(model, "failed")
    desk.end(rows, "finished")
    with desk.database.transaction() as tx:
        job_queue.finish(tx, run_id, "failed", desk.now)
    desk("resume", job=run_id)
    assert [desk.job(job_id).status for job_id in (model, rows, run_id)] == [
        "queued",
        "finished",
        "queued",
    ]


def test_delete_removes_rows_and_folder_of_an_ended_run_alone(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D")["run_id"]
    folder = _made(desk.home.jobs / run_id)
    with pytest.raises(StateError, match="Cancel it first"):
        desk("delete", job=run_id)
    desk("cancel", job=run_id)
    with desk.database.transaction() as tx:
        tx.execute(
            "INSERT INTO metric VALUES (?, 'train/loss', 1, 1.0, ?)", [run_id, job_queue.to_utc(START)]
        )
    desk("delete", job=run_id)
    assert not folder.exists()
    for table in ("job", "run", "metric"):
        assert desk.database.query(f"SELECT * FROM {table}").num_rows == 0
    with pytest.raises(NotFoundError):
        desk("delete", job=run_id)


def test_what_a_queued_run_waits_for_is_not_deleted(desk: Desk) -> None:
    run_id = desk("launch_sample")["run_id"]
    model = desk.job(run_id).after_jobs[0]
    desk.end(model, "failed")
    with pytest.raises(StateError, match="waits for"):
        desk("delete", job=model)


def test_a_run_gets_another_name_and_notes(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", notes="old")["run_id"]
    desk("edit_run", run=run_id, name="New")
    run = runs.get_run(desk.database, "New")
    assert (run.run_id, run.notes) == (run_id, "old")
    assert desk.job(run_id).title == "New"
    with pytest.raises(ConfigError):
        desk("edit_run", run=run_id, name=" ")


def test_runs_are_found_by_text_status_and_newest_name(desk: Desk) -> None:
    desk.add_dataset()
    ids = [desk("launch", dataset="D", name=name)["run_id"] for name in ("Alpha", "Beta", "Beta")]
    desk("cancel", job=ids[0])
    assert sorted(ids) == ids
    assert [run.run_id for run in runs.list_runs(desk.database)] == ids[::-1]
    assert [run.run_id for run in runs.list_runs(desk.database, search="ALPH")] == ids[:1]
    choices = runs.list_run_choices(desk.database, search="beta", statuses=["queued"], limit=1)
    model = runs.get_run(desk.database, ids[2]).model
    assert choices == [
        RunChoice(run_id=ids[2], number=3, name="Beta", model=model, task="sft", status="queued")
    ]
    assert runs.count_runs(desk.database, search="beta", statuses=["queued"]) == 2
    assert runs.list_runs(desk.database, search="100%") == []
    assert runs.status_counts(desk.database) == {"queued": 2, "cancelled": 1}
    assert runs.get_run(desk.database, "Beta").run_id == ids[2]
    assert [run.number for run in runs.get_runs(desk.database, ids[::-1])] == [3, 2, 1]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_a_full_disk_takes_on_no_work_but_can_be_cleared(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.add_dataset()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30 - 2**20, 2**20))
    with pytest.raises(StateError, match="is full: 1 MiB are free"):
        desk("launch", dataset="D")
    with pytest.raises(StateError, match="is full"):
        desk("import_dataset", name="N", source={"path": "/f.csv"})
    assert job_queue.queue(desk.database) == []
    desk("delete_dataset", dataset="D")


def test_a_run_continues_from_one_that_finished_by_its_name_or_id(desk: Desk) -> None:
    desk.add_dataset()
    first = desk("launch", dataset="D", name="First")["run_id"]
    for name, message in (("First", "is queued"), ("Nobody", "There is no run")):
        with pytest.raises(ConfigError, match=message) as caught:
            desk("launch", dataset="D", init_from=name)
        assert caught.value.field == "init_from"
    desk.end(first, "finished")
    for name in ("First", first):
        run_id = desk("launch", dataset="D", init_from=name)["run_id"]
        assert desk.asked[-1]["config"]["init_from"] == first  # a worker knows folders, not names
        assert desk.job(run_id).config["init_from"] == first


@pytest.mark.parametrize("name", ["cancel", "delete", "resume"])
def test_what_changes_a_run_refuses_a_name_that_two_runs_have(desk: Desk, name: str) -> None:
    desk.add_dataset()
    first, second = (desk("launch", dataset="D", name="Twin")["run_id"] for _ in range(2))
    for refused in (lambda: desk(name, job="Twin"), lambda: desk("edit_run", run="Twin", notes="n")):
        with pytest.raises(StateError, match="2 runs are named 'Twin'") as caught:
            refused()
        assert f"newest first: {second}, {first}" in caught.value.message
    assert {desk.job(run).status for run in (first, second)} == {"queued"}
    desk("cancel", job=first)
    assert desk.job(first).status == "cancelled"
    desk("delete", job=first)
    desk("cancel", job="Twin")
    assert desk.job(second).status == "cancelled"


def test_an_own_metric_that_is_there_is_measured(desk: Desk) -> None:
    desk.add_dataset()
    (desk.home.metrics / "mine.py").write_text("def score(prediction):\n    return 1")
    with pytest.raises(ConfigError, match=r"There are mine\.") as caught:
        desk("launch", dataset="D", live_metric="own/nope")
    assert str(desk.home.metrics) in caught.value.message
    assert desk("launch", dataset="D", live_metric="own/mine")["run_id"]
    own = {"metric": "own", "file": "mine"}
    assert desk("evaluate", model="m", dataset="D", metrics=[own])["job_id"]
