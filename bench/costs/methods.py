"""Gain, cost and forgetting of each method on the same rows: the table of docs/methods.md.

    python bench/costs/methods.py banking77_train.csv [--rows 500] [--held-out 200] [--case lora ia3] [--json]

Each method is launched like any other run, with its own defaults, and also LoRA with a classification
head. Gain: nats per token on held-out rows, from the run's verdict. Right: share of held-out rows whose
label is the most likely one, if responses are labels. Forgetting: increase of the cross-entropy of other
text, Python's own help, in stretches of 256 tokens, with an interval over the stretches; not for a head,
which has no words. Cost: training time, peak memory, size of the result.
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

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from engine.evaluation.statistics.intervals import ratio_interval
from engine.models import loading, saved_models
from engine.models.hardware import choose_dtype
from engine.models.losses import RowLosses, compute_row_losses
from engine.models.tokenization.rendering import TokenRows
from store.core.home import Home
from store.training.methods import METHODS
from store.training.train_config import BUNDLED_MODEL, TrainConfig

COMMAND = [sys.executable, "-m", "tunebench.cli"]
HEAD = "classification"
STRETCH, STRETCHES = 256, 80  # tokens per stretch, and number of stretches: 20,480 tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="a file of rows")
    parser.add_argument("--rows", type=int, default=500, help="training rows")
    parser.add_argument("--held-out", type=int, default=200, help="validation and test rows")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--case", nargs="+", default=[*METHODS, HEAD], choices=[*METHODS, HEAD])
    parser.add_argument("--home", help="a home folder to keep, whose finished runs are not repeated")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home = Path(given.home or tempfile.mkdtemp(prefix="methods-"))
    os.environ |= {"TUNEBENCH_HOME": str(home), "TUNEBENCH_NO_SAMPLE": "1"}
    try:
        names = {d["name"] for d in json.loads(tunebench("data", "list", "--json"))["datasets"]}
        if "Rows" not in names:
            tunebench("import", given.data, "--name", "Rows")
        results = [measure(home, case, given) for case in given.case]
    finally:
        tunebench("down")
        if not given.home:
            shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(results) if given.json else table(results))


def measure(home: Path, case: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one case, and evaluate its model on other text."""
    title = "LoRA under a head" if case == HEAD else METHODS[case].title
    name = f"{title}, {given.rows} rows"
    done = {run["name"]: run for run in json.loads(tunebench("runs", "--json"))["runs"]}
    if name not in done or done[name]["status"] != "finished":
        config = {"name": name, "dataset": "Rows", "max_train_rows": given.rows}
        config |= {"task": HEAD} if case == HEAD else {"method": case}
        config |= {"num_train_epochs": given.epochs, "max_eval_rows": given.held_out, "evaluations": 4}
        config |= {"sample_prompts": 0, "early_stopping": False}
        file = home / "run.yaml"
        file.write_text(json.dumps(config))  # JSON is valid YAML
        tunebench("launch", str(file), "--wait", "--json")
    run = json.loads(tunebench("show", name, "--json"))
    facts = run["facts"]
    folder = home / "jobs" / run["run_id"] / "model"
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {
        "case": case,
        "title": title,
        "learning_rate": run["config"]["learning_rate"],
        "trained": facts["trainable_parameters"],
        "gain": None if case == HEAD else run["verdict"]["gain"],
        "right": right(run["verdict"], "tuned"),
        "right_before": right(run["verdict"], "prompted"),
        "forgot": None if case == HEAD else forgot(home, folder, TrainConfig.parse(run["config"])),
        "minutes": facts["train_seconds"] / 60,
        "peak_gib": facts["peak_memory_gib"],
        "predicted_gib": facts["estimated_memory_gib"],
        "file_mb": weights / 1e6,
    }


def right(verdict: dict[str, Any], model: str) -> dict[str, float] | None:
    """Return the share of held-out rows whose label the model found; None if the responses are not labels."""
    metrics = (verdict.get("classification") or {}).get("models", {}).get(model)
    return metrics and metrics["accuracy"]


def forgot(home: Path, folder: Path, config: TrainConfig) -> dict[str, float]:
    """Return the increase of the cross-entropy of other text, in nats per token, paired by passage."""
    device = torch.device("cpu")
    dtype = choose_dtype(config.dtype, device)
    source = loading.resolve_model(BUNDLED_MODEL, Home(home))
    rows = other_text(source)
    base = loading.load_model(config, source, "cpu", dtype)
    before = losses(base, rows)
    if METHODS[config.method].adapter:
        tuned = saved_models.load_tuned_model(folder, base)
    else:
        tuned = loading.load_model(config, str(folder), "cpu", dtype)
    after = losses(tuned, rows)
    rise = ratio_interval(after.loss_sum - before.loss_sum, after.tokens)
    return {"value": rise.value, "low": rise.low, "high": rise.high, "n": rise.n}


def losses(model: Any, rows: TokenRows) -> RowLosses:
    return compute_row_losses(model, rows, batch_size=8, device="cpu", on_batch=lambda done: None)


def other_text(source: str) -> TokenRows:
    """Return passages of Python's help texts; all tokens except the first of each are scored."""
    tokenizer = loading.load_tokenizer(source)
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    ids = np.asarray(tokenizer(text).input_ids[: STRETCH * STRETCHES], np.int32)
    trained = np.arange(len(ids)) % STRETCH != 0
    starts = np.arange(0, len(ids) + 1, STRETCH)
    return TokenRows(np.arange(STRETCHES), starts, ids, trained, np.zeros(STRETCHES, np.uint8))


def table(results: list[dict[str, Any]]) -> str:
    """Format the results as a Markdown table."""
    heads = (
        "method", "rate", "trained", "gained, nats a token", "right", "forgot, nats a token", "training, min",
        "peak, GiB (predicted)", "file, MB",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for run in results:
        cells = (
            run["title"], f"{run['learning_rate']:g}", f"{run['trained']:,}", interval(run["gain"]),
            interval(run["right"]), interval(run["forgot"]), f"{run['minutes']:.1f}",
            f"{run['peak_gib']:.2f} ({run['predicted_gib']:.2f})", f"{run['file_mb']:.1f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(of: dict[str, float] | None) -> str:
    return "–" if of is None else f"{of['value']:.2f} ({of['low']:.2f} to {of['high']:.2f})"


def tunebench(*words: str) -> str:
    done = subprocess.run([*COMMAND, *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
