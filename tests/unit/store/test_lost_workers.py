"""`Scheduler.step(now)` where workers die, never come, outlive their engine or are cancelled."""

from __future__ import annotations

from engine.launchers import Exit
from engine.server.scheduling.scheduler import ANNOUNCE_SECONDS, CANCEL_SECONDS
from tests.unit.played import World


def test_a_worker_without_a_result_is_lost_with_the_reason(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.folder(job_id).log.write_text("loading\nlast words\n")
    world.launcher.exits[job_id] = Exit(11, -9)
    world.die(11)
    world.step()
    job = world.job(job_id)
    assert job["status"] == "lost"
    assert "SIGKILL" in job["error"]["message"]
    assert "out of memory" in job["error"]["message"]
    assert job["error"]["traceback"].endswith("last words")


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
    assert "process 12" in world.job(dead)["error"]["message"]
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
