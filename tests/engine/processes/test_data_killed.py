"""Engine or worker killed with -9 while data is measured or cleaned: nothing half-made, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.core.errors import StateError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.data import dataset_versions, datasets
from store.http.client import Client
from store.jobs import job_queue
from tests.engine.processes.test_engine_process import start, wait_until_ready

ROWS = 6_000  # enough for seconds of work
SECONDS = 90
RECIPE = [{"step": "redact"}, {"step": "drop_duplicates", "kind": "near"}]


class Lab:
    """A home folder with one data set, engines over it one after the other, and what the test waits for."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.engine = self.next_engine()
        file = path.parent / "rows.jsonl"
        answer = "An answer of some length that says 12 Main Street and a.b@example.com more than once. " * 3
        with open(file, "w") as out:
            for i in range(ROWS):
                out.write(json.dumps({"prompt": f"Q{i}?", "completion": f"{i} {answer}"}) + "\n")
        job_id = self.client.command("import_dataset", {"name": "D", "source": {"path": str(file)}})["job_id"]
        self.ended(job_id, "finished")
        self.dataset = datasets.get_dataset(self.client, "D")
        for job in job_queue.with_status(
            self.client, ALIVE
        ):  # what is measured without being asked is in the way
            self.client.command("cancel", {"job": job.job_id})
        self.until(lambda: not job_queue.with_status(self.client, ALIVE))
        self.before = self.files()

    def next_engine(self) -> subprocess.Popen[str]:
        self.engine = start(self.home.path)
        self.client: Client = wait_until_ready(self.home.path, self.engine)
        return self.engine

    def kill_engine(self) -> None:
        self.engine.kill()
        self.engine.wait()

    def until(self, condition: Callable[[], Any], every: float = 0.05) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (result := condition()):
            assert time.monotonic() < deadline
            time.sleep(every)
        return result

    def ended(self, job_id: str, status: str) -> Job:
        job = self.until(
            lambda: (j := job_queue.get_job(self.client, job_id)) and j.status not in ALIVE and j
        )
        assert job.status == status, job.error
        return job

    def working(self, job_id: str) -> int:
        """The pid of the job's worker, once it has told how far it is."""
        folder = JobDir(self.home.jobs / job_id)
        self.until(lambda: folder.events.exists() and b'"progress"' in folder.events.read_bytes(), every=0.01)
        return int(read_json(folder.worker)["pid"])

    def files(self) -> set[str]:
        """All that lies in the data sets' folder."""
        return {str(path.relative_to(self.home.datasets)) for path in self.home.datasets.rglob("*")}

    def left(self, job_id: str) -> set[str]:
        """What lies in the folder of an ended job."""
        return {path.name for path in (self.home.jobs / job_id).iterdir()}

    def profile(self) -> str:
        body = {"dataset": "D", "group": "privacy"}
        return str(self.client.command("profile", body)["job_id"])

    def clean(self, name: str = "E") -> str:
        body = {"dataset": "D", "name": name, "recipe": {"steps": RECIPE}}
        return str(self.client.command("clean", body)["job_id"])

    def clean_up(self) -> None:
        self.kill_engine()
        for folder in self.home.jobs.iterdir():
            worker = read_json(JobDir(folder).worker)
            if worker and psutil.pid_exists(worker["pid"]) and not JobDir(folder).result.exists():
                os.kill(worker["pid"], signal.SIGKILL)


ORDINARY = {"config.json", "worker.json", "lock", "events.jsonl", "log.txt", "result.json"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("killed") / "home")
    yield lab
    lab.clean_up()


def test_a_worker_killed_while_it_measures_leaves_nothing_and_can_be_asked_again(lab: Lab) -> None:
    job_id = lab.profile()
    os.kill(lab.working(job_id), signal.SIGKILL)
    assert "SIGKILL" in lab.ended(job_id, "lost").error["message"]
    assert lab.files() == lab.before
    assert lab.left(job_id) <= ORDINARY
    assert not datasets.signals(lab.client, lab.dataset.fingerprint).get("privacy")


def test_an_engine_killed_while_a_worker_measures_is_replaced_and_the_signals_are_kept(lab: Lab) -> None:
    job_id = lab.profile()
    lab.working(job_id)
    lab.kill_engine()
    lab.next_engine()
    lab.ended(job_id, "finished")
    measured = datasets.signals(lab.client, lab.dataset.fingerprint)["privacy"]
    assert Path(measured.path).exists()
    assert lab.left(job_id) <= ORDINARY
    lab.before = lab.files()


def test_a_worker_killed_while_it_cleans_leaves_nothing_and_can_be_resumed(lab: Lab) -> None:
    job_id = lab.clean()
    worker = lab.working(job_id)
    with pytest.raises(StateError, match="Clean D is not over"):
        lab.client.command("delete_dataset", {"dataset": "D"})
    os.kill(worker, signal.SIGKILL)
    lab.ended(job_id, "lost")
    assert lab.files() == lab.before
    assert lab.left(job_id) <= ORDINARY
    assert [row.name for row in datasets.list_datasets(lab.client)] == ["D"]
    assert datasets.get_rows(lab.client, lab.dataset, [0])[0]["messages"]
    lab.client.command("resume", {"job": job_id})
    lab.ended(job_id, "finished")
    assert datasets.get_dataset(lab.client, "E").parent_id == lab.dataset.dataset_id


def test_engine_and_worker_killed_while_it_cleans(lab: Lab) -> None:
    before = lab.files()
    job_id = lab.clean("F")
    worker = lab.working(job_id)
    lab.kill_engine()
    os.kill(worker, signal.SIGKILL)
    assert (lab.home.jobs / job_id / "aside").exists()  # nobody is there who could tidy up
    lab.next_engine()
    lab.ended(job_id, "lost")
    assert lab.left(job_id) <= ORDINARY
    assert {name for name in lab.files() - before if "/signals" not in name} == set()


def test_a_version_is_not_deleted_under_the_one_that_was_made_from_it(lab: Lab) -> None:
    with pytest.raises(StateError, match="is what a version was made from: E"):
        lab.client.command("delete_dataset", {"dataset": "D"})
    child = datasets.get_dataset(lab.client, "E")
    assert datasets.get_rows(lab.client, child, [0])
    assert {version.name for version in dataset_versions.tree(lab.client, child.dataset_id)} == {
        "D",
        "E",
    }
