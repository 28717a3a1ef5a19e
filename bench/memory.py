"""The memory that the form predicts against the peak that runs reach, in a sweep of real runs.

    python bench/memory.py [--steps 3] [--json]

Rows are as long as `max_length` lets them be, so that every step is the largest that the prediction is
for. Each run is launched like any other and reports its own peak; the prediction is the one that the form
showed. Exits with 1 where a peak lies outside the predicted interval.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.tuning.estimate import MEMORY_HIGH, MEMORY_LOW

COMMAND = [sys.executable, "-m", "tunebench.cli"]
RUNS: list[dict[str, Any]] = [
    {},
    {"max_length": 64},
    {"max_length": 512},
    {"per_device_train_batch_size": 2},
    {"r": 64, "lora_dropout": 0.05},
    {"gradient_checkpointing": True},
    {"dtype": "float32"},
    {"completion_only_loss": False},
    {"method": "qlora"},
    {"method": "full"},
    {"method": "full", "dtype": "float32", "per_device_train_batch_size": 2},
    {"method": "full", "optim": "paged_adamw_8bit", "per_device_train_batch_size": 2},
]
COMMON = {
    "dataset": "Prose",
    "max_length": 256,
    "max_eval_rows": 8,
    "evaluations": 1,
    "sample_prompts": 0,
    "gradient_accumulation_steps": 1,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=3, help="optimiser steps of each run")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="memory-"))
    os.environ |= {"TUNEBENCH_HOME": str(home), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        rows = home / "prose.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in prose()), encoding="utf-8")
        tunebench("import", str(rows), "--name", "Prose")
        found = [measure(home, changes, arguments.steps) for changes in RUNS]
    finally:
        tunebench("down")
        shutil.rmtree(home, ignore_errors=True)
    if arguments.json:
        print(json.dumps(found))
    else:
        for run in found:
            print(
                "{run:<75}{peak:6.2f} of {predicted:5.2f} ({low:.2f} to {high:.2f})  {ratio:.2f}".format(
                    **run
                )
            )
    outside = [run for run in found if not run["low"] <= run["peak"] <= run["high"]]
    print(f"{len(outside)} of {len(found)} outside the predicted interval", file=sys.stderr)
    return int(bool(outside))


def prose() -> list[dict[str, str]]:
    """Two consecutive stretches of Python's own help texts a row, over 256 tokens each."""
    text = " ".join(" ".join(pydoc_data.topics.topics.values()).split())
    pieces = [text[at : at + 1500] for at in range(0, 400 * 3000, 1500) if at + 1500 < len(text)]
    return [
        {"prompt": first[:100], "completion": second + third}
        for first, second, third in zip(pieces, pieces[1:], pieces[2:], strict=False)
    ][:200]


def measure(home: Path, changes: dict[str, Any], steps: int) -> dict[str, Any]:
    """One run to its end: what was predicted and what it took, in GiB."""
    config = COMMON | changes | {"max_steps": steps}
    file = home / "run.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    facts = json.loads(tunebench("launch", str(file), "--wait", "--json"))["facts"]
    peak, predicted = facts["peak_memory_gib"], facts["estimated_memory_gib"]
    named = ", ".join(f"{key} {value}" for key, value in changes.items()) or "lora, batch 8, 256 tokens"
    low, high = (predicted * share for share in (MEMORY_LOW, MEMORY_HIGH))
    return {"run": named, "peak": peak, "predicted": predicted, "low": low, "high": high} | {
        "ratio": peak / predicted
    }


def tunebench(*words: str) -> str:
    done = subprocess.run([*COMMAND, *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
