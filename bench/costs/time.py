"""The form's time estimate before a launch compared with the time of runs, over CASES.

    python bench/costs/time.py [--only NAME] [--busy 1] [--model NAME] [--home DIR] [--json]

Preview and run are the real jobs, each in its own process (as in bench/costs/memory.py). Before each
preview, cached timings and the base model's cached responses are removed, and no past run corrects it.
busy: processes that compute without a pause meanwhile, on one core each. Exits with 1 if less than nine of
ten runs are within the range, an end of a range is more than WIDEST times from its middle, or a run fails.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is imported; set by the engine for workers

from bench.costs.memory import SPLIT, work, write_prose
from engine.evaluation.statistics.cost_prediction import MAX_RANGE_FACTOR
from engine.server import zygote
from store.core.documents import parse_document
from store.core.home import Home
from store.core.training_schemas import TimeEstimate
from store.training.train_config import TrainConfig

# The estimate is for the whole run: a run that stops early can't be compared.
BATCH = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "early_stopping": False}
FEW = {"max_eval_rows": 6, "evaluations": 1, "sample_prompts": 0, "probes": False}
SHORT = BATCH | FEW | {"max_steps": 8}
WHOLE = BATCH | {"max_eval_rows": 10, "max_steps": 15}  # with probes and responses, as in the form
CASES: dict[str, dict[str, Any]] = {
    "LoRA": SHORT,
    "LoRA, fp32": SHORT | {"dtype": "float32"},
    "LoRA, gradient checkpointing": SHORT | {"gradient_checkpointing": True},
    "LoRA, dropout": SHORT | {"lora_dropout": 0.05},
    "LoRA, rows of 512 tokens": SHORT | {"dataset": "prose", "max_length": 512},
    "LoRA, batches of one row": SHORT | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2},
    "LoRA, five evaluations": SHORT | {"evaluations": 4, "max_eval_rows": 12},
    "LoRA, one step": SHORT | {"max_steps": 1},
    "QLoRA": SHORT | {"method": "qlora"},
    "full": SHORT | {"method": "full"},
    "full, fp32": SHORT | {"method": "full", "dtype": "float32"},
    "top layers only": SHORT | {"method": "freeze"},
    "IA3": SHORT | {"method": "ia3"},
    "prompt tuning": SHORT | {"method": "prompt_tuning"},
    "DoRA": SHORT | {"use_dora": True},
    "preference": SHORT | {"task": "dpo"},
    "classification": SHORT | {"task": "classification"},
    "classification, full": SHORT | {"task": "classification", "method": "full"},
    "LoRA, with probes and answers": WHOLE,
    "full, with probes and answers": WHOLE | {"method": "full"},
}
HELD = 0.9  # minimum share of runs within the ranges


class MeasuredTime(TypedDict):
    """Estimated and measured duration of a run in seconds, or its error."""

    run: str
    estimate: NotRequired[TimeEstimate]
    seconds: NotRequired[float]
    train_seconds: NotRequired[float]
    error: NotRequired[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="a case's name; may be repeated")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--model", help="in place of the form's own")
    parser.add_argument("--home", type=Path, help="a home folder that has the model; new where left out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    for problem in zygote.preload():
        print(f"not preloaded: {problem}", file=sys.stderr)
    folder = given.home or Path(tempfile.mkdtemp(prefix="time-"))
    home = Home(folder).create()
    chosen = {"dataset": "varied"} | ({"model": given.model} if given.model else {})
    try:
        write_prose(home, "prose")
        write_prose(home, "varied", shortest=60)
        results = []
        with _busy(given.busy):
            for name, changes in CASES.items():
                if not given.only or name in given.only:
                    results.append(measure(home, name, chosen | changes))
                    print(line(results[-1]), file=sys.stderr, flush=True)
    finally:
        if not given.home:
            shutil.rmtree(folder, ignore_errors=True)
    return report(results, given.json)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Run this number of computing processes during the block."""
    others = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(processes)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def _compute() -> None:
    number = 0
    while True:
        number = (number * 31 + 7) % 1_000_003


def measure(home: Home, name: str, config: dict[str, Any]) -> MeasuredTime:
    """Estimate the duration of a run, then run it."""
    (home.cache / "timed_steps.json").unlink(missing_ok=True)
    shutil.rmtree(
        home.cache / "base_probes", ignore_errors=True
    )  # the base model's cached results of earlier runs
    body = {"config": config, "fingerprint": config["dataset"], "split": SPLIT, "time_steps": True}
    preview = work(home, "preview", body)
    if "error" in preview:
        return {"run": name, "error": preview["error"]["message"]}
    resolved = TrainConfig.parse(preview["result"]["config"]).model_dump()
    order_dataset = {"fingerprint": config["dataset"], "name": config["dataset"], "kind": "chat"}
    trained = work(home, "train", resolved, dataset=order_dataset, split=SPLIT)
    if "error" in trained:
        return {"run": name, "error": trained["error"]["message"]}
    facts = trained["facts"]
    return {
        "run": name,
        "estimate": parse_document(TimeEstimate, preview["result"]["time"]),
        "seconds": facts["run_seconds"],
        "train_seconds": facts["train_seconds"],
    }


def line(run: MeasuredTime) -> str:
    if "error" in run:
        return f"{run['run']:<34} failed: {run['error']}"
    estimate, seconds = run["estimate"], run["seconds"]
    parts, within = estimate.parts, "" if _within(run) else "  OUTSIDE"
    low, middle, high = (estimate.low_seconds, estimate.seconds, estimate.high_seconds)
    steps = f"{run['train_seconds']:.0f} of {parts['training'] + parts['update']:.0f}"
    return (
        f"{run['run']:<34}{seconds:6.0f} s of {middle:5.0f} ({low:.0f} to {high:.0f}):"
        f" {seconds / middle:.2f}; steps {steps}; {estimate.timing}, others"
        f" {estimate.others:.0%}{within}"
    )


def _within(run: MeasuredTime) -> bool:
    return bool(run["estimate"].low_seconds <= run["seconds"] <= run["estimate"].high_seconds)


def report(results: list[MeasuredTime], as_json: bool) -> int:
    """Print the table and the errors of the estimates; return 0 if the goal is met, else 1."""
    measured = [run for run in results if "error" not in run]
    failed = [run["run"] for run in results if "error" in run]
    logs = [math.log(run["seconds"] / run["estimate"].seconds) for run in measured]
    ends = [run["estimate"].high_seconds / run["estimate"].seconds for run in measured]
    held = sum(map(_within, measured))
    summary = {
        "runs": len(measured),
        "within": held,
        "median": math.exp(statistics.median(logs)) if logs else None,
        "spread": math.sqrt(statistics.fmean(log * log for log in logs)) if logs else None,
        "widest": max(ends, default=None),
        "failed": failed,
    }
    if as_json:
        print(json.dumps({"results": results, **summary}))
    else:
        print("\n".join(line(run) for run in results))
        print(json.dumps(summary, indent=1))
    narrow = max(ends, default=math.inf) <= MAX_RANGE_FACTOR * 1.001
    return int(bool(failed) or not measured or held < HELD * len(measured) or not narrow)


if __name__ == "__main__":
    sys.exit(main())
