"""The time that the form predicts against the time that runs take, over CASES.

    python bench/costs/time.py [--only NAME] [--data FILE] [--steps 8] [--home DIR] [--json]

Prediction and run are the real jobs, each in a process of its own (as in bench/costs/memory.py). No run of
the past corrects the prediction. Of a step: what is predicted for training and update, over what the steps
after the first took, token for token. Of a run: all of it, evaluations included. Without a file the rows are
of 20 to 512 tokens; a file is imported first. Exits with 1 where a step is further off than LIMIT.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.costs.memory import SPLIT, work, write_prose
from engine.launchers import zygote
from store.contract.home import Home

CASES: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA, fp32": {"dtype": "float32"},
    "LoRA, gradient checkpointing": {"gradient_checkpointing": True},
    "LoRA, dropout": {"lora_dropout": 0.05},
    "QLoRA": {"method": "qlora"},
    "full": {"method": "full"},
    "full, fp32": {"method": "full", "dtype": "float32"},
    "top layers only": {"method": "freeze"},
    "IA3": {"method": "ia3"},
    "prompt tuning": {"method": "prompt_tuning"},
    "classification": {"task": "classification"},
    "classification, full": {"task": "classification", "method": "full"},
}
COMMON = {"max_eval_rows": 16, "evaluations": 1, "sample_prompts": 0, "probes": False}
LIMIT = 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="a case's name; may be repeated")
    parser.add_argument("--data", type=Path, help="a file of rows in place of prose")
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps of each run")
    parser.add_argument("--home", type=Path, help="a home folder that has the model; new where left out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    for problem in zygote.preload():
        print(f"not preloaded: {problem}", file=sys.stderr)
    folder = given.home or Path(tempfile.mkdtemp(prefix="time-"))
    home = Home(folder).create()
    try:
        fingerprint = rows(home, given.data)
        results = []
        for name, changes in CASES.items():
            if not given.only or name in given.only:
                config = COMMON | {"dataset": fingerprint, "max_steps": given.steps} | changes
                results.append(measure(home, name, config))
                print(line(results[-1]), file=sys.stderr, flush=True)
    finally:
        if not given.home:
            shutil.rmtree(folder, ignore_errors=True)
    return report(results, given.json)


def rows(home: Home, data: Path | None) -> str:
    """The fingerprint of the data set to train on."""
    if not data:
        write_prose(home, "varied", shortest=60)
        return "varied"
    answer = work(home, "import", {"name": data.stem, "source": {"path": str(data.resolve())}})
    if "error" in answer:
        raise SystemExit(answer["error"]["message"])
    return str(answer["result"]["fingerprint"])


def measure(home: Home, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step and of the run, predicted and measured; or the error of the run."""
    body = {"config": config, "fingerprint": config["dataset"], "split": SPLIT, "row": 0}
    preview = work(home, "preview", body)
    if "error" in preview:
        return {"run": name, "error": preview["error"]["message"]}
    result = preview["result"]
    data = {"fingerprint": config["dataset"], "name": config["dataset"], "kind": "chat"}
    trained = work(home, "train", result["config"], dataset=data, split=SPLIT)
    if "error" in trained:
        return {"run": name, "error": trained["error"]["message"]}
    predicted, parts, steps = result["time"], result["time"]["parts"], result["steps"]
    tokens, seconds = after_first(trained["metrics"])
    passed = result["tokens_per_epoch"] * steps / result["steps_per_epoch"]
    expected = (parts["training"] + parts["update"]) * tokens / passed
    return {
        "run": name,
        "tokens_per_second": tokens / seconds,
        "step": seconds / (steps - 1),
        "predicted_step": expected / (steps - 1),
        "ratio": seconds / expected,
        "seconds": trained["facts"]["run_seconds"],
        "predicted_seconds": predicted["counted_seconds"],
        "run_ratio": trained["facts"]["run_seconds"] / predicted["counted_seconds"],
        "parts": parts,
        "basis": predicted["basis"],
    }


def after_first(metrics: list[dict[str, float]]) -> tuple[float, float]:
    """Tokens and seconds of the steps after the first, in which kernels are compiled."""
    steps = [m for m in metrics if "train/tokens_seen" in m]
    seen = [m["train/tokens_seen"] for m in steps]
    tokens = [b - a for a, b in itertools.pairwise(seen)]
    seconds = [n / m["train/tokens_per_second"] for n, m in zip(tokens, steps[1:], strict=True)]
    return sum(tokens), sum(seconds)


def line(run: dict[str, Any]) -> str:
    if "error" in run:
        return f"{run['run']:<34} failed: {run['error']}"
    return (
        "{run:<30}{tokens_per_second:6.0f} tokens/s  step {step:6.2f} s of {predicted_step:6.2f}: {ratio:.2f}"
        "   run {seconds:5.0f} s of {predicted_seconds:5.0f}: {run_ratio:.2f}"
    ).format(**run)


def report(results: list[dict[str, Any]], as_json: bool) -> int:
    """The table, how far off the predictions were, and whether the goal is met."""
    measured = [run for run in results if "error" not in run]
    failed = [run["run"] for run in results if "error" in run]
    summary: dict[str, Any] = {"runs": len(measured), "failed": failed}
    for name in ("ratio", "run_ratio"):
        logs = [math.log(run[name]) for run in measured]
        off = [math.exp(abs(log)) for log in logs]
        summary[name] = {
            "median": math.exp(statistics.median(logs)) if logs else None,
            "worst_factor": max(off, default=None),
            "spread": math.sqrt(sum(log * log for log in logs) / len(logs)) if logs else None,
        }
    if as_json:
        print(json.dumps({"runs": results, **summary}))
    else:
        print("\n".join(line(run) for run in results))
        print("\n".join(sorted({run["basis"] for run in measured})))
        print(json.dumps(summary, indent=1))
    return int(not measured or bool(failed) or summary["ratio"]["worst_factor"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
