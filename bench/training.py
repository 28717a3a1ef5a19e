"""Training throughput against TRL's SFTTrainer: same model, rows, order, precision and effective batch.

    python bench/training.py [--dtype bfloat16] [--method lora] [--rounds 2] [--steps 6] [--json]

The two alternate in one process, so that other work on the machine hits both. TRL runs as its
documentation shows it, on the CPU: `SFTTrainer(model=…, args=SFTConfig(…), train_dataset=…, peft_config=…)`;
a second variant has gradient checkpointing, which SFTConfig switches on by default, switched off. Only
steps are timed, without set-up, and the first step of each round is left out. Losses stand side by side:
they must agree, or the comparison would mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from engine.data.builtin import BuiltinReader
from engine.data.render import Rows, render
from engine.job import Job
from engine.jobs.convert import ensure
from engine.tuning.batches import epoch_steps
from engine.tuning.methods import adapter_config, make_trainable
from engine.tuning.models import load_model, load_tokenizer
from engine.tuning.train import Training
from store.config import BUNDLED_MODEL, TrainConfig
from store.home import Home
from store.jobdir import write_json

Timed = list[tuple[float, float]]  # (seconds, loss) of each step


class Bench:
    """The rows, and one method for each contender: a round of steps from the same initial weights."""

    def __init__(self, home: Home, config: TrainConfig, steps: int) -> None:
        self.home, self.steps = home, steps
        self.config = config.model_copy(update={"max_steps": steps})
        self.source = str(ensure(BUNDLED_MODEL, home))
        self.tokenizer = load_tokenizer(self.source)
        self.dtype = getattr(torch, config.dtype)
        self.rows = self.render_rows()
        self.order = [int(i) for step in self.batches()[:steps] for part in step for i in part]

    def render_rows(self) -> Rows:
        """600 rows of the sample data set, cut as training would cut them."""
        rows = [row for _, row in BuiltinReader().rows() if isinstance(row, dict)]
        chosen = np.random.default_rng(0).choice(len(rows), 600, replace=False)
        chats = [
            [
                {"role": "user", "content": rows[i]["prompt"]},
                {"role": "assistant", "content": rows[i]["completion"]},
            ]
            for i in chosen
        ]
        return render(self.tokenizer, range(600), chats).truncated(104)[0]

    def batches(self) -> list[list[np.ndarray]]:
        """The steps of the first epoch."""
        return epoch_steps(
            self.rows.lengths,
            seed=self.config.seed,
            epoch=0,
            batch_size=self.config.per_device_train_batch_size,
            accumulation=self.config.gradient_accumulation_steps,
        )

    def tunebench(self) -> Timed:
        """Steps of our loop."""
        folder = Path(tempfile.mkdtemp(dir=self.home.jobs))
        write_json(folder / "config.json", {"config": {}, "home": str(self.home.path), "device": "cpu"})
        job = Job(folder)
        torch.manual_seed(0)
        model = make_trainable(
            load_model(self.config, self.source, "cpu", self.dtype), self.config, self.dtype
        )
        training = Training(job, self.config, model, self.rows, self.rows)
        timed = []
        for step in self.batches()[: self.steps]:
            started = time.perf_counter()
            training.one_step(step)
            timed.append((time.perf_counter() - started, training.state.curve[-1][1]))
        return timed

    def trl(self, *, checkpointing: bool) -> Timed:
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
            gradient_checkpointing=checkpointing,
            per_device_train_batch_size=config.per_device_train_batch_size,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            max_steps=self.steps,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=config.warmup_steps,
            train_sampling_strategy="sequential",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(self.source, dtype=self.dtype)
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=self.tokenizer,
            peft_config=adapter_config(model, config) if config.method == "lora" else None,
            callbacks=[clock],
        )
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        return list(zip(clock.seconds, losses, strict=True))


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--method", default="lora", choices=["lora", "full"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--home", help="a home folder whose converted model is used")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(given.home or temporary).create()
        config = TrainConfig(dataset="bench", method=given.method, dtype=given.dtype, evaluations=1)
        bench = Bench(home, config.resolved(600), given.steps)
        contenders = {
            "Tunebench": bench.tunebench,
            "TRL, its defaults": lambda: bench.trl(checkpointing=True),
            "TRL, no checkpointing": lambda: bench.trl(checkpointing=False),
        }
        rounds: dict[str, list[Timed]] = {name: [] for name in contenders}
        for _ in range(given.rounds):
            for name, contender in contenders.items():
                rounds[name].append(contender())
    report(given, config, rounds)


def report(given: argparse.Namespace, config: TrainConfig, rounds: dict[str, list[Timed]]) -> None:
    """Examples a second (median over steps, without the first of each round), ratios, losses."""
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    rates = {
        name: batch / statistics.median(s for timed in found for s, _ in timed[1:])
        for name, found in rounds.items()
    }
    losses = {name: [round(loss, 4) for _, loss in found[0]] for name, found in rounds.items()}
    ratios = {name: rates["Tunebench"] / rate for name, rate in rates.items()}
    if given.json:
        print(json.dumps({"examples_per_second": rates, "ratio": ratios, "losses": losses}))
        return
    print(f"{given.method}, {given.dtype}, {batch} rows a step, {torch.get_num_threads()} threads")
    for name, rate in rates.items():
        print(f"{name:24}{rate:6.2f} examples/s   1 : {ratios[name]:.2f}   losses {losses[name]}")


if __name__ == "__main__":
    main()
