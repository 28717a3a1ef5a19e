"""A run with its rows and its deal, and what people said of its answers, for tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.retraining import job as gather_rows
from engine.worker.job import WorkerJob
from store.core.documents import parse_document
from store.core.home import Home
from store.core.job_folder import JobDir, write_json
from store.jobs.schemas import JobSpec
from store.training.split import Split
from tests.unit.data_job import make_job, read
from tests.unit.recipe_samples import make

RUN = "run-old"
WORDS = ("amber basil cedar delta ember fjord grove heron", "ivory jetty kayak lotus mango north olive pearl")
LABELS = ("ANIMAL", "PLACE")


def text(number: int) -> str:
    """A question that is like no other one."""
    rng = np.random.default_rng(number)
    words = " ".join(WORDS).split()
    return f"What of {' '.join(words[place] for place in rng.integers(len(words), size=9))} number {number}?"


def labelled(home: Home, count: int = 60) -> dict[str, Any]:
    """Texts with labels."""
    rows = [{"text": text(n), "label": LABELS[n % 2]} for n in range(count)]
    return make(home, rows, "Old", format="text_label", columns={"text": "text", "label": "label"})


def answered(home: Home, count: int = 60) -> dict[str, Any]:
    """Questions with answers."""
    return make(home, [{"prompt": text(n), "completion": f"It is {n % 7}."} for n in range(count)])


def deal(home: Home, dataset: dict[str, Any], task: str = "sft", parts: dict[int, str] | None = None) -> None:
    """The run: rows from 40 on validate and those from 50 on test, unless `parts` says it."""
    count = dataset["row_count"]
    if parts is None:
        parts = {n: "train" if n < 40 else "validation" if n < 50 else "test" for n in range(count)}
    folder = JobDir(home.jobs / RUN)
    folder.path.mkdir(exist_ok=True)
    order = {"config": {"task": task}, "dataset": dataset, "split": Split().fields()}
    write_json(folder.config, order)
    pq.write_table(pa.table({"row_id": list(parts), "split": list(parts.values())}), folder.split)


def spoken(number: int, answer: str | None, kind: str = "label", **fields: Any) -> dict[str, Any]:
    """What one person said of a request that asks the text of that number."""
    return {
        **{"source": 0, "request": f"r{number}", "person": "p-ada", "kind": kind, "answer": answer},
        **{"prompt": [{"role": "user", "content": text(number)}], "rejected": "No."},
        **{"asked_at": 1e9 + number, "random": False, **fields},
    }


def _job(
    home: Home,
    dataset: dict[str, Any],
    candidates: list[dict[str, Any]],
    rows: list[dict[str, Any]] | None = None,
    **config: Any,
) -> WorkerJob:
    asked = {
        **{"improvement": "i", "name": "New rows", "dataset": dataset["dataset_id"], "run": RUN},
        **{"rows": rows or [{"source": "feedback", "endpoint": "e"}], "held_out": 0.3, **config},
    }
    job = make_job(home, "gather_rows", asked)
    job.spec |= parse_document(JobSpec, {"dataset": dataset, "mixed": {}, "beside": []})
    job.spec["disputed"] = []
    lines = (json.dumps(candidate) + "\n" for candidate in candidates)
    (job.dir.path / "candidates.jsonl").write_text("".join(lines))
    return job


def lacking(home: Home, dataset: dict[str, Any], candidates: list[dict[str, Any]]) -> Any:
    """The result of the job where they are too few."""
    return gather_rows.run(_job(home, dataset, candidates))


def gather(
    home: Home,
    dataset: dict[str, Any],
    candidates: list[dict[str, Any]],
    *,
    rows: list[dict[str, Any]] | None = None,
    mixed: dict[str, Any] | None = None,
    beside: list[dict[str, Any]] | None = None,
    disputed: list[str] | None = None,
    **config: Any,
) -> dict[str, Any]:
    """What the job makes of them: its result, `rows` with their parts, and `skipped`."""
    job = _job(home, dataset, candidates, rows=rows, **config)
    job.spec |= parse_document(JobSpec, {"mixed": mixed or {}, "beside": beside or []})
    job.spec["disputed"] = disputed or []
    result: Any = gather_rows.run(job)
    return {
        **{"counted": result["rows"], "result": result},
        **{"rows": read(home.rows(result["fingerprint"]))},
        **{"skipped": read(home.skipped(result["fingerprint"]))},
    }
