"""Evaluate jobs on a two-layer model, for the tests of them: a run to evaluate, a job, and what it left."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from engine.evaluation import evaluate_job
from engine.training import train_job
from engine.worker.job import WorkerJob
from store.core.figure_schemas import Figure
from store.core.home import Home
from store.core.job_folder import write_json
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationResult
from tests.engine.job_events import QUICK
from tests.shapes import held_to
from tests.tiny import conversations, make_job, write_model, write_rows

METRICS = ["exact_match", "chrf", "perplexity", "bits_per_byte"]


def home_with_rows(path: Any) -> Home:
    """A home folder with the model "tiny" and 60 conversations."""
    home = Home(path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def trained(home: Home, name: str = "run", **fields: Any) -> WorkerJob:
    job = make_job(home, name, **(QUICK | {"probes": False, "max_steps": 3, "learning_rate": 1e-2} | fields))
    result = train_job.run(job)
    write_json(job.dir.result, {"status": "finished", "result": result})
    return job


def evaluation(home: Home, name: str, *, rows: str = "rows", kind: str = "chat", **fields: Any) -> WorkerJob:
    asked = {"metrics": METRICS, "max_new_tokens": 4, "dataset": rows} | fields
    config = EvaluateConfig.parse(asked)
    folder = home.jobs / name
    folder.mkdir()
    order = {
        "job_id": name,
        "kind": "evaluate",
        "home": str(home.path),
        "device": "cpu",
        "attempt": 1,
        "resume": False,
        "config": config.document(),
        "dataset": {
            **{"dataset_id": rows, "fingerprint": rows, "name": rows, "kind": kind},
            **{"format": "messages", "columns": {}, "signals": {}},
        },
        "split": {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
    }
    write_json(folder / "config.json", order)
    return WorkerJob(folder)


def measured(
    home: Home, name: str, **fields: Any
) -> tuple[WorkerJob, EvaluationResult, list[dict[str, Any]]]:
    """The job, its result and its rows; the result goes through JSON as it would."""
    job = evaluation(home, name, **fields)
    result = held_to(EvaluationResult, evaluate_job.run(job))
    return job, result, pq.read_table(job.dir.predictions).to_pylist()


def figure(result: EvaluationResult, name: str) -> Figure:
    return next(f for f in result.figures if f.metric == f"eval/{name}")


def trained_head(home: Home, name: str, **fields: Any) -> WorkerJob:
    folder = make_job(home, name, **(QUICK | {"task": "classification", "max_steps": 3} | fields))
    order = json.loads(folder.dir.config.read_text())
    order["dataset"] |= {"fingerprint": "labelled", "name": "labelled"}
    write_json(folder.dir.config, order)
    job = WorkerJob(folder.dir.path)
    result = train_job.run(job)
    write_json(job.dir.result, {"status": "finished", "result": result})
    return job
