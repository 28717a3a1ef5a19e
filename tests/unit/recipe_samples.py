"""Data sets made in the test, and recipes run on them by the job `clean`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data import cleaning_job
from store.core.home import Home
from store.data.signals import GROUPS
from store.training.split import Split
from tests.unit.data_job import import_file, make_job, read

ARROW = {"number": pa.float32(), "flag": pa.bool_(), "category": pa.string(), "group": pa.int64()}


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, **more}


ROWS = [
    *(chat(f"question {n % 7}", f"  answer {n}" + " word" * (n % 9), part=n % 3) for n in range(30)),
    chat("<b>", "x"),
    chat("q", "<p>tag</p> a@b.com"),
    chat("spÃ¤t", "dup"),
    chat("spÃ¤t", "dup"),
]
OTHER = [chat(f"other {n}", "  yes <br> c@d.com") for n in range(60)]


@dataclass
class Cleaned:
    """A new version as the job left it."""

    result: dict[str, Any]
    rows: list[dict[str, Any]]
    fates: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows]

    @property
    def changes(self) -> list[tuple[Any, ...]]:
        """(old row, fate, step, reason) of the rows that did not stay as they were."""
        fields = ("parent_row_id", "fate", "step", "reason")
        return [tuple(fate[f] for f in fields) for fate in self.fates if fate["fate"] != "kept"]


def make(home: Home, rows: list[dict[str, Any]], name: str = "Old", **config: Any) -> dict[str, Any]:
    """Import rows; what a worker is told of the data set."""
    path = home.path.parent / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = import_file(home, path, **config).result
    return {
        **{key: result[key] for key in ("fingerprint", "kind", "format", "columns", "row_count")},
        **{"dataset_id": f"data-{name}", "name": name, "parent_id": None, "signals": {}},
        **Split.parse({}).model_dump(),
    }


def measure(home: Home, dataset: dict[str, Any], group: str, **columns: list[Any]) -> None:
    """A sidecar with these values; columns that are not given are null."""
    count = dataset["row_count"]
    made = {"row_id": pa.array(range(count), pa.int64())}
    for signal in GROUPS[group].signals:
        values = columns.get(signal.column, [None] * count)
        made[signal.column] = pa.array(values, ARROW[signal.type])
    path = home.signals(dataset["fingerprint"], group)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(made), path)
    dataset["signals"][group] = {}


def run(
    home: Home, dataset: dict[str, Any], *steps: dict[str, Any], mixed: dict[str, Any] | None = None
) -> Cleaned:
    """The new version that the steps make."""
    job = make_job(
        home, "clean", {"dataset": dataset["name"], "name": "New", "recipe": {"steps": list(steps)}}
    )
    job.spec |= {"dataset": dataset, "parent": None, "mixed": mixed or {}}
    result = cleaning_job.run(job)
    return Cleaned(result, read(home.rows(result["fingerprint"])), read(home.fates(result["fingerprint"])))


def folders(home: Home) -> set[Path]:
    """All that lies in the data sets' folder and in the jobs' folders beside order and events."""
    return {
        path
        for path in (*home.datasets.rglob("*"), *home.jobs.rglob("*"))
        if path.name not in ("config.json", "events.jsonl") and path.parent != home.jobs
    }
