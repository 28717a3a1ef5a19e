"""A data set and the job `profile` on it, as a worker would be given it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.worker.job import WorkerJob
from store.core.home import Home
from tests.unit.data_job import import_file


def rows_of(home: Home, count: int, changed: tuple[int, ...] = (), name: str = "rows.jsonl") -> str:
    """A data set of `count` conversations; its fingerprint."""
    path = home.uploads / name
    with open(path, "w", encoding="utf-8") as file:
        for index in range(count):
            answer = (
                "Changed to ann@example.org."
                if index in changed
                else f"Answer {index} from 93.184.216.{index}."
            )
            file.write(json.dumps({"prompt": f"Question {index}?", "completion": answer}) + "\n")
    return str(import_file(home, path).result["fingerprint"])


def job_of(
    home: Home, fingerprint: str, group: str, parent: dict[str, Any] | None = None, **config: Any
) -> WorkerJob:
    folder = home.jobs / f"profile-{len(list(home.jobs.iterdir()))}"
    folder.mkdir()
    dataset = {"dataset_id": "d", "fingerprint": fingerprint, "kind": "chat", "signals": {}}
    order = {"job_id": folder.name, "kind": "profile", "home": str(home.path), "dataset": dataset}
    order |= {"config": {"dataset": "d", "group": group, **config}, "parent": parent, "mixed": {}}
    (folder / "config.json").write_text(json.dumps(order))
    return WorkerJob(folder)


def sidecar(job: WorkerJob) -> pa.Table:
    return pq.read_table(job.dir.path / f"{job.config['group']}.parquet")
