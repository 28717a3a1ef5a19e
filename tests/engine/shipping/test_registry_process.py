"""A real engine and its workers: two versions are registered, the gate gathers evidence, one is promoted."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.core.errors import StateError
from store.http.client import Client
from store.jobs import job_queue
from store.registry import model_versions
from tests.engine.processes.test_engine_process import SECONDS, start, tunebench, wait_until_ready
from tests.tiny import conversations, write_model


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    home = tmp_path / "home"
    process = start(home)
    yield home, process
    process.kill()
    process.wait()


def finished(client: Client, job_id: str) -> Any:
    deadline = time.monotonic() + 2 * SECONDS
    while (job := job_queue.get_job(client, job_id)).status != "finished":
        assert job.status not in ("failed", "lost", "cancelled"), job.error
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


def test_two_versions_go_through_the_gate(engine: tuple[Path, subprocess.Popen[str]], tmp_path: Path) -> None:
    home, process = engine
    client = wait_until_ready(home, process)
    rows = [json.dumps({"messages": turns}) for turns in conversations(40)]
    (home / "uploads" / "golden.jsonl").write_text("\n".join(rows))
    importing = client.command("import_dataset", {"name": "Golden", "source": {"upload": "golden.jsonl"}})
    for seed in (0, 1):
        folder = write_model(tmp_path / f"seed{seed}", seed=seed)
        body = {"name": "tiny", "path": str(folder)}
        finished(client, client.command("register_model", body)["job_id"])
    finished(client, importing["job_id"])
    assert model_versions.get_model(client, "tiny").versions == 2
    client.command("promote", {"version": "tiny@1", "reason": "The first."})
    check = {"check": "not_worse_than", "dataset": "Golden", "metric": "perplexity", "part": "all"}
    gate = {"model": "tiny", "gate": {"checks": [check | {"margin": 1_000.0}]}}
    client.command("set_gate", gate)
    with pytest.raises(StateError, match="does not pass the gate of production"):
        client.command("promote", {"version": "tiny@2", "reason": "Better."})
    for job_id in client.command("gather_gate_evidence", {"version": "tiny@2"})["job_ids"]:
        finished(client, job_id)
    done = tunebench(home, "model", "gate", "tiny@2", "production", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["holder"], report["checks"][0]["value"]["n"]) == ("tiny@1", 40)
    client.command("promote", {"version": "tiny@2", "reason": "Not worse.", "seen": {"version": 1}})
    assert client.command("move_back", {"model": "tiny", "reason": "After all."})["reference"] == "tiny@1"
