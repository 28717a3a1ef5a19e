"""The form's memory estimate compared with the peak of runs, over CASES x LENGTHS x BATCHES.

    python bench/costs/memory.py [--only NAME] [--lengths 128 256 512] [--batches 2 8] [--steps 2]
    [--home DIR] [--json]

Rows fill `max_length`, so that every step is the largest one, as in the estimate. Estimate and run are the
real jobs, each in its own process, forked from one that has imported what workers import, as in the app;
that process's memory is the baseline, and the figures are memory beyond it. A failed case is in the table
with its error. Exits with 1 if the median error is 10% or more, one is 25% or more, or a run gave no
figure.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.server import zygote
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.data.dataset_files import LATER, SCHEMA
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

# name -> changes of COMMON.
CASES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "LoRA": {"method": "lora"},
    "QLoRA": {"method": "qlora"},
    "IA3": {"method": "ia3"},
    "prompt tuning": {"method": "prompt_tuning"},
    "classification": {"task": "classification", "dataset": "texts"},
}
LENGTHS = (128, 256, 512)
BATCHES = (2, 8)
# Switches of a run that affect its memory, at 256 tokens and batches of 8.
SWITCHES: dict[str, dict[str, Any]] = {
    "LoRA, gradient checkpointing": {"gradient_checkpointing": True},
    "LoRA r 64, dropout": {"r": 64, "lora_dropout": 0.05},
    "LoRA, fp32": {"dtype": "float32"},
    "LoRA, loss on prompts too": {"completion_only_loss": False},
    "LoRA, rows of 20 to 256 tokens": {"dataset": "varied", "max_steps": 8},
    "full, two batches a step": {"method": "full", "gradient_accumulation_steps": 2},
    "full, 8-bit AdamW": {"method": "full", "optim": "paged_adamw_8bit"},
    "preference": {"task": "dpo"},
    "classification, full": {"task": "classification", "dataset": "texts", "method": "full"},
}
# Methods that no case covers, at 256 tokens and batches of 8.
SWITCHES |= {
    method.title: {"method": name}
    for name, method in METHODS.items()
    if name not in {changes.get("method", "lora") for changes in CASES.values()}
}
COMMON = {
    "dataset": "prose",
    "max_eval_rows": 8,
    "evaluations": 1,
    "sample_prompts": 2,
    "probes": False,
    "max_new_tokens": 8,
    "gradient_accumulation_steps": 1,
}
MEDIAN, WORST = 0.10, 0.25
SPLIT = {"split_seed": 0, "validation_size": 0.1, "test_size": 0.1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="a case's name; may be repeated")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps of each run")
    parser.add_argument(
        "--home", type=Path, help="a home folder that has the model; a new one where left out"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    for problem in zygote.preload():
        print(f"not preloaded: {problem}", file=sys.stderr)
    folder = given.home or Path(tempfile.mkdtemp(prefix="memory-"))
    home = Home(folder).create()
    try:
        write_prose(home, "prose")
        write_prose(home, "varied", shortest=60)
        write_prose(home, "texts", asked=3000)
        results = []
        for name, config in wanted(given):
            results.append(measure(home, name, {"max_steps": given.steps} | config))
            print(line(results[-1]), file=sys.stderr, flush=True)
    finally:
        if not given.home:
            shutil.rmtree(folder, ignore_errors=True)
    return report(results, given.json)


def wanted(given: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and config of every run: the cases at each length and batch size, then the switches."""
    runs = [
        (f"{name}, batch {batch}, {length} tokens", COMMON | changes | shape)
        for name, changes in CASES.items()
        for length in given.lengths
        for batch in given.batches
        for shape in [{"max_length": length, "per_device_train_batch_size": batch}]
        if not given.only or name in given.only
    ]
    for name, changes in SWITCHES.items():
        if not given.only or name in given.only:
            runs.append((name, COMMON | {"max_length": 256} | changes))
    return runs


def write_prose(home: Home, name: str, shortest: int = 3000, asked: int = 100) -> None:
    """Write a data set of consecutive passages from Python's help texts, of `shortest` to 3,000 characters
    (over 512 tokens), each with `asked` characters of the previous passage as its prompt.
    """
    text = " ".join(" ".join(pydoc_data.topics.topics.values()).split())
    pieces = [text[at : at + 1500] for at in range(0, len(text) - 1500, 1500)]
    rows = [
        [
            {"role": "user", "content": (a + b)[:asked]},
            {"role": "assistant", "content": (b + c)[: shortest + i * 997 % (3001 - shortest)]},
        ]
        for i, (a, b, c) in enumerate(zip(pieces, pieces[1:], pieces[2:], strict=False))
    ][:200]
    columns = {
        "row_id": list(range(len(rows))),
        "line": list(range(1, len(rows) + 1)),
        "messages": rows,
        "text": [" ".join(turn["content"] for turn in row) for row in rows],
        "label": [f"class {i % 4}" for i in range(len(rows))],
        "rejected": [row[-1]["content"][::-1] for row in rows],
        "digest": list(range(len(rows))),
        "source": ["{}"] * len(rows),
        **{name: [None] * len(rows) for name in LATER},
    }
    home.rows(name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=SCHEMA), home.rows(name))


def measure(home: Home, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Run one case; return the predicted memory and the measured memory beyond the process baseline, in GiB,
    or its error.
    """
    baseline = psutil.Process().memory_info().rss / 2**30
    body = {"config": config, "fingerprint": config["dataset"], "split": SPLIT, "row": 0}
    preview = work(home, "preview", body)
    if "error" in preview:
        return {"run": name, "error": preview["error"]["message"]}
    resolved = TrainConfig.parse(preview["result"]["config"]).model_dump()
    order_dataset = {"fingerprint": config["dataset"], "name": config["dataset"], "kind": "chat"}
    trained = work(home, "train", resolved, dataset=order_dataset, split=SPLIT)
    if "error" in trained:
        return {"run": name, "error": trained["error"]["message"]}
    estimate, peak = preview["result"]["memory"], trained["facts"]["peak_memory_gib"]
    values = [
        value - baseline for value in (estimate["counted_gib"], estimate["low_gib"], estimate["high_gib"])
    ]
    return {
        "run": name,
        "peak": peak - baseline,
        "predicted": values[0],
        "low": values[1],
        "high": values[2],
        "baseline": baseline,
        "ratio": (peak - baseline) / values[0],
    }


def work(home: Home, kind: str, config: dict[str, Any], **order: Any) -> dict[str, Any]:
    """Run a job in its own process; return its result with the facts and metrics that it reported."""
    folder = JobDir(Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=home.jobs)))
    document = {
        "job_id": folder.path.name,
        "kind": kind,
        "home": str(home.path),
        "device": "cpu",
        "attempt": 1,
    }
    write_json(folder.config, document | {"resume": False, "config": config} | order)
    os.waitpid(zygote.fork(str(folder.path)), 0)
    outcome: dict[str, Any] = read_json(folder.result) or {"error": {"message": "it ended without a result"}}
    if folder.events.exists():
        events = [json.loads(text) for text in folder.events.read_text().splitlines()]
        outcome["facts"] = {k: v for event in events for k, v in event.get("facts", {}).items()}
        outcome["metrics"] = [event["values"] for event in events if event["type"] == "metrics"]
    shutil.rmtree(folder.path)
    return outcome


def line(run: dict[str, Any]) -> str:
    if "error" in run:
        return f"{run['run']:<34} failed: {run['error']}"
    return "{run:<34}{peak:6.2f} of {predicted:5.2f} ({low:.2f} to {high:.2f})  {ratio:.2f}".format(**run)


def report(results: list[dict[str, Any]], as_json: bool) -> int:
    """Print the table and the failed cases; return 0 if the goal is met, else 1."""
    errors = [abs(run["ratio"] - 1) for run in results if "error" not in run]
    failed = [run["run"] for run in results if "error" in run]
    summary = {
        "median_error": statistics.median(errors) if errors else None,
        "worst_error": max(errors, default=None),
        "runs": len(errors),
        "failed": failed,
        "outside_interval": [
            r["run"] for r in results if "error" not in r and not r["low"] <= r["peak"] <= r["high"]
        ],
    }
    if as_json:
        print(json.dumps({"runs": results, **summary}))
    else:
        print("\n".join(line(run) for run in results))
        print(json.dumps(summary, indent=1))
    met = bool(errors) and statistics.median(errors) < MEDIAN and max(errors) < WORST and not failed
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
