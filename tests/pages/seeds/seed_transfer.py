"""A home folder with a measured matrix of transfer: losses are drawn, and judged by the real diagnostics.

Run i was trained on data set i: it gains there. Run 0 helps data set 1 and costs data set 2; all else is
noise.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from engine.transfer import effects as diagnosis
from engine.transfer.effects import Task, compute_backward_transfer
from store.core.home import Home
from store.data import datasets
from store.data.schemas import NewDataset
from store.db.database import Database, Transaction, utc_now
from store.jobs import job_queue
from store.runs import runs
from store.training.split import Split
from store.training.train_config import TrainConfig
from store.transfer.config import KIND, TransferConfig
from tests.pages.seeds.made_once import made_once
from tests.unit.store_samples import new_dataset

ROWS = 80
SPLIT = Split().model_dump()
EFFECTS = {(0, 1): 0.12, (0, 2): -0.06}  # run, data set: share of the base model's loss
Document = dict[str, Any]


@made_once
def seed_transfer(
    path: Path, *, count: int = 3, sets: int = 3, measured: bool = True, chain: bool = False, model: str = "m"
) -> Home:
    """`count` finished runs over `sets` data sets; `measured`: with a matrix of all, in which the last run on
    the first data set has no figures."""
    home = Home(path).create()
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            for place in range(sets):
                datasets.insert_dataset(tx, _dataset(place))
            for place in range(count):
                _run(tx, place, place % sets, model, "run-0" if chain and place == count - 1 else "")
            if measured:
                _matrix(tx, count, sets, chain)
    finally:
        database.close()
    return home


def _dataset(place: int) -> NewDataset:
    return new_dataset(f"d{place}", f"Set <{place}>", fingerprint=f"f{place}", row_count=900, **SPLIT)


def _run(tx: Transaction, place: int, trained: int, model: str, before: str) -> None:
    config = TrainConfig(
        name=f"Run *{place}*", dataset=f"d{trained}", model=model, init_from=before
    ).resolved(600)
    at = utc_now().timestamp() + place
    run_id = f"run-{place}"
    job_queue.insert(tx, job_queue.NewJob(job_id=run_id, kind="train", title=config.name, config={}, at=at))
    job_queue.update(tx, run_id, status="finished", device="cpu", ended_at=utc_now() - timedelta(minutes=1))
    dataset_fields = {
        "dataset_id": f"d{trained}",
        "dataset_name": f"Set <{trained}>",
        "fingerprint": f"f{trained}",
    }
    runs.insert(tx, runs.NewRun(run_id=run_id, config=config, at=at, **dataset_fields))


def losses(place: int) -> dict[str, np.ndarray]:
    """The base model's on a data set."""
    random = np.random.default_rng(place)
    tokens = random.integers(5, 40, ROWS)
    loss = random.gamma(6, 0.4, ROWS) * tokens
    return {"loss": loss, "tokens": tokens, "right": random.random(ROWS) < 0.3}


def tuned(run: int, place: int, sets: int) -> dict[str, np.ndarray]:
    """A run's on it."""
    base, random = losses(place), np.random.default_rng([run, place, 7])
    gain = 0.4 if run % sets == place else EFFECTS.get((run, place), 0.0)
    right = base["right"] | (random.random(ROWS) < max(0.0, gain))
    return base | {"loss": base["loss"] * (1 - gain + random.normal(0, 0.05, ROWS)), "right": right}


def _matrix(tx: Transaction, count: int, sets: int, chain: bool) -> None:
    config = TransferConfig(runs=[f"run-{i}" for i in range(count)], datasets=[f"d{i}" for i in range(sets)])
    job_queue.insert(
        tx,
        job_queue.NewJob(job_id="job-matrix", kind=KIND, title="Transfer", config=config.document(), at=9.0),
    )
    job_queue.update(tx, "job-matrix", status="finished", result=result(count, sets, chain, config))


def result(count: int, sets: int, chain: bool, config: TransferConfig) -> Document:
    """As the job leaves it."""
    cells = []
    for place in range(sets):
        base = losses(place)
        level = diagnosis.compute_level(diagnosis.CellRows(**base))
        cells.append({"run_id": "", "dataset_id": f"d{place}", "reason": "", "base": level, "n": ROWS})
    for run in range(count):
        for place in range(sets):
            cells.append(_cell(run, place, count, sets))
    dataset_documents = [
        {"dataset_id": f"d{i}", "name": f"Set <{i}>", "kind": "chat", "fingerprint": f"f{i}", "split": SPLIT}
        | {"part": "test", "rows": ROWS, "of": 90, "reason": ""}
        for i in range(sets)
    ]
    return {
        **{
            "asked": config.asked,
            "runs": _runs(count, sets, chain),
            "datasets": dataset_documents,
            "cells": cells,
        },
        **{"distances": _pairs("f", sets), "weights": _pairs("run-", count)},
        **{"sequences": _sequence(count, sets) if chain else [], "measured": len(cells), "seconds": 60.0},
    }


def _cell(run: int, place: int, count: int, sets: int) -> Document:
    cell = {"run_id": f"run-{run}", "dataset_id": f"d{place}", "reason": ""}
    if count > 1 and (run, place) == (count - 1, 0):
        return cell | {"reason": "The weights of its model are missing from its folder.", "left_out": {}}
    away = {"trained": 3 if run % sets == place else 0, "asked": 0, "near": 1 if run == 0 else 0}
    return (
        cell
        | {"left_out": away, "cut": 2}
        | diagnosis.compare(
            *(diagnosis.CellRows(**side) for side in (losses(place), tuned(run, place, sets)))
        )
    )


def _runs(count: int, sets: int, chain: bool) -> list[Document]:
    run_documents = [
        {"run_id": f"run-{i}", "name": f"Run {i}", "reason": "", "trained": [f"f{i % sets}"]}
        for i in range(count)
    ]
    if chain:
        run_documents[-1]["trained"].append("f0")
    return run_documents


def _pairs(prefix: str, count: int) -> list[Document]:
    random = np.random.default_rng(3)
    return [
        {"first": f"{prefix}{i}", "second": f"{prefix}{j}", "value": value, "low": value - 0.1, "n": 30}
        | {"high": value + 0.1}
        for i in range(count)
        for j in range(i + 1, count)
        for value in [float(random.uniform(0.2, 0.8))]
    ]


def _sequence(count: int, sets: int) -> list[Document]:
    base = losses(0)["loss"]
    task = Task("Set <0>", base, 0.6 * base, 0.8 * base * np.random.default_rng(0).normal(1, 0.05, ROWS))
    chain = {"runs": ["run-0", f"run-{count - 1}"], "datasets": ["d0"], "reason": ""}
    return [chain | {"transfer": compute_backward_transfer([task])}]
