"""When data is measured without being asked, and what never waits for that."""

from __future__ import annotations

from typing import Any

import pytest

from engine.job_handlers import store_result
from engine.server.job_results import build_dataset_id
from engine.server.profiling import queue_outdated
from store.core.schemas import Job
from store.data import datasets
from store.data.config import CleanConfig, ImportConfig, Source
from store.data.signals import GROUPS
from store.jobs import job_queue
from tests.unit.desk import Desk
from tests.unit.played import World

AUTOMATIC = [name for name, group in GROUPS.items() if group.automatic]
MEASURED = {"options": {}, "row_count": 9, "reused_count": 0, "figures": {}, "seconds": 1.0}
NOTHING_CHANGED = {"kept": 9, "changed": 0, "dropped": 0, "added": 0, "steps": []}


def imported(desk: Desk, fingerprint: str = "f", **more: Any) -> dict[str, Any]:
    """The result of a job that read 9 rows."""
    rows = desk.home.rows(fingerprint)
    rows.parent.mkdir(exist_ok=True)
    rows.write_bytes(b"rows")
    return {
        **{"fingerprint": fingerprint, "kind": "chat", "format": "messages", "columns": {}, "row_count": 9},
        **{"skipped_count": 0, "duplicate_count": 0, "source_bytes": 1, "stats": {}, **more},
    }


def ended(desk: Desk, job_id: str, result: dict[str, Any]) -> None:
    """The job is over, with what its result brings, as the scheduler ends it."""
    with desk.database.transaction() as tx:
        job_queue.claim(tx, job_id, "cpu", desk.now)
        job_queue.finish(tx, job_id, "finished", desk.now, result=result)
        store_result(tx, desk.home, job_queue.get_job(tx, job_id), result, desk.clock())


def profiles(desk: Desk) -> list[Job]:
    return [job for job in job_queue.queue(desk.database) if job.kind == "profile"]


def queue_import(desk: Desk, name: str) -> str:
    config = ImportConfig(name=name, source=Source(builtin="python"))
    return str(desk("import_dataset", **config.model_dump(exclude_none=True))["job_id"])


def test_an_import_brings_its_measuring_with_it_in_order(desk: Desk) -> None:
    job_id = queue_import(desk, "Sums")
    assert profiles(desk) == []
    ended(desk, job_id, imported(desk))
    queued = profiles(desk)
    assert [job.config["group"] for job in queued] == AUTOMATIC
    assert {job.config["dataset"] for job in queued} == {build_dataset_id(job_id)}
    assert queued[0].title == "Measure texts of Sums"
    again = desk("profile", dataset="Sums", group=AUTOMATIC[0])  # a click while it waits makes no second job
    assert again["job_id"] == queued[0].job_id


def test_rows_that_were_measured_are_not_measured_again(desk: Desk) -> None:
    with desk.database.transaction() as tx:
        datasets.record_signals(tx, "f", AUTOMATIC[0], MEASURED, job_queue.to_utc(desk.now))
    ended(desk, queue_import(desk, "Twin"), imported(desk))
    assert [job.config["group"] for job in profiles(desk)] == AUTOMATIC[1:]


def test_what_was_measured_in_an_older_way_is_measured_anew_at_a_start(desk: Desk) -> None:
    desk.add_dataset("Sums", "f")
    desk.add_dataset("Twin", "g")
    with desk.database.transaction() as tx:
        for name in AUTOMATIC:
            datasets.record_signals(tx, "f", name, MEASURED, job_queue.to_utc(desk.now))
        assert queue_outdated(tx, desk.now) == []
        tx.execute("UPDATE signal SET version = 1 WHERE name = 'duplicates'")
        assert datasets.signals(tx, "f")["duplicates"].outdated
        assert len(queue_outdated(tx, desk.now)) == 1
    assert [(job.config["group"], job.title) for job in profiles(desk)] == [
        ("duplicates", "Measure duplicates of Sums")
    ]


def test_a_new_version_is_measured_too(desk: Desk) -> None:
    old = desk.add_dataset("Sums", "old")
    config = CleanConfig.parse({"dataset": old, "recipe": {"steps": [{"step": "normalise"}]}})
    job_id = desk("clean", **config.model_dump(exclude_none=True))["job_id"]
    ended(desk, job_id, imported(desk, "new", fates=NOTHING_CHANGED))
    version = datasets.get_dataset(desk.database, "Sums v2").dataset_id
    assert [(job.config["group"], job.config["dataset"]) for job in profiles(desk)] == [
        (name, version) for name in AUTOMATIC
    ]


def test_a_data_set_is_deleted_over_its_measuring(desk: Desk) -> None:
    ended(desk, queue_import(desk, "Sums"), imported(desk))
    running, *waiting = (job.job_id for job in profiles(desk))
    with desk.database.transaction() as tx:
        job_queue.claim(tx, running, "cpu", desk.now)
    desk("delete_dataset", dataset="Sums")
    assert {desk.job(job_id).status for job_id in waiting} == {"cancelled"}
    assert desk.job(running).cancel_requested_at is not None
    with desk.database.transaction() as tx:  # it may be done before it notices
        store_result(tx, desk.home, desk.job(running), MEASURED, desk.now)
    assert datasets.signals(desk.database, "f") == {}


def test_measuring_starts_last_and_holds_up_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.server.job_specs.datasets.work_order", lambda db, config: {})
    first, second = world.queue("profile"), world.queue("profile")
    reading = world.queue("import")
    world.step()
    assert world.launcher.started == [reading]  # though it came last
    world.announce(reading, 1)
    world.step()
    assert world.status(first) == "queued"  # nor beside it
    world.result(reading, status="cancelled")
    world.step()
    assert world.status(first) == "preparing"
    assert world.status(second) == "queued"  # one at a time
    world.announce(first, 2)
    late = world.queue("convert")
    world.step()
    assert world.status(late) == "preparing"  # beside the measuring
    world.announce(late, 3)
    world.result(first, status="cancelled")
    world.step()
    assert world.status(second) == "queued"
    world.result(late, status="cancelled")
    world.step()
    assert world.status(second) == "preparing"
