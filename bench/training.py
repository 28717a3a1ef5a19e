"""Training against TRL's SFTTrainer: same model, rows, order, precision and effective batch.

    python bench/training.py [--method lora|qlora|full] [--dtype bfloat16] [--data FILE] [--rounds 2]
    python bench/training.py --memory …    the peak memory of each, in a process of its own

The contenders alternate in one process, so that other work on the machine hits all. TRL runs as its
documentation shows it, on the CPU: `SFTTrainer(model=…, args=SFTConfig(…), train_dataset=…, peft_config=…)`;
then with gradient checkpointing, which SFTConfig switches on by default, switched off; and without padding
too. Only steps are timed, without set-up, and the first step of each round is left out. Losses stand side by
side: they must agree, or the comparison would mean nothing. In bf16 those of full fine-tuning part after a
few steps, since TRL rounds every update into bf16 weights, where most of a small one is lost, and ours go
into fp32 masters; with --dtype float32 they are equal. Memory is the peak of the process over what it held
before the model was loaded. `share` is what a step reaches of the device's own rate of matrix products.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is loaded: as workers have it

import numpy as np
import psutil
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from engine.data.builtin import BuiltinReader
from engine.data.convert import Canonical, converter
from engine.data.formats import choose, column_names
from engine.data.readers import open_source
from engine.data.render import fitting_length, render
from engine.job import Job
from engine.jobs.convert import ensure
from engine.tuning import calibrate, estimate
from engine.tuning.batches import epoch_steps
from engine.tuning.footprint import Rehearsal
from engine.tuning.methods import adapter_config, make_trainable
from engine.tuning.models import load_config, load_model, load_tokenizer
from engine.tuning.train import Training
from store.config import BUNDLED_MODEL, TrainConfig
from store.home import Home
from store.import_config import Source
from store.jobdir import write_json
from store.methods import METHODS

ROWS = 600  # of the data, drawn at random
CPU = torch.device("cpu")
OURS = "Tunebench"
VARIANTS: dict[str, dict[str, Any]] = {
    "TRL, its defaults": {"gradient_checkpointing": True},
    "TRL, no checkpointing": {"gradient_checkpointing": False},
    "TRL, no padding either": {"gradient_checkpointing": False, "padding_free": True},
}

Timed = list[tuple[float, float]]  # (seconds, loss) of each step


class Bench:
    """The rows, and one method for each contender: a round of steps from the same initial weights."""

    def __init__(self, home: Home, config: TrainConfig, steps: int, data: str | None) -> None:
        self.home, self.steps = home, steps
        self.config = config.model_copy(update={"max_steps": steps})
        self.source = str(ensure(BUNDLED_MODEL, home))
        self.tokenizer = load_tokenizer(self.source)
        self.dtype = getattr(torch, config.dtype)
        chats = self.read(data)
        rows = render(self.tokenizer, range(len(chats)), chats)
        rows = rows.truncated(fitting_length(rows.lengths, None))[0]
        self.rows = rows.take(np.flatnonzero(rows.trained_counts))
        self.order = [int(i) for step in self.batches() for part in step for i in part]

    def read(self, data: str | None) -> list[Any]:
        """Conversations of a file, or of the sample data set."""
        reader = open_source(self.home, Source(path=str(Path(data).resolve()))) if data else BuiltinReader()
        with contextlib.closing(reader):
            found = [row for _, row in reader.rows() if isinstance(row, dict)]
        format, columns, _ = choose(column_names(reader.columns, found[:500]), found[:500], None, {})
        convert = converter(format, columns)
        chosen = np.random.default_rng(0).choice(len(found), min(ROWS, len(found)), replace=False)
        return [_conversation(convert(found[i])) for i in chosen]

    def batches(self) -> list[list[np.ndarray]]:
        """The first steps of the first epoch."""
        return epoch_steps(
            self.rows.lengths,
            seed=self.config.seed,
            epoch=0,
            batch_size=self.config.per_device_train_batch_size,
            accumulation=self.config.gradient_accumulation_steps,
        )[: self.steps]

    def run(self, name: str) -> Timed:
        """A round of the contender of that name."""
        return self.tunebench() if name == OURS else self.trl(**VARIANTS[name])

    def tunebench(self) -> Timed:
        """Steps of our loop."""
        folder = Path(tempfile.mkdtemp(dir=self.home.jobs))
        write_json(folder / "config.json", {"config": {}, "home": str(self.home.path), "device": "cpu"})
        torch.manual_seed(0)
        model = load_model(self.config, self.source, "cpu", self.dtype)
        model = make_trainable(model, self.config, self.dtype)
        training = Training(Job(folder), self.config, model, self.rows, self.rows)
        timed = []
        for step in self.batches():
            started = time.perf_counter()
            training.one_step(step)
            timed.append((time.perf_counter() - started, training.state.curve[-1][1]))
        return timed

    def trl(self, **variant: Any) -> Timed:
        """Steps of SFTTrainer on the same tokens and labels in the same order."""
        pairs = [self.rows.row(i) for i in self.order]
        dataset = Dataset.from_list(
            [{"input_ids": ids.tolist(), "labels": np.where(on, ids, -100).tolist()} for ids, on in pairs]
        )
        config, clock = self.config, _Clock()
        arguments = SFTConfig(
            output_dir=tempfile.mkdtemp(dir=self.home.cache),
            use_cpu=True,
            bf16=False,  # of autocast; the precision is that of the loaded weights
            per_device_train_batch_size=config.per_device_train_batch_size,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            max_steps=self.steps,
            max_length=None,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_steps,
            train_sampling_strategy="sequential",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **variant,
        )
        torch.manual_seed(0)
        model = self.trl_model()
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=self.tokenizer,
            peft_config=adapter_config(model, config) if METHODS[config.method].adapter else None,
            callbacks=[clock],
        )
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        return list(zip(clock.seconds, losses, strict=True))

    def trl_model(self) -> Any:
        """The base model; for qlora with the quantisation that ours has."""
        options: dict[str, Any] = {"dtype": self.dtype}
        if self.config.held:
            options["device_map"] = {"": "cpu"}
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
            )
        return AutoModelForCausalLM.from_pretrained(self.source, **options)

    def share(self, seconds: list[float]) -> float:
        """What our steps reach of the rate of matrix products; no gradients of frozen weights are counted."""
        architecture = load_config(self.source)
        counts = Rehearsal(architecture, self.config, self.dtype, "cpu").counts
        steps = [np.concatenate(step) for step in self.batches()]
        passes = 2 if METHODS[self.config.method].adapter else 3
        rates = [
            passes
            * estimate.forward_flops(
                architecture,
                counts,
                self.rows.lengths[step].sum(),
                self.rows.trained_counts[step].sum(),
                self.rows.lengths[step].mean(),
            )
            / taken
            for step, taken in zip(steps, seconds, strict=True)
        ]
        return statistics.median(rates[1:]) / calibrate.gflops(self.home, CPU, self.dtype) / 1e9


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def _conversation(row: Canonical) -> Any:
    """A row as `render` takes it."""
    if row.roles is None:
        return row.text
    return [{"role": role, "content": text} for role, text in zip(row.roles, row.contents, strict=True)]


def measure_memory(bench: Bench, name: str) -> float:
    """Peak in MiB over what the process held before the contender began."""
    before = psutil.Process().memory_info().rss
    bench.run(name)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def peaks(names: list[str]) -> dict[str, float]:
    """The memory of each contender, by this same command in processes of their own."""
    found = {}
    for name in names:
        command = [sys.executable, *sys.argv, "--only", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = float(output.splitlines()[-1])
    return found


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
        found = peaks(names)
        ratios = {name: found[OURS] / peak for name, peak in found.items()}
        if given.json:
            print(json.dumps({"peak_mib": found, "ratio": ratios}))
            return
        print(f"{_what(given)}: peak over the bare process")
        for name, peak in found.items():
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
    """Tokens a second (median over steps, without the first of each round), ratios, losses."""
    tokens = [sum(int(bench.rows.lengths[part].sum()) for part in step) for step in bench.batches()]
    rates, losses, seconds = {}, {}, {}
    for name, found in rounds.items():
        seconds[name] = [statistics.median(s for s, _ in step) for step in zip(*found, strict=True)]
        rates[name] = statistics.median(
            count / s for timed in found for count, (s, _) in list(zip(tokens, timed, strict=True))[1:]
        )
        losses[name] = [round(loss, 4) for _, loss in found[0]]
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
    """By how much a loss differs, as a share."""
    return round(other / ours - 1, 5)


def _what(given: argparse.Namespace) -> str:
    return f"{given.method}, {given.dtype}, {given.data or 'sample data'}"


if __name__ == "__main__":
    main()
