"""Rating rounds over a real store: the real jobs import data and gather answers, in this process."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from engine.commands import Commands
from engine.job_handlers import store_result, write_spec
from engine.worker.job import WorkerJob
from store.core.job_folder import JobDir
from store.core.job_kinds import JOB_KINDS
from store.core.schemas import Person, Role
from store.db.records import to_json
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationCounts, EvaluationResult
from store.jobs import job_queue
from tests.unit.store_samples import new_store

NAMES = ("Base model", "Tuned run")
PLAIN = {"repeat_share": 0.0, "calibration_share": 0.0}  # nothing but what needs ratings is dealt
EVALUATED = EvaluationResult(
    n=0, figures=[], probes=[], reasons={}, notices=[], seconds={}, versions={},
    counts=EvaluationCounts(rows=0, empty=0, no_prompt=0, no_reference=0, no_loss=0, cut=0),
    peak_memory_gib=0.1, device="cpu", device_name="A processor", dtype="float32",
)  # fmt: skip


def person(name: str, role: Role = "member") -> Person:
    return Person(person_id=name.lower(), name=name, role=role)


class RoundDesk:
    """Commands by name, given by whoever `by` names."""

    def __init__(self, path: Path, prompts: int = 20, home: Path | None = None) -> None:
        self.home, self.database = new_store(home or path / "home")
        self.now = time.time()
        commands = Commands(self.database, self.home, lambda name, body: {}, clock=lambda: self.now)
        # Who is dealt what is chance: the same in each run of a test.
        with patch("engine.rating.rater_commands.secrets.randbits", return_value=5):
            self.commands = commands.table()
        self.prompts = prompts
        rows = [chat(f"Question {n}?", f"Right answer {n}.") for n in range(prompts)]
        self.dataset_id = self.imported("Questions", rows)

    def __call__(self, name: str, /, by: Person | None = None, **body: Any) -> Any:
        self.now += 1
        return self.commands[name](body, by or person("Ada", "admin"))

    def imported(self, name: str, rows: Sequence[dict[str, Any]], **config: Any) -> str:
        file = self.home.uploads / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        job_id = self("import_dataset", name=name, source={"path": str(file)}, **config)["job_id"]
        self.do(job_id)
        return job_id.replace("job-", "data-")

    def evaluated(self, model: str, answers: Sequence[str | None], first: int = 0) -> str:
        """An evaluation of a model whose answers these are; its id."""
        asked = {"model": model, "dataset": self.dataset_id, "metrics": ["chrf"], "part": "all"}
        job_id = self("evaluate", **EvaluateConfig.parse(asked).document())["job_id"]
        folder = JobDir(self.home.jobs / job_id)
        folder.path.mkdir()
        n = len(answers)
        rows = {
            "row_id": pa.array(range(first, first + n), pa.int64()),
            "prompt": [f"Question {row}?" for row in range(first, first + n)],
            "prediction": pa.array(answers, pa.string()),
            "reference": [f"Right answer {row}." for row in range(first, first + n)],
        }
        pq.write_table(pa.table(rows), folder.predictions)
        self.finish(job_id, replace(EVALUATED, n=n))
        return job_id

    def both(self) -> list[str]:
        """Evaluations of two models that answer every prompt."""
        return [
            self.evaluated(name, [f"{word} answer {n}" for n in range(self.prompts)])
            for name, word in zip(NAMES, ("Short", "A somewhat longer"), strict=True)
        ]

    def round(self, **config: Any) -> str:
        """An open round of two models, or of what `models` says; its id."""
        models = config.pop("models", None) or [{"evaluation": each} for each in self.both()]
        asked = {"name": "First round", "models": models, **PLAIN} | config
        round_id = self("start_round", **asked)["round_id"]
        self.do(round_id)
        return round_id

    def do(self, job_id: str) -> None:
        """What scheduler and worker do with a queued job; raises what the worker met."""
        self.keep(job_id, self.gathered(job_id))

    def gathered(self, job_id: str) -> Any:
        """What the worker of a queued job leaves as its result, before the engine has taken it."""
        with self.database.transaction() as tx:
            job = job_queue.get_job(tx, job_id)
            job_queue.claim(tx, job_id, "cpu", self.now)
        work = WorkerJob(write_spec(self.database, self.home, job).path)
        return importlib.import_module(JOB_KINDS[job.kind].module).run(work)

    def finish(self, job_id: str, result: Any) -> None:
        """End a job with a result that was made here."""
        with self.database.transaction() as tx:
            job_queue.claim(tx, job_id, "cpu", self.now)
        self.keep(job_id, result)

    def keep(self, job_id: str, result: Any) -> None:
        document = json.loads(to_json(result))
        with self.database.transaction() as tx:
            job = job_queue.get_job(tx, job_id)
            job_queue.finish(tx, job_id, "finished", self.now, result=document)
            store_result(tx, self.home, job, document, self.now)


def chat(prompt: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": turns}
