"""The real launcher: forks of the zygote and new processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.server import local_launcher
from engine.server.local_launcher import LocalLauncher, Worker, build_worker_environment
from engine.server.sync_jobs import QueryRunner
from store.core.errors import DataError, NotFoundError, TunebenchError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.processes import acquire_lock, get_process_start
from store.core.rights import OWNER
from store.core.schemas import Person

SECONDS = 90


def anything(name: str, body: object, person: Person) -> None:
    """Lets everybody ask for everything."""


def until(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    (home.uploads / "pairs.csv").write_text("question,answer\nWhat?,This.\nWho?,She.\n")
    return home


@pytest.fixture(scope="module")
def forking() -> Iterator[LocalLauncher]:
    launcher = LocalLauncher()
    yield launcher
    launcher.close()


@pytest.fixture
def fresh() -> LocalLauncher:
    return LocalLauncher(preload=False)


def zygote_of(launcher: LocalLauncher) -> psutil.Process:
    assert launcher._zygote is not None
    return psutil.Process(launcher._zygote.pid)


INSPECT = {"source": {"upload": "pairs.csv"}}


def test_an_ask_is_answered_by_a_fork_once_there_is_one_to_fork(forking: LocalLauncher, home: Home) -> None:
    asks = QueryRunner(forking, home, "cpu", anything, seconds=SECONDS)
    answer = asks.run("inspect", INSPECT)  # by a new process: the imports are still under way
    assert answer["format"] == "question_answer"
    until(lambda: forking._ready)
    assert asks.run("inspect", INSPECT) == answer
    assert list(home.asks.iterdir()) == []
    assert forking._fresh == {}


def test_an_error_comes_back_as_itself_and_leaves_nothing(forking: LocalLauncher, home: Home) -> None:
    asks = QueryRunner(forking, home, "cpu", anything, seconds=SECONDS)
    with pytest.raises(DataError, match="nothing here"):
        asks.run("inspect", {"source": {"path": "/nothing here.csv"}})
    with pytest.raises(NotFoundError, match="inspect, split, preview"):
        asks.run("train", {})
    assert list(home.asks.iterdir()) == []


def test_asks_are_answered_side_by_side(forking: LocalLauncher, home: Home) -> None:
    asks = QueryRunner(forking, home, "cpu", anything, seconds=SECONDS)

    async def many() -> list[dict[str, Any]]:
        return await asyncio.gather(*(asks("inspect", INSPECT, OWNER) for _ in range(4)))

    assert [answer["format"] for answer in asyncio.run(many())] == ["question_answer"] * 4


def test_an_ask_without_an_answer_ends_in_time(home: Home) -> None:
    asks = QueryRunner(LocalLauncher(preload=False, command=["sleep"]), home, "cpu", anything, seconds=0.2)
    with pytest.raises(TunebenchError, match=r"not answered|ended \(exit code"):
        asks.run("inspect", INSPECT)
    assert list(home.asks.iterdir()) == []


def test_folders_of_asks_that_an_engine_left_are_removed(fresh: LocalLauncher, home: Home) -> None:
    (home.asks / "ask-old").mkdir()
    QueryRunner(fresh, home, "cpu", anything).remove_stale()
    assert list(home.asks.iterdir()) == []


def order(home: Home, name: str) -> JobDir:
    """A job that imports the pairs."""
    folder = JobDir(home.jobs / name)
    folder.path.mkdir()
    config = {"name": "Pairs", **INSPECT}
    rest = {"home": str(home.path), "device": "cpu", "attempt": 1, "resume": False, "config": config}
    write_json(folder.config, {"job_id": name, "kind": "import", **rest})
    return folder


@pytest.mark.parametrize("way", ["forking", "fresh"])
def test_a_worker_leads_its_own_session_and_its_end_is_seen(
    way: str, home: Home, request: pytest.FixtureRequest
) -> None:
    launcher: LocalLauncher = request.getfixturevalue(way)
    folder = order(home, "job-1")
    until(lambda: launcher._ready or way == "fresh")
    launcher.start(folder.path, "import")
    seen = until(lambda: launcher.last_exit(folder.path))
    record = read_json(folder.worker)
    worker = Worker(folder.path, record["pid"], record["started"])
    assert seen == (worker.pid, 0)
    assert read_json(folder.result)["result"]["row_count"] == 2
    assert not launcher.alive(worker)


TRAIN_IN_A_FORK = """
import os
from engine.server import zygote
assert zygote.preload() == []
pid = os.fork()
if pid == 0:
    import torch
    model = torch.nn.Linear(512, 512)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        model(torch.randn(256, 512)).square().mean().backward()
        optimizer.step()
    threads = len(os.listdir("/proc/self/task"))
    os._exit(0 if torch.get_num_threads() == 2 and threads >= 2 else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
raise SystemExit(code)
"""


def test_forks_train_with_several_threads() -> None:
    """OpenMP hangs in a fork of a process that ran a parallel region: no preloaded module may do so."""
    environment = {**build_worker_environment(), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", TRAIN_IN_A_FORK], env=environment, timeout=SECONDS, check=True)


POOL_OF_A_FORK = """
import os
import torch
from engine.worker import process
from engine.server import zygote
threads, calls = torch.get_num_threads(), []
torch.set_num_threads(1)
torch.set_num_threads(threads)
torch.set_num_threads = calls.append
process.main = lambda arguments: 0 if calls == [threads] else 1
code = os.waitstatus_to_exitcode(os.waitpid(zygote.fork("job"), 0)[1])
raise SystemExit(code)
"""


def test_a_fork_replaces_the_pool_of_its_parent_before_its_job_has_threads() -> None:
    """Torch does so without a lock when a pool is first asked for: two threads at once may find none."""
    job = [sys.executable, "-c", POOL_OF_A_FORK]
    subprocess.run(job, env=build_worker_environment(), timeout=SECONDS, check=True)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """This process as the worker of a folder."""
    with acquire_lock(JobDir(tmp_path).lock) or nullcontext():
        yield Worker(tmp_path, os.getpid(), get_process_start(os.getpid()))


def test_a_process_is_known_by_its_start_too(fresh: LocalLauncher, worker: Worker) -> None:
    assert fresh.alive(worker)
    other = worker._replace(started=worker.started - 0.01)
    assert not fresh.alive(other)
    fresh.stop(other, force=True)  # this test goes on: it was not signalled
    assert not fresh.alive(worker._replace(pid=2**22 + 1, started=0.0))


def test_a_process_is_known_by_its_folder_too(fresh: LocalLauncher, worker: Worker) -> None:
    """A copied home folder has the same records of the same living processes."""
    copy = worker._replace(folder=shutil.copytree(worker.folder, worker.folder / "copy"))
    assert not fresh.alive(copy)
    fresh.stop(copy, force=True)  # this test goes on
    assert fresh.alive(worker)


def test_asks_of_a_copied_folder_leave_the_originals_workers_alone(fresh: LocalLauncher, home: Home) -> None:
    folder = JobDir(home.asks / "ask-1")
    folder.path.mkdir()
    write_json(folder.worker, {"pid": os.getpid(), "started": get_process_start(os.getpid())})
    with acquire_lock(folder.lock) or nullcontext():
        copy = Home(shutil.copytree(home.path, home.path.with_name("copy")))
        QueryRunner(fresh, copy, "cpu", anything).remove_stale()  # this test goes on
    assert list(copy.asks.iterdir()) == []
    assert folder.worker.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a start is only known by the clock")
def test_a_worker_outlives_a_clock_that_is_set(
    fresh: LocalLauncher, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, boot = psutil.Process().create_time(), psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600)
    assert psutil.Process().create_time() > before + 3000  # what the clock does to the time of its start
    assert fresh.alive(worker)


def test_jobs_of_a_dead_zygote_start_all_the_same(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    launcher = LocalLauncher()
    folder = order(home, "job-1")
    launcher.start(folder.path, "train")  # ordered from the zygote
    zygote_of(launcher).kill()  # before it was ready: another would only die again
    until(lambda: launcher.last_exit(folder.path))
    assert read_json(folder.result)["status"] == "finished"
    assert "new process" in caplog.text
    launcher.close()


def test_a_zygote_that_still_imports_ends_with_its_engine() -> None:
    launcher = LocalLauncher()
    zygote = zygote_of(launcher)
    assert not launcher._ready
    launcher.close()
    psutil.wait_procs([zygote], timeout=SECONDS)
    assert not launcher._ready  # and was not waited for


def test_a_zygote_that_had_lived_is_replaced_and_ends_with_its_engine(
    monkeypatch: pytest.MonkeyPatch, home: Home
) -> None:
    monkeypatch.setattr(local_launcher, "SHORT_LIFE", 0.0)
    launcher = LocalLauncher()
    asks = QueryRunner(launcher, home, "cpu", anything, seconds=SECONDS)
    until(lambda: launcher._ready)
    first = zygote_of(launcher)
    first.kill()
    until(lambda: launcher._zygote is not None and launcher._zygote.pid != first.pid)
    assert asks.run("inspect", INSPECT)["format"] == "question_answer"
    second = zygote_of(launcher)
    launcher.close()
    psutil.wait_procs([second], timeout=SECONDS)
    assert not second.is_running()
