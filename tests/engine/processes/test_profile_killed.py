"""A worker that measures in several processes is killed: nothing of it goes on, nothing half-made is left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from store.core.home import Home
from tests.unit.data_job import import_file

ROWS = 80_000  # enough for processes of its own, and for seconds of work
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(psutil.cpu_count() == 1, reason="one processor: there are no processes of its own")
def test_children_do_not_outlive_a_killed_worker(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    path = home.uploads / "rows.jsonl"
    answer = "An answer that takes some time to look at, for it is long. " * 6
    with open(path, "w") as file:
        file.writelines(
            json.dumps({"prompt": f"Question {i}?", "completion": answer}) + "\n" for i in range(ROWS)
        )
    fingerprint = import_file(home, path).result["fingerprint"]
    folder = home.jobs / "job-1"
    folder.mkdir()
    dataset = {"dataset_id": "d", "fingerprint": fingerprint, "kind": "chat", "signals": {}}
    order = {"job_id": "job-1", "kind": "profile", "home": str(home.path), "dataset": dataset, "mixed": {}}
    order |= {"config": {"dataset": "d", "group": "text"}, "parent": None}
    (folder / "config.json").write_text(json.dumps(order))
    worker = subprocess.Popen([sys.executable, "-m", "engine.worker", str(folder)], cwd=ROOT)
    children = _measuring(worker)
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not list(folder.glob("*.parquet"))
    assert not (folder / "result.json").exists()


def _measuring(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The children that measure, once they are at it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert worker.poll() is None, "it was done before it could be killed"
        children = [p for p in psutil.Process(worker.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        if len(children) >= 2 and all(sum(p.cpu_times()[:2]) > 0.5 for p in children):
            return children
        time.sleep(0.02)
    pytest.fail("no children began to measure")
