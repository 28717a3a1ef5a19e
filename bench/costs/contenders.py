"""Contenders of the training bench: our loop, and SFTTrainer on the same rows in the same order."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from engine.data.conversion.format_detection import FormatOptions, choose_format
from engine.data.conversion.row_conversion import CanonicalRow, make_converter
from engine.data.readers.file_rows import list_column_names
from engine.data.readers.named_datasets import BuiltinReader
from engine.data.readers.source_reader import open_source
from engine.models import hardware
from engine.models.batching import build_epoch_steps
from engine.models.bundled import ensure_bundled_model
from engine.models.loading import load_config, load_model, load_tokenizer
from engine.models.tokenization.rendering import compute_fitting_length, render
from engine.models.tuning_methods import build_adapter_config, make_trainable
from engine.training.costs import footprint
from engine.training.costs.footprint import Rehearsal
from engine.training.training_loop import TrainingLoop
from engine.worker.job import WorkerJob
from store.core.home import Home
from store.core.job_folder import write_json
from store.data.config import Source
from store.training.methods import METHODS
from store.training.train_config import BUNDLED_MODEL, TrainConfig

ROWS = 600  # rows of the data, drawn at random
CPU = torch.device("cpu")
OURS = "Tunebench"
VARIANTS: dict[str, dict[str, Any]] = {
    "TRL, its defaults": {"gradient_checkpointing": True},
    "TRL, no checkpointing": {"gradient_checkpointing": False},
    "TRL, no padding either": {"gradient_checkpointing": False, "padding_free": True},
}

Timed = list[tuple[float, float]]  # (seconds, loss) of each step


class Bench:
    """The rows, and one method per contender: a round of steps from the same initial weights."""

    def __init__(self, home: Home, config: TrainConfig, steps: int, file: str | None) -> None:
        self.home, self.steps = home, steps
        self.config = config.model_copy(update={"max_steps": steps})
        self.source = str(ensure_bundled_model(BUNDLED_MODEL, home))
        self.tokenizer = load_tokenizer(self.source)
        self.dtype = getattr(torch, config.dtype)
        chats = self.read(file)
        rows = render(self.tokenizer, range(len(chats)), chats)
        rows = rows.truncated(compute_fitting_length(rows.lengths, None))[0]
        self.rows = rows.take(np.flatnonzero(rows.trained_counts))
        self.order = [int(i) for step in self.batches() for part in step for i in part]

    def read(self, file: str | None) -> list[Any]:
        """Read the conversations of a file, or of the sample data set."""
        reader = open_source(self.home, Source(path=str(Path(file).resolve()))) if file else BuiltinReader()
        with contextlib.closing(reader):
            rows = [row for _, row in reader.rows() if isinstance(row, dict)]
        format, columns, *_ = choose_format(
            list_column_names(reader.columns, rows[:500]), rows[:500], FormatOptions(None, {})
        )
        convert = make_converter(format, columns)
        chosen = np.random.default_rng(0).choice(len(rows), min(ROWS, len(rows)), replace=False)
        return [_conversation(convert(rows[i])) for i in chosen]

    def batches(self) -> list[list[np.ndarray]]:
        """Return the batches of the first steps of the first epoch."""
        return build_epoch_steps(
            self.rows.lengths,
            seed=self.config.seed,
            epoch=0,
            batch_size=self.config.per_device_train_batch_size,
            accumulation=self.config.gradient_accumulation_steps,
        )[: self.steps]

    def run(self, name: str) -> Timed:
        """Run one round of the contender with that name."""
        return self.tunebench() if name == OURS else self.trl(**VARIANTS[name])

    def tunebench(self) -> Timed:
        """Run the steps in our training loop."""
        folder = Path(tempfile.mkdtemp(dir=self.home.jobs))
        write_json(folder / "config.json", {"config": {}, "home": str(self.home.path), "device": "cpu"})
        torch.manual_seed(0)
        model = load_model(self.config, self.source, "cpu", self.dtype)
        model = make_trainable(model, self.config, self.dtype)
        training = TrainingLoop(WorkerJob(folder), self.config, model, self.rows, self.rows)
        timed = []
        for step in self.batches():
            started = time.perf_counter()
            training.one_step(step)
            timed.append((time.perf_counter() - started, training.state.curve[-1][1]))
        return timed

    def trl(self, **variant: Any) -> Timed:
        """Run SFTTrainer's steps on the same tokens and labels in the same order."""
        pairs = [self.rows.row(i) for i in self.order]
        dataset = Dataset.from_list(
            [{"input_ids": ids.tolist(), "labels": np.where(on, ids, -100).tolist()} for ids, on in pairs]
        )
        config, clock = self.config, _Clock()
        arguments = SFTConfig(
            output_dir=tempfile.mkdtemp(dir=self.home.cache),
            use_cpu=True,
            bf16=False,  # autocast off; the precision is that of the loaded weights
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
            peft_config=build_adapter_config(model, config) if METHODS[config.method].adapter else None,
            callbacks=[clock],
        )
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        return list(zip(clock.seconds, losses, strict=True))

    def trl_model(self) -> Any:
        """Load the base model; for qlora with the same quantization as ours."""
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
        """Return our steps' share of the device's matrix product rate; gradients of frozen weights are not
        counted.
        """
        architecture = load_config(self.source)
        text = architecture.get_text_config()
        counts = Rehearsal(architecture, self.config, self.dtype, "cpu").counts
        steps = [np.concatenate(step) for step in self.batches()]
        passes = 2 if METHODS[self.config.method].adapter else 3
        rates = [
            passes
            * sum(
                footprint.flops(
                    text,
                    counts.linear,
                    self.rows.lengths[step].sum(),
                    self.rows.trained_counts[step].sum(),
                    self.rows.lengths[step].mean(),
                )
            )
            / taken
            for step, taken in zip(steps, seconds, strict=True)
        ]
        return statistics.median(rates[1:]) / hardware.measure_gflops(self.home, CPU, self.dtype) / 1e9


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def _conversation(row: CanonicalRow) -> Any:
    """Return a row in the form that `render` accepts."""
    if row.roles is None:
        return row.text
    return [{"role": role, "content": text} for role, text in zip(row.roles, row.contents, strict=True)]
