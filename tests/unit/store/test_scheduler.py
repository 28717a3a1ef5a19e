"""`Scheduler.step(now)` with a launcher that starts nothing and a time that the test sets: which job starts
when, and what its end brings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.server import scheduler
from store.core.documents import parse_document
from store.core.job_folder import read_json
from store.data import datasets
from store.db.database import Transaction
from store.db.records import to_json
from store.evaluation.verdict_schemas import Verdict
from store.http.machine import GIB
from store.jobs import job_queue
from store.jobs.event_ingest import TORN
from store.runs import runs
from store.runs.schemas import Prediction
from tests.unit.played import World
from tests.unit.store_samples import row_of


def test_a_lane_takes_one_job_at_a_time_oldest_first(world: World) -> None:
    first, second, device = world.queue(), world.queue(), world.queue(lane="device")
    world.step()
    assert world.launcher.started == [first, device]
    assert [job.job_id for job in job_queue.queue(world.database)] == [first, device, second]
    world.announce(first, 11)
    world.step()
    world.result(first, status="finished", result={"model": "m"})
    world.step()
    assert world.status(first) == "finished"
    assert world.status(second) == "preparing"
    assert world.launcher.started == [first, device, second]


def test_each_device_has_one_job(tmp_path: Path) -> None:
    world = World(tmp_path / "home", ("cuda:0", "cuda:1"))
    ids = [world.queue(lane="device") for _ in range(3)]
    world.step()
    assert [world.job(job_id).device for job_id in ids] == ["cuda:0", "cuda:1", None]
    spec = read_json(world.folder(ids[1]).config)
    assert spec["device"] == "cuda:1"
    assert spec["attempt"] == 1
    assert spec["resume"] is False
    world.database.close()


def test_an_export_is_read_beside_a_training_and_holds_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total=16 * GIB, available=15 * GIB)
    monkeypatch.setattr(scheduler.psutil, "virtual_memory", lambda: memory)
    training, export, other = (
        world.queue(lane="device"),
        world.queue(lane="beside"),
        world.queue(lane="beside"),
    )
    world.step()
    assert world.launcher.started == [training, export]  # one beside at a time
    world.announce(training, 11)
    world.result(training, status="finished", result={"model": "m"})
    world.step()
    later = world.queue(lane="device")
    world.step()
    assert world.status(later) == "preparing"
    assert world.status(other) == "queued"


def test_what_works_beside_a_training_leaves_the_memory_that_it_will_need(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models of a check and the training together would have had the training killed."""
    memory = SimpleNamespace(total=16 * GIB, available=13 * GIB)
    monkeypatch.setattr(scheduler.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(scheduler.runs, "get_max_memory_gib", lambda db, run_id: 6.0)
    training, export = world.queue(lane="device"), world.queue(lane="beside")
    world.step()
    assert world.launcher.started == [training]  # 13 less 6 is under half of 16
    memory.available = 15 * GIB
    world.step()
    assert world.launcher.started == [training, export]


def test_beside_takes_an_accelerator_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total=16 * GIB, available=15 * GIB)
    monkeypatch.setattr(scheduler.psutil, "virtual_memory", lambda: memory)
    world = World(tmp_path / "home", ("cuda:0",))
    first = world.queue(lane="beside")
    training = world.queue(lane="device")
    world.step()
    assert (world.job(training).device, world.job(first).device) == ("cuda:0", "cpu")
    world.database.close()
    other = World(tmp_path / "other", ("cuda:0",))
    alone = other.queue(lane="beside")
    other.step()
    waits = other.queue(lane="device")
    other.step()
    assert (other.job(alone).device, other.status(waits)) == ("cuda:0", "queued")
    other.database.close()


def test_the_order_of_a_run_names_rows_and_split(world: World) -> None:
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    spec = read_json(world.folder(run_id).config)
    assert spec["run_id"] == run_id
    assert spec["dataset"] == {"dataset_id": "data-1", "name": "D", "kind": "chat", "fingerprint": "f"}
    sizes = {"split_seed": 7, "validation_size": 0.2, "test_size": 0.1}
    assert spec["split"] == {**sizes, "split_by": "random", "split_column": None}


def test_a_job_waits_for_others_and_does_not_hold_up_the_queue(world: World) -> None:
    model = world.queue()
    waiting, free = world.queue(lane="device", after=(model,)), world.queue(lane="device")
    world.step()
    assert world.launcher.started == [model, free]
    world.announce(model, 11)
    world.announce(free, 12)
    world.step()
    for job_id in (model, free):
        world.result(job_id, status="finished", result={})
    world.step()
    assert world.status(waiting) == "preparing"


def test_a_step_asks_the_store_as_often_however_long_the_queue_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.queue()
    for _ in range(3):
        world.queue(after=(first,))
    world.step()
    world.announce(first, 11)
    world.step()
    asked: list[str] = []
    query = Transaction.query

    def counted(tx: Transaction, sql: str, *more: Any) -> pa.Table:
        asked.append(sql)
        return query(tx, sql, *more)

    monkeypatch.setattr(Transaction, "query", counted)
    world.step()
    short = len(asked)
    for place in range(60):
        world.queue(after=(first,) if place % 2 else ())
    asked.clear()
    world.step()
    assert len(asked) == short


def test_what_waits_for_a_job_that_waits_in_vain_fails_in_the_same_step(world: World) -> None:
    first = world.queue()
    second = world.queue(after=(first,))
    third = world.queue(after=(second,))
    with world.database.transaction() as tx:
        job_queue.stop(tx, job_queue.get_job(tx, first), world.now)
    world.step()
    assert (world.status(second), world.status(third)) == ("failed", "failed")
    assert "It waited for “Job 2”" in world.job(third).error["message"]


def test_a_report_of_garbage_holds_up_no_other_job_and_is_told_of_once(world: World) -> None:
    talkative = world.queue(lane="device")
    world.step()
    world.announce(talkative, 11)
    world.step()
    world.folder(talkative).events.write_bytes(b"garbage\n" * 500_000)
    world.die(11)
    other = world.queue()
    world.scheduler.step()
    assert world.launcher.started[-1] == other
    assert world.status(talkative) == "preparing"  # its report is not taken to its end yet
    world.step()  # until nothing is left
    assert world.status(talkative) == "lost"
    size = world.folder(talkative).events.stat().st_size
    assert world.job(talkative).event_offset == size
    alerts = world.database.query("SELECT message FROM alert WHERE job_id = ?", [talkative])
    assert alerts["message"].to_pylist() == [TORN]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_fails_with_the_cause_of_the_one_it_waited_for(world: World, status: str) -> None:
    model = world.queue()
    waiting = world.queue(lane="device", after=(model,))
    world.step()
    world.announce(model, 11)
    world.result(model, status=status, error={"message": "No such package."})
    world.step()
    assert world.status(model) == status
    assert world.status(waiting) == "failed"
    message = world.job(waiting).error["message"]
    assert "Job 1" in message
    assert "No such package." in message


def stored_verdict(**fields: Any) -> dict[str, Any]:
    """As a worker writes it."""
    return json.loads(to_json(row_of(Verdict, **fields)))


def test_events_are_taken_to_their_end_before_a_job_ends(world: World) -> None:
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 11)
    filler = "x" * 3000
    verdict = stored_verdict(state="better")
    for step in range(400):  # more than one reading takes
        world.emit(run_id, type="metrics", step=step, values={"train/loss": 1.0}, filler=filler)
    world.result(run_id, status="finished", result={"verdict": verdict})
    world.scheduler.step(world.now)
    assert world.status(run_id) == "finished"
    count = world.database.query("SELECT count(*), count(DISTINCT step) FROM metric").to_pylist()[0]
    assert list(count.values()) == [400, 400]
    assert runs.get_run(world.database, run_id).verdict == parse_document(Verdict, verdict)


def test_a_verdict_without_a_gain_is_kept_with_its_samples(world: World) -> None:
    """The tuned loss is not a number: the run has finished all the same, and says what came of it."""
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 11)
    row = {"row_id": 3, "split": "test", "prompt": "p", "reference": "r", "base": "b", "tuned": "t"}
    pq.write_table(pa.Table.from_pylist([row]), world.folder(run_id).predictions)
    world.folder(run_id).checkpoints.mkdir()
    world.result(run_id, status="finished", result={"verdict": stored_verdict(state="worse")})
    world.step()
    assert world.status(run_id) == "finished"
    assert runs.predictions(world.database, run_id) == [Prediction(run_id=run_id, **row)]
    assert not world.folder(run_id).checkpoints.exists()  # a finished run is never resumed


def test_a_folder_that_cannot_be_read_holds_up_no_other_job(world: World) -> None:
    broken = world.queue()
    world.step()
    world.announce(broken, 11)
    world.folder(broken).events.mkdir()  # reading it raises IsADirectoryError
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    assert world.status(run_id) == "preparing"


def test_a_result_that_cannot_be_stored_fails_its_job_alone(world: World) -> None:
    bad, good = world.queue(kind="import"), world.queue(lane="device")
    world.step()
    world.announce(bad, 11)
    world.announce(good, 12)
    world.result(bad, status="finished", result={"nonsense": 1})
    world.result(good, status="finished", result={})
    world.step()
    assert world.status(bad) == "failed"
    assert world.status(good) == "finished"
    assert not datasets.list_datasets(world.database)


def test_a_run_whose_data_set_is_gone_fails_before_it_starts(world: World) -> None:
    run_id = world.queue_run()
    world.step()
    assert world.status(run_id) == "failed"
    assert "data-1" in world.job(run_id).error["message"]
    assert world.launcher.started == []
