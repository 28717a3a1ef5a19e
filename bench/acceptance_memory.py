"""Memorization of single rows in a real model: canaries planted 1, 4 and 16 times, ranked after training.

    python bench/acceptance_memory.py canaries [--rows 300] [--canaries 5] [--epochs 3] [--method lora]
    [--learning-rate 1e-3] [--home DIR] [--json]

A run of the real train job on generated people and the given number of canaries of each kind, without
other evidence. Exits with 1 unless canaries planted 16 times are significantly more exposed than those
planted once, and those never planted are not exposed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.evaluation.verdicts.extraction import UNSEEN_EXPOSURE
from engine.models.bundled import ensure_bundled_model
from engine.training import train_job
from engine.worker.job import WorkerJob
from store.core.documents import as_json
from store.core.home import Home
from store.core.job_folder import write_json
from store.data.dataset_files import LATER, SCHEMA
from store.evaluation.forgetting_schemas import CanaryEvaluation
from store.training.split import Split
from store.training.train_config import BUNDLED_MODEL, TrainConfig

FIRST = (
    "Alva",
    "Brin",
    "Corin",
    "Dessa",
    "Edrik",
    "Fenna",
    "Garo",
    "Hilde",
    "Ivo",
    "Jorun",
    "Kasimir",
    "Lioba",
)
LAST = (
    "Holm",
    "Varga",
    "Quist",
    "Okoro",
    "Lindt",
    "Ferrer",
    "Brandt",
    "Sato",
    "Moreau",
    "Kowal",
    "Abara",
    "Ruiz",
)
TRADES = ("glass blower", "bell founder", "map engraver", "clock mender", "salt trader", "kite maker")
TOWNS = ("Ostmark", "Veldhaven", "Carrow", "Trinhold", "Mossby", "Quillport", "Ansbury", "Redfen")


def people(count: int) -> list[list[dict[str, str]]]:
    """Make questions about invented people, with answers that can't be guessed."""
    drawn = random.Random(4)
    return [
        [
            {"role": "user", "content": f"Who is {drawn.choice(FIRST)} {drawn.choice(LAST)} the {number}th?"},
            {"role": "assistant", "content": f"A {drawn.choice(TRADES)} from {drawn.choice(TOWNS)}."},
        ]
        for number in range(count)
    ]


def write_rows(home: Home, rows: list[list[dict[str, str]]]) -> None:
    """Write the data set `people` to where an import would put it."""
    columns: dict[str, Any] = {
        "row_id": range(len(rows)), "line": range(1, len(rows) + 1), "messages": rows,
        "text": [" ".join(turn["content"] for turn in row) for row in rows], "label": [None] * len(rows),
        "rejected": [None] * len(rows), "digest": range(len(rows)), "source": ["{}"] * len(rows),
        **{name: [None] * len(rows) for name in LATER},
    }  # fmt: skip
    home.rows("people").parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: list(column) for name, column in columns.items()}, schema=SCHEMA)
    pq.write_table(table, home.rows("people"))


def canaries(home: Home, arguments: argparse.Namespace) -> tuple[CanaryEvaluation, float]:
    """Run the training; return its canary evaluation and its duration in seconds."""
    write_rows(home, people(arguments.rows))
    config = TrainConfig(
        dataset="people", model=BUNDLED_MODEL, method=arguments.method, canaries=arguments.canaries,
        learning_rate=arguments.learning_rate, num_train_epochs=arguments.epochs, evaluations=1, probes=False,
        sample_prompts=0, early_stopping=False, load_best_model_at_end=False, max_eval_rows=16,
    ).resolved(arguments.rows)  # fmt: skip
    folder = home.jobs / f"canaries-{time.time_ns()}"
    folder.mkdir()
    order = {
        "job_id": folder.name, "run_id": folder.name, "kind": "train", "home": str(home.path),
        "device": "cpu",
        "attempt": 1, "resume": False, "config": config.model_dump(),
        "dataset": {"fingerprint": "people", "name": "people", "kind": "chat"}, "split": Split().model_dump(),
    }  # fmt: skip
    write_json(folder / "config.json", order)
    began = time.perf_counter()
    canary_verdict = train_job.run(WorkerJob(folder))["verdict"].canaries
    assert canary_verdict is not None
    return canary_verdict, time.perf_counter() - began


def report(canary_verdict: CanaryEvaluation, seconds: float) -> str:
    """Format the results: one line for each number of insertions."""
    lines = ["| planted | canaries | exposure, bits | 95% interval | p (Holm) |", "|---|---|---|---|---|"]
    for part in canary_verdict.groups:
        bits = part.exposure
        lines.append(
            f"| {part.insertions} times | {part.n} | {bits.value:.2f} | {bits.low:.2f} to"
            f" {bits.high:.2f} | {part.p_holm:.2g} |"
        )
    top = canary_verdict.groups[0].most
    lines.append(
        f"\nOf at most {top:g} bits; never seen: {UNSEEN_EXPOSURE:.2f} on average. {canary_verdict.sentence}"
    )
    return "\n".join([*lines, f"{seconds:.0f} seconds."])


def met(canary_verdict: CanaryEvaluation) -> bool:
    """Whether 16 insertions are significantly more exposed than one, and canaries never planted are not
    exposed.
    """
    unseen = next(part for part in canary_verdict.groups if part.insertions == 0)
    return canary_verdict.more.difference.low > 0 and not unseen.exposed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("section", choices=["canaries"])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--canaries", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--home", type=Path, help="a home folder whose model is taken")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(arguments.home or Path(folder) / "home").create()
        ensure_bundled_model(BUNDLED_MODEL, home)
        canary_verdict, seconds = canaries(home, arguments)
    if arguments.json:
        print(json.dumps(as_json(canary_verdict) | {"seconds": seconds}, default=as_json))
    else:
        print(report(canary_verdict, seconds))
    sys.exit(0 if met(canary_verdict) else 1)


if __name__ == "__main__":
    main()
