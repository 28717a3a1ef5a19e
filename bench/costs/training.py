"""Training compared with TRL's SFTTrainer: same model, rows, order, precision and effective batch.

    python bench/costs/training.py [--method lora|qlora|full] [--dtype bfloat16] [--data FILE] [--rounds 2]
    python bench/costs/training.py --memory …    peak memory of each, in its own process

The contenders alternate in one process, so that other work on the machine affects all. TRL runs as in its
documentation, on the CPU: `SFTTrainer(model=…, args=SFTConfig(…), train_dataset=…, peft_config=…)`; then
with gradient checkpointing, which SFTConfig enables by default, disabled; and also without padding. Only
steps are timed, without set-up and without the first step of each round. Losses are shown side by side:
they must agree, or the comparison would mean nothing. In bf16 those of full fine-tuning diverge after a
few steps, since TRL rounds every update into bf16 weights, where most of a small one is lost, and ours
goes into fp32 masters; with --dtype float32 they are equal. Memory is the peak of the process beyond its
memory before the model was loaded. `share` is a step's fraction of the device's own rate of matrix
products.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # set before torch is loaded, as in workers

import psutil
import torch

from bench.costs.contenders import OURS, ROWS, VARIANTS, Bench, Timed
from store.core.home import Home
from store.training.train_config import TrainConfig


def measure_memory(bench: Bench, name: str) -> float:
    """Return the peak memory in MiB beyond that of the process before the contender began."""
    before = psutil.Process().memory_info().rss
    bench.run(name)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def peaks(names: list[str]) -> dict[str, float]:
    """Measure each contender's memory by running this command in a separate process."""
    peak_mib = {}
    for name in names:
        command = [sys.executable, *sys.argv, "--only", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peak_mib[name] = float(output.splitlines()[-1])
    return peak_mib


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--method", default="lora", choices=["lora", "qlora", "full"])
    parser.add_argument("--data", help="a file of rows in place of the sample data")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--home", help="a home folder whose converted model is used")
    parser.add_argument("--memory", action="store_true", help="peak memory in place of speed")
    parser.add_argument("--only", choices=[OURS, *VARIANTS], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    given = options()
    names = [OURS, *VARIANTS]
    if given.memory and not given.only:
        peak_mib = peaks(names)
        ratios = {name: peak_mib[OURS] / peak for name, peak in peak_mib.items()}
        if given.json:
            print(json.dumps({"peak_mib": peak_mib, "ratio": ratios}))
            return
        print(f"{_what(given)}: peak over the bare process")
        for name, peak in peak_mib.items():
            print(f"{name:24}{peak:8.0f} MiB   {ratios[name]:.2f}")
        return
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(given.home or temporary).create()
        config = TrainConfig(dataset="bench", method=given.method, dtype=given.dtype, evaluations=1)
        bench = Bench(home, config.resolved(ROWS), given.steps, given.data)
        if given.memory:
            print(measure_memory(bench, given.only))
            return
        rounds: dict[str, list[Timed]] = {name: [] for name in names if given.only in (None, name)}
        for _ in range(given.rounds):
            for name in rounds:
                rounds[name].append(bench.run(name))
        report(given, bench, rounds)


def report(given: argparse.Namespace, bench: Bench, rounds: dict[str, list[Timed]]) -> None:
    """Print the tokens per second (median over steps, without the first of each round), the ratios and the
    losses.
    """
    tokens = [sum(int(bench.rows.lengths[part].sum()) for part in step) for step in bench.batches()]
    rates, losses, seconds = {}, {}, {}
    for name, timed_rounds in rounds.items():
        seconds[name] = [statistics.median(s for s, _ in step) for step in zip(*timed_rounds, strict=True)]
        rates[name] = statistics.median(
            count / s for timed in timed_rounds for count, (s, _) in list(zip(tokens, timed, strict=True))[1:]
        )
        losses[name] = [round(loss, 4) for _, loss in timed_rounds[0]]
    first = next(iter(rounds))
    document: dict[str, Any] = {
        "tokens_per_second": rates,
        "ratio": {name: rates[first] / rate for name, rate in rates.items()},
        "losses": losses,
        "loss_off_by": {
            name: [_off(*pair) for pair in zip(losses[first], others, strict=True)]
            for name, others in losses.items()
        },
        "share": bench.share(seconds[first]),
    }
    if given.json:
        print(json.dumps(document))
        return
    print(f"{_what(given)}, {sum(tokens) // len(tokens)} tokens a step, {torch.get_num_threads()} threads")
    for name, rate in rates.items():
        print(f"{name:24}{rate:7.0f} tokens/s   {document['ratio'][name]:.2f}   losses {losses[name]}")
        print(f"{'':24}off by {document['loss_off_by'][name]}")
    print(f"A step of {first} reaches {document['share']:.0%} of the device's rate of matrix products.")


def _off(ours: float, other: float) -> float:
    """Return the relative difference of two losses."""
    return round(other / ours - 1, 5)


def _what(given: argparse.Namespace) -> str:
    return f"{given.method}, {given.dtype}, {given.data or 'sample data'}"


if __name__ == "__main__":
    main()
