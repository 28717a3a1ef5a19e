"""What a job leaves half-made is removed by the scheduler however it ends, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.commands import Commands
from engine.server import scheduler
from engine.server.file_removal import remove_noted, remove_stale_held
from store.core.errors import StateError
from store.core.job_folder import write_json
from store.core.rights import OWNER
from store.data import datasets
from store.jobs import job_queue
from tests.unit.played import World

ENDS = [
    ("lost", {}),
    ("failed", {"error": {"message": "no"}}),
    ("cancelled", {}),
    ("finished", {"result": {}}),
]


def leave(world: World, job_id: str, pid: int, fingerprint: str) -> list[Path]:
    """What a worker leaves that is killed after it published a data set, half-made things beside it."""
    folder = world.folder(job_id)
    left = [
        folder.temporary / "passing" / "pass-1.parquet",
        folder.path / f".text.parquet.{pid}",
        world.home.cache / "embeddings" / f".f-v1.npy.{pid}",
        world.home.datasets / fingerprint / "rows.parquet",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    write_json(folder.published, {"fingerprint": fingerprint})
    return left


@pytest.mark.parametrize(("status", "more"), ENDS)
@pytest.mark.parametrize("kind", ["import", "clean"])
def test_what_a_job_leaves_half_made_is_removed_however_it_ends(
    world: World, kind: str, status: str, more: dict[str, Any]
) -> None:
    world.add_dataset()
    job_id = world.queue(kind=kind)
    with world.database.transaction() as tx:
        job_queue.update(tx, job_id, config={"dataset": "data-1", "recipe": {"steps": []}})
    world.step()
    world.announce(job_id, 11)
    world.step()
    left = leave(world, job_id, 11, "made")
    if status != "lost":
        world.result(job_id, status=status, **more)
    world.die(11)
    world.next_engine()
    world.step()
    assert world.status(job_id) == ("failed" if status == "finished" else status)  # its result is nonsense
    assert not [path for path in left if path.exists()]
    assert not (world.home.datasets / "made").exists()
    assert not world.folder(job_id).temporary.exists()


def test_rows_that_a_data_set_has_are_not_removed_with_a_lost_job(world: World) -> None:
    world.add_dataset()
    job_id = world.queue(kind="import")
    world.step()
    world.announce(job_id, 11)
    world.step()
    *half, whole = leave(world, job_id, 11, "f")
    world.die(11)
    world.step()
    assert world.status(job_id) == "lost"
    assert whole.exists()
    assert not any(path.exists() for path in half)


@pytest.mark.parametrize("status", ["lost", "finished"])
def test_a_sidecar_that_nobody_takes_does_not_stay_in_the_folder_of_its_job(
    world: World, status: str
) -> None:
    """Its worker was killed when it was written; or its data set was deleted while it was measured."""
    world.add_dataset()
    job_id = world.queue(kind="profile")
    with world.database.transaction() as tx:
        job_queue.update(tx, job_id, config={"dataset": "data-1", "group": "text"})
    world.step()
    with world.database.transaction() as tx:
        datasets.delete_dataset(tx, "data-1")
    world.announce(job_id, 11)
    sidecar = world.folder(job_id).path / "text.parquet"
    sidecar.write_bytes(b"rows")
    if status == "finished":
        world.result(job_id, status="finished", result={})
    world.die(11)
    world.step()
    assert world.status(job_id) == status
    assert not sidecar.exists()


@pytest.mark.feature("rating", "monitoring")
@pytest.mark.parametrize(("status", "more"), ENDS)
def test_logged_texts_go_with_the_end_of_a_job(world: World, status: str, more: dict[str, Any]) -> None:
    """A log is kept for its days, and what a judge or a round was given of it no longer."""
    for place, kind in enumerate(("judge_requests", "round"), start=11):
        job_id = world.queue(kind=kind)
        config = {"endpoint": "e", "start": "2026-01-01", "end": "2026-01-02"}
        with world.database.transaction() as tx:
            job_queue.claim(tx, job_id, "cpu", world.now)
            job_queue.update(tx, job_id, config=config | {"round": {"requests": config}})
        folder = world.folder(job_id)
        folder.held.mkdir(parents=True)
        world.announce(job_id, place)
        texts = [folder.path / "requests.parquet", folder.held / "requests.parquet"][place - 11]
        texts.write_bytes(b"secret")
        if status != "lost":
            world.result(job_id, status=status, **more)
        world.die(place)
        world.step()
        assert not texts.exists()


@pytest.mark.feature("rating")
def test_a_round_of_requests_that_was_cancelled_holds_none(world: World) -> None:
    commands = Commands(world.database, world.home, _no_ask, clock=lambda: world.now).table()
    held = []
    for early in (True, False):
        job_id = world.queue(kind="round")
        with world.database.transaction() as tx:
            job_queue.update(tx, job_id, config={"round": {"name": "R", "requests": {"endpoint": "e"}}})
        held.append(world.folder(job_id).held)
        held[-1].mkdir(parents=True)
        if early:
            commands["cancel"]({"job": job_id}, OWNER)
            with pytest.raises(StateError, match="were removed"):
                commands["resume"]({"job": job_id}, OWNER)
        else:  # killed before it could remove them
            with world.database.transaction() as tx:
                job_queue.stop(tx, job_queue.get_job(tx, job_id), world.now)
            remove_stale_held(world.database, world.home)
    assert not any(path.exists() for path in held)


def _delete(world: World, name: str, **body: str) -> None:
    Commands(world.database, world.home, _no_ask, clock=lambda: world.now).table()[name](body, OWNER)


def _killed(*_: object, **__: object) -> None:
    raise RuntimeError("killed")


def test_files_of_what_was_deleted_go_at_the_next_start_where_the_engine_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_dataset()
    job_id = world.queue()
    _delete(world, "cancel", job=job_id)
    rows, log = world.home.rows("f"), world.folder(job_id).log
    for path in (rows, log):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"secret")
    monkeypatch.setattr(shutil, "rmtree", _killed)
    for name, body in (("delete_dataset", {"dataset": "D"}), ("delete", {"job": job_id})):
        with pytest.raises(RuntimeError, match="killed"):
            _delete(world, name, **body)
    monkeypatch.undo()
    assert rows.exists()
    remove_noted(world.database, world.home)  # as the next engine does at its start
    assert not rows.parent.exists()
    assert not log.parent.exists()
    assert job_queue.list_noted_removals(world.database) == []


def test_rows_that_are_imported_again_meanwhile_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_dataset()
    monkeypatch.setattr(shutil, "rmtree", _killed)
    world.home.rows("f").parent.mkdir()
    world.home.rows("f").write_bytes(b"rows")
    with pytest.raises(RuntimeError, match="killed"):
        _delete(world, "delete_dataset", dataset="D")
    monkeypatch.undo()
    job_id = world.queue(kind="import")
    world.folder(job_id).path.mkdir()
    write_json(world.folder(job_id).published, {"fingerprint": "f"})
    remove_noted(world.database, world.home)
    assert world.home.rows("f").exists()
    assert job_queue.list_noted_removals(world.database) == []


def test_checkpoints_go_though_the_engine_was_killed_once_the_result_was_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    weights = world.folder(job_id).checkpoints / "step-1" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    world.result(job_id, status="finished", result={})
    world.die(11)
    monkeypatch.setattr(scheduler, "remove_noted", _killed)
    world.step()
    monkeypatch.undo()
    assert world.status(job_id) == "finished"
    remove_noted(world.database, world.home)
    assert not world.folder(job_id).checkpoints.exists()


@pytest.mark.feature("registry")
def test_a_lost_registering_leaves_no_copy_of_the_model(world: World) -> None:
    job_id = world.queue(kind="register")
    world.step()
    world.announce(job_id, 11)
    world.step()
    made = world.folder(job_id).version / "model.safetensors"
    made.parent.mkdir()
    made.write_bytes(b"weights")
    world.die(11)
    world.step()
    assert world.status(job_id) == "lost"
    assert not made.parent.exists()


def _no_ask(name: str, body: Any) -> Any:
    raise AssertionError(name)
