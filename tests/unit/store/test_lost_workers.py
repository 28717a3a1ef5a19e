"""`Scheduler.step(now)` where workers die, never come, outlive their engine or are cancelled."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.server import job_outcomes
from engine.server.local_launcher import WorkerExit
from engine.server.scheduler import ANNOUNCE_SECONDS, CANCEL_SECONDS
from engine.worker.process import read_boot_id
from store.core.job_folder import write_json
from store.core.processes import get_process_start
from store.core.schemas import Job
from store.jobs.schemas import OomKillCount
from tests.unit.played import World
from tests.unit.store_samples import row_of


def lose(world: World, code: int | None, log: str = "", **noted: Any) -> dict[str, Any]:
    """The error document of a job whose worker, process 11, ended so."""
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11, **noted)
    world.step()
    world.folder(job_id).log.write_text(log)
    if code is not None:
        world.launcher.exits[job_id] = WorkerExit(11, code)
    world.die(11)
    world.step()
    job = world.job(job_id)
    assert job.status == "lost"
    return job.error


def counted(tmp_path: Path, kills: int) -> OomKillCount:
    path = tmp_path / "memory.events"
    path.write_text(f"low 0\noom 9\noom_kill {kills}\n")
    return {"path": str(path), "count": kills}


def test_a_kill_for_want_of_memory_is_told_from_others_by_what_the_kernel_counted(
    world: World, tmp_path: Path
) -> None:
    before = counted(tmp_path, 3)
    none = lose(world, -9, memory_kills=before)["message"]
    assert "The kernel has killed no process for want of memory" in none
    assert "a memory daemon" in none  # kills before the kernel has to, and is counted nowhere
    counted(tmp_path, 4)
    assert "SIGKILL because memory ran out." in lose(world, -9, memory_kills=before)["message"]
    (tmp_path / "memory.events").unlink()
    assert "may have run out of memory" in lose(world, -9, memory_kills=before)["message"]


def test_kills_that_are_counted_of_the_whole_machine_may_be_of_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counted(tmp_path, 5)
    monkeypatch.setattr(job_outcomes, "MACHINE_COUNTS", tmp_path / "memory.events")
    counted(tmp_path, 6)
    message = lose(world, -9, memory_kills=before)["message"]
    assert "perhaps because memory ran out: since it began the kernel has killed 1 process of this" in message


def test_a_training_that_memory_ran_out_for_is_told_what_takes_less(world: World, tmp_path: Path) -> None:
    before = counted(tmp_path, 0)
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 12, memory_kills=before)
    world.step()
    counted(tmp_path, 1)
    world.launcher.exits[run_id] = WorkerExit(12, -9)
    world.die(12)
    world.step()
    error = world.job(run_id).error
    assert error["change"] == {"gradient_checkpointing": True}
    assert "gradient_checkpointing" in error["fix"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-11, "crashed in native code (SIGSEGV)"),
        (-15, "ended by SIGTERM: by a shutdown of the machine, or by `kill`"),
        (3, "ended with exit code 3"),
        (0, "ended with exit code 0"),
        (-40, "ended by signal 40"),
    ],
)
def test_how_a_worker_ended_is_named(world: World, code: int, words: str) -> None:
    assert words in lose(world, code)["message"]


def test_no_line_of_the_log_that_has_nothing_to_do_with_the_end_is_quoted(world: World) -> None:
    handled = "Traceback (most recent call last):\n  File x\nKeyError: 'a'\nit went on\nloading\n"
    assert lose(world, -9, handled)["traceback"] == ""
    crash = "terminate called after throwing 'std::bad_alloc'\n  what():  std::bad_alloc\n"
    crash += 'Fatal Python error: Aborted\n\nCurrent thread 0x1:\n  File "a.py", line 3 in f\n'
    assert lose(world, -6, handled + crash)["traceback"] == crash.strip()
    raised = 'Traceback (most recent call last):\n  File "b.py", line 1, in g\nOSError: no space\n'
    assert lose(world, 1, handled + raised)["traceback"] == raised.strip()
    earlier = len(crash)
    assert lose(world, -9, crash + "loading\n", log_bytes=earlier)["traceback"] == ""


def test_what_a_lost_run_was_at_and_what_is_kept_of_it(world: World) -> None:
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 12)
    world.emit(run_id, type="status", status="training")
    world.emit(run_id, type="progress", done=1200, total=5000, unit="steps", message="Training")
    world.emit(run_id, type="metrics", step=1234, values={"train/loss": 1.0})
    checkpoint = world.folder(run_id).checkpoints / "step-00001200"
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / "state.json", {})
    (world.folder(run_id).checkpoints / "step-00001250").mkdir()  # was being written
    heard = f"{datetime.fromtimestamp(world.now, UTC):%Y-%m-%d at %H:%M:%S} UTC"
    world.launcher.exits[run_id] = WorkerExit(12, -11)
    world.die(12)
    world.step()
    error = world.job(run_id).error
    assert f"It was last heard from on {heard}, at step 1,234 of 5,000." in error["message"]
    assert "Its last checkpoint is of step 1,200." in error["message"]
    assert error["fix"].endswith("Resume it: it continues from step 1,200.")


@pytest.mark.parametrize("at", [float("nan"), 1e300, float("inf"), -1e300])
def test_an_event_at_no_time_at_all_keeps_no_job_alive(world: World, at: float) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    with open(world.folder(job_id).events, "a", encoding="utf-8") as file:
        file.write(json.dumps({"type": "metrics", "step": 3, "values": {}, "at": at}) + "\n")
    world.launcher.exits[job_id] = WorkerExit(11, -11)
    world.die(11)
    world.step()
    assert world.status(job_id) == "lost"
    assert "It was never heard from." in world.job(job_id).error["message"]


def test_other_folders_beside_the_checkpoints_are_none(world: World) -> None:
    folder = world.folder(world.queue())
    for name in ("step-00000012", "step-00000020.abc", "step-x", "step-"):
        (folder.checkpoints / name).mkdir(parents=True)
        write_json(folder.checkpoints / name / "state.json", {})
    assert job_outcomes.find_checkpoint_step(folder) == 12


def test_a_lost_run_whose_config_is_of_another_version_is_lost(world: World, tmp_path: Path) -> None:
    job = row_of(Job, kind="train", config={"dataset": "d", "old_field": 1}, device="cpu", pid=11)
    folder = world.folder("run-of-before")
    folder.path.mkdir()
    write_json(folder.worker, {"pid": 11, "started": 1.0, "memory_kills": counted(tmp_path, 0)})
    counted(tmp_path, 1)
    ending = job_outcomes.build_lost_ending(job, folder, -9)
    assert ending.error
    assert ending.error["fix"].startswith("Stop other jobs and programs")


def test_words_of_an_earlier_attempt_are_not_the_last_of_this_one(world: World) -> None:
    job_id = world.queue()
    world.emit_before(job_id, type="metrics", step=90, values={"train/loss": 1.0})
    world.now += 3600
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.launcher.exits[job_id] = WorkerExit(11, -11)
    world.die(11)
    world.step()
    assert "It was never heard from." in world.job(job_id).error["message"]


def test_a_restart_of_the_machine_is_told_from_an_end_that_nobody_saw(world: World) -> None:
    mine = {"boot": read_boot_id(), "started": get_process_start(os.getpid())}
    assert "was restarted" in lose(world, None, **mine | {"boot": "another-start"})["message"]
    unseen = lose(world, None, **mine | {"pid": 2**22 + 1})
    assert "while no engine was running" in unseen["message"]
    assert "restarted" not in unseen["message"]


def test_a_worker_of_the_original_of_a_copied_home_is_not_lost_but_elsewhere(world: World) -> None:
    mine = {"boot": read_boot_id(), "started": get_process_start(os.getpid()), "pid": os.getpid()}
    assert "this home folder is a copy" in lose(world, None, **mine)["message"]


def test_a_worker_that_somebody_else_stopped_was_not_cancelled_here(world: World) -> None:
    stopped, cancelled = world.queue(), world.queue(lane="device")
    world.step()
    world.announce(stopped, 11)
    world.announce(cancelled, 12)
    world.step()
    world.cancel(cancelled)
    for job_id in (stopped, cancelled):
        world.result(job_id, status="cancelled")
    world.step()
    assert world.status(stopped) == world.status(cancelled) == "cancelled"
    assert "SIGTERM, and not by Tunebench" in world.job(stopped).error["message"]
    assert world.job(cancelled).error is None


def test_a_halted_worker_is_said_to_be_until_it_goes_on(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.emit(job_id, type="progress", done=1, total=9, unit="rows", message="Reading", eta_seconds=5.0)
    world.step()
    world.launcher.halts.add(11)
    world.step()
    assert "`kill -CONT 11`" in world.job(job_id).progress_message
    assert world.job(job_id).eta_seconds is None
    world.launcher.halts.clear()
    world.step()
    assert world.job(job_id).progress_message == "Reading"


def test_the_next_engine_takes_back_what_the_last_one_said_of_a_halt(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.launcher.halts.add(11)
    world.step()
    world.next_engine()
    world.step()
    assert "`kill -CONT 11`" in world.job(job_id).progress_message
    world.launcher.halts.clear()
    world.step()
    assert world.job(job_id).progress_message is None


def test_the_next_engine_adopts_a_living_worker_and_marks_a_dead_one(world: World) -> None:
    living, dead = world.queue(), world.queue(lane="device")
    world.step()
    world.announce(living, 11)
    world.announce(dead, 12)
    world.step()
    world.die(12)
    world.next_engine()
    world.step(60)
    assert world.status(living) == "preparing"
    assert world.status(dead) == "lost"
    assert "process 12" in world.job(dead).error["message"]
    assert len(world.launcher.started) == 2


def test_another_process_with_the_same_pid_is_not_the_worker(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.die(11)
    world.launcher.living.add((11, 99.0))
    world.step()
    assert world.status(job_id) == "lost"


def test_a_claimed_job_whose_worker_never_came_is_started_by_the_next_engine(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.next_engine()
    world.step()
    assert world.launcher.started == [job_id, job_id]


def test_a_worker_that_never_comes_is_given_up(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.step(ANNOUNCE_SECONDS - 1)
    assert world.status(job_id) == "preparing"
    world.step(2)
    assert world.status(job_id) == "lost"


def test_cancelling_asks_first_and_kills_after_the_grace(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.cancel(job_id)
    world.step()
    world.step(CANCEL_SECONDS - 2)
    assert world.launcher.stopped == [(11, False)]
    world.step(5)
    assert world.launcher.stopped[-1] == (11, True)
    world.die(11)
    world.step()
    assert world.status(job_id) == "cancelled"  # and not lost: the user wanted it to stop


def test_a_result_that_came_while_it_was_being_cancelled_counts(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.cancel(job_id)
    world.result(job_id, status="finished", result={"model": "m"})
    world.die(11)
    world.step()
    assert world.status(job_id) == "finished"
