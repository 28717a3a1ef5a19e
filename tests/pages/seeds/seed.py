"""A home folder with data sets and runs in it, as the engine would have left them, made in a second.

Rows are real Parquet in the documented columns, written through the store's own Database; runs have what
lists and figures read: jobs, summaries, verdicts, and points for the newest few.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.core.home import Home
from store.data import datasets
from store.data.schemas import NewDataset
from store.data.signals import GROUPS
from store.db.database import Database, Transaction, utc_now
from store.db.records import to_json
from store.training.train_config import TrainConfig
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed_evidence import forgetting
from tests.unit.store_samples import new_dataset

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
ROWS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("line", pa.int64()),
        ("messages", pa.list_(MESSAGE)),
        ("text", pa.string()),
        ("label", pa.string()),
        ("rejected", pa.string()),
        ("digest", pa.uint64()),
        ("source", pa.string()),
    ]
)
STATUSES = ("finished",) * 8 + ("failed", "cancelled", "lost")
STATES = ("learned", "undecided", "worse", "learned")
TEXT_NUMBERS = tuple(s.column for s in GROUPS["text"].signals if s.type == "number" and s.unit != "share")
TEXT_FLAGS = tuple(s.column for s in GROUPS["text"].signals if s.type == "flag")
RISES = (0.0, 0.02, 0.06, 0.11, 0.24)  # of the loss on prose
CURVE = 21  # points of the newest runs


@made_once
def seed(
    path: Path, *, runs: int, sets: int, rows: int = 60, measured: bool = False, probed: bool = False
) -> Home:
    """A home folder with `sets` data sets of `rows` rows and `runs` runs that have ended.

    measured: with sidecars of texts and duplicates; probed: with what the runs forgot.
    """
    home = Home(path).create()
    database = Database(home.database, [home.datasets])
    try:
        seeded = [_dataset(home, i, rows) for i in range(sets)]
        with database.transaction() as tx:
            for dataset in seeded:
                datasets.insert_dataset(tx, dataset)
                if measured:
                    _measure(tx, home, dataset)
            if runs:
                _insert_runs(tx, runs, seeded, probed)
    finally:
        database.close()
    return home


def _dataset(home: Home, index: int, count: int) -> NewDataset:
    """Questions about sums, their answers, and one skipped line."""
    fingerprint = f"{index:064x}"
    written = [_row(index, i) for i in range(count)]
    home.rows(fingerprint).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(written, schema=ROWS), home.rows(fingerprint))
    skipped = pa.table(
        {"line": pa.array([count + 2], pa.int64()), "reason": ["the answer is empty"], "excerpt": ["Why?,"]}
    )
    pq.write_table(skipped, home.skipped(fingerprint))
    return new_dataset(
        f"d{index:05}",
        f"Sums {index}",
        format="question_answer",
        columns={"question": "q", "answer": "a"},
        source={"path": f"/data/sums-{index}.csv"},
        fingerprint=fingerprint,
        row_count=count,
        skipped_count=1,
        source_bytes=40 * count,
        stats={
            "characters": {"min": 20, "median": 31, "p95": 36, "max": 40},
            "turns": {"min": 2, "median": 2, "p95": 2, "max": 2},
            "labels": {},
            "label_count": 0,
            "skipped_reasons": {"the answer is empty": 1},
            "reader": "csv",
            "encoding": "utf-8",
        },
        created_at=utc_now() - timedelta(hours=index),
    )


def _measure(tx: Transaction, home: Home, dataset: NewDataset) -> None:
    """Sidecars of lengths, languages and duplicates, as their jobs would have left them."""
    n = dataset.row_count
    ids = range(n)
    longest = [20 + i % 17 for i in ids]
    near = [2 if i in (2, 5, 9) else None for i in ids]
    flags = [name for name in TEXT_FLAGS if name != "truncated"]
    text = dict.fromkeys(TEXT_NUMBERS, longest) | {name: [False] * n for name in flags}
    text |= {"truncated": [i % 4 == 0 for i in ids], "language": ["de" if i % 10 == 0 else "en" for i in ids]}
    text["repetition"] = [0.0] * n
    spread = {"n": n, "min": 20, "mean": 28.0, "median": 28.0, "p95": 36.0, "max": 36, "positive": n}
    figures: dict[str, Any] = dict.fromkeys(TEXT_NUMBERS, spread)
    figures |= {name: {"n": n, "flagged": sum(text[name])} for name in TEXT_FLAGS}
    figures["repetition"] = dict.fromkeys(spread, 0.0) | {"n": n}
    languages = {"en": n - n // 10, "de": n // 10}
    figures["language"] = {"n": n, "distinct": 2, "values": languages}
    _sidecar(tx, home, dataset, "text", text, figures)
    alone: list[int | None] = [None] * n
    duplicates = {"exact_group": alone, "near_group": near, "near_similarity": alone, "prompt_group": alone}
    none = {"n": n, "groups": 0, "rows": 0, "extra": 0}
    figures = {"exact_group": none, "prompt_group": none, "conflict": {"n": n, "flagged": 0}}
    figures["near_group"] = {"n": n, "groups": 1, "rows": 3, "extra": 2}
    _sidecar(tx, home, dataset, "duplicates", duplicates | {"conflict": [False] * n}, figures)


ARROW = {"number": pa.float32(), "flag": pa.bool_(), "category": pa.string(), "group": pa.int64()}


def _sidecar(
    tx: Transaction, home: Home, dataset: NewDataset, group: str, columns: Any, figures: dict[str, Any]
) -> None:
    path = home.signals(dataset.fingerprint, group)
    path.parent.mkdir(exist_ok=True)
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for signal in GROUPS[group].signals:
        if signal.type == "group" or signal.column not in arrays:
            values = columns.get(signal.column, [None] * dataset.row_count)
            arrays[signal.column] = pa.array(values, ARROW[signal.type])
    pq.write_table(pa.table({"row_id": pa.array(range(dataset.row_count), pa.int64()), **arrays}), path)
    measured = {"options": {}, "row_count": dataset.row_count, "reused_count": 0, "seconds": 0.1}
    datasets.record_signals(tx, dataset.fingerprint, group, measured | {"figures": figures}, utc_now())


def _row(index: int, i: int) -> dict[str, Any]:
    question, answer = f"What is {index} plus {i}, <b>please</b>?", f"It is **{index + i}**."
    return {
        "row_id": i,
        "line": i + 2,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "text": f"{question}\n{answer}",
        "label": None,
        "rejected": None,
        "digest": 1_000_003 * index + i,
        "source": json.dumps({"q": question, "a": answer}),
    }


def _insert_runs(tx: Transaction, count: int, seeded: list[NewDataset], probed: bool) -> None:
    now = utc_now()
    jobs, runs, summaries, points = [], [], [], []
    for i in range(count):
        run_id, created = f"r{i:06}", now - timedelta(minutes=7 * (count - i))
        dataset = seeded[i % len(seeded)]
        config = TrainConfig(dataset=dataset.name, name=f"LoRA on {dataset.name} #{i}", seed=i)
        config = config.resolved(48)
        status = STATUSES[i % len(STATUSES)]
        jobs.append(_job(run_id, config, status, created))
        runs.append(_run(run_id, i, config, dataset, status, created))
        if probed and status == "finished":
            forgot = forgetting(RISES[i // len(seeded) % len(RISES)], config.model_dump())
            runs[-1]["verdict"] = to_json(_verdict(i) | {"forgetting": forgot})
        summaries += _summaries(run_id, i, created)
        if i >= count - 3:
            points += _points(run_id, i, created)
    for table, rows in (("job", jobs), ("run", runs), ("metric_summary", summaries), ("metric", points)):
        columns = ", ".join(rows[0])
        with tx.table("seeded", pa.Table.from_pylist(rows)):
            tx.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM seeded")
    tx.execute(f"CREATE OR REPLACE SEQUENCE run_number START {count + 1}")


def _job(run_id: str, config: TrainConfig, status: str, created: datetime) -> dict[str, Any]:
    error = {
        "error": "ModelError",
        "message": "The loss is not a number at step 12.",
        "fix": "",
        "traceback": "…",
    }
    return {
        "job_id": run_id,
        "kind": "train",
        "lane": "device",
        "title": config.name,
        "status": status,
        "config": config.model_dump_json(),
        "after_jobs": [],
        "created_at": created,
        "started_at": created + timedelta(seconds=2),
        "ended_at": created + timedelta(minutes=5),
        "error": json.dumps(error) if status == "failed" else None,
    }


def _run(
    run_id: str, i: int, config: TrainConfig, dataset: NewDataset, status: str, created: datetime
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "number": i + 1,
        "name": config.name,
        "notes": "",
        "dataset_id": dataset.dataset_id,
        "dataset_name": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "model": config.model,
        "method": config.method,
        "seed": i,
        "config": config.model_dump_json(),
        "facts": json.dumps({"trainable_parameters": 4_884_480, "total_parameters": 139_400_064}),
        "verdict": json.dumps(_verdict(i)) if status == "finished" else None,
        "created_at": created,
    }


def _verdict(i: int) -> dict[str, Any]:
    state = STATES[i % len(STATES)]
    value = {"learned": 0.31, "undecided": 0.02, "worse": -0.12}[state]
    scores = {"perplexity": 7.4, "token_accuracy": 0.55, "n": 200, "tokens": 9_000}
    return {
        "state": state,
        "headline": "The run was judged on 200 held-out rows.",
        "sentences": [],
        "advice": [],
        "gain": {
            "value": value,
            "low": value - 0.041,
            "high": value + 0.038,
            "n": 200,
            "unit": "nats a token",
            "split": "test",
            "detectable": 0.04,
        },
        "base": {"loss": 2.0, **scores},
        "tuned": {"loss": 2.0 - value, **scores},
        "overfitting": {
            "state": "none",
            "since_step": None,
            "best_step": 20,
            "last_step": 20,
            "rise": {"value": 0.0, "low": -0.01, "high": 0.01, "n": 200},
            "sentence": "Validation loss was lowest at the last step.",
        },
        "stopped": {"reason": "epochs", "step": 20, "restored_step": 20},
    }


def _losses(i: int) -> list[float]:
    return [1.2 + 0.8 * math.exp(-step / 6) + 0.001 * (i % 7) for step in range(CURVE)]


def _summaries(run_id: str, i: int, created: datetime) -> list[dict[str, Any]]:
    losses = _losses(i)
    shared = {
        "run_id": run_id,
        "count": CURVE,
        "nonfinite": 0,
        "min": losses[-1],
        "max": losses[0],
        "sum": sum(losses),
        "min_step": CURVE - 1,
        "max_step": 0,
        "first_step": 0,
        "first_value": losses[0],
        "first_at": created,
        "last_step": CURVE - 1,
        "last_value": losses[-1],
        "last_at": created,
    }
    return [{**shared, "name": name} for name in ("eval/loss", "train/loss")]


def _points(run_id: str, i: int, created: datetime) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "name": name,
            "step": step,
            "value": loss,
            "logged_at": created + timedelta(seconds=step),
        }
        for name in ("eval/loss", "train/loss")
        for step, loss in enumerate(_losses(i))
    ]
