"""The interpolate job: a run's model at several shares of the way from its base, scored on both axes.

On the target: the run's held-out rows. On what may be forgotten: general prose and questions. Nothing is
trained. `interpolation.parquet` has every row and item at every α; a chosen α may be kept as a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data.render import Rows
from engine.diagnostics import interpolation as diagnosis
from engine.evaluation import general
from engine.evaluation.losses import row_losses
from engine.evaluation.probes import Measured, Probe
from engine.job import Job
from engine.tuning import interpolation, memory, models, prepare, saving
from engine.tuning.precision import choose_dtype
from store.config import TrainConfig
from store.errors import NotFoundError
from store.interpolation import Interpolate
from store.jobdir import JobDir, read_json
from store.methods import METHODS

HELD_OUT = "held_out"  # the run's test rows, beside the probes in the file


def run(job: Job) -> dict[str, Any]:
    """Score the model of `config` {run_id, alphas, save} at every α; the document of docs/architecture.md."""
    asked = Interpolate.parse(
        {"run": job.config["run_id"], **{k: v for k, v in job.config.items() if k in ("alphas", "save")}}
    )
    return Interpolation(job, asked).run()


class Interpolation:
    """One finished run, and where to go between its base and its tuned model."""

    def __init__(self, job: Job, asked: Interpolate) -> None:
        self.job, self.asked = job, asked
        self.folder = JobDir(job.home.jobs / asked.run)
        self.order: dict[str, Any] = read_json(self.folder.config) or {}
        if not self.order or not (self.folder.model / "tunebench.json").exists():
            raise NotFoundError(
                f"The run {asked.run} left no model in {self.folder.path}.",
                fix="Choose a run that finished and was not deleted.",
                field="run",
            )
        self.config = TrainConfig.parse(self.order["config"])
        self.device = torch.device(job.device)

    def run(self) -> dict[str, Any]:
        job, config = self.job, self.config
        job.status("preparing")
        own = self.folder.base  # a merged model, on which its adapter lies
        source = str(own) if own.exists() else models.resolve(config.model, job.home)
        architecture = models.load_config_for(config, source)
        self.tokenizer = models.load_tokenizer(
            source, trust_remote_code=config.trust_remote_code, chat_template=config.chat_template
        )
        positions = prepare.positions(architecture, config)
        split, rows = self.held_out(positions)
        self.probes = [make(self.tokenizer, positions) for make in (general.prose, general.questions)]
        model, line = self.load(source)
        job.status("evaluating")
        points: list[dict[str, Any]] = []
        tables: list[pa.Table] = []
        first: list[Measured] = []
        for alpha in self.asked.alphas:
            line.go(alpha)
            measured = self.measure(model, rows, alpha)
            first = first or measured
            tables += [each.table(alpha=alpha) for each in measured]
            points.append(_point(alpha, first, measured))
        pq.write_table(pa.concat_tables(tables), job.dir.interpolation)
        if self.asked.save is not None:
            line.go(self.asked.save)
            origin = {"interpolated_from": self.asked.run, "alpha": self.asked.save, "own_base": own.exists()}
            saving.save(model, self.tokenizer, config, job.dir.model, origin)
        advised = diagnosis.recommend(points)
        return {
            "run_id": self.asked.run,
            "split": split,
            "points": points,
            "recommended": advised["alpha"],
            "sentence": advised["sentence"],
            "saved": self.asked.save,
        }

    def held_out(self, positions: int | None) -> tuple[str, Rows]:
        """The rows that judged the run, as it saw them."""
        table, data = pq.read_table(self.folder.split), self.order["dataset"]
        names = table["split"].to_numpy(zero_copy_only=False)
        dealt = {part: table["row_id"].to_numpy()[names == part] for part in prepare.PARTS}
        whole = prepare.tokenise(
            self.job.home, self.config, self.tokenizer, dealt,
            fingerprint=data["fingerprint"], kind=data["kind"],
        )  # fmt: skip
        limit = prepare.length_limit(self.config, whole["train"], positions)
        parts = {name: prepare.cut(rows, limit).rows for name, rows in whole.items()}
        split = "test" if len(parts["test"]) else "validation"
        return split, parts[split]

    def load(self, source: str) -> tuple[Any, interpolation.Line]:
        """The tuned model, and the line on which it lies."""
        job, config = self.job, self.config
        job.progress(0, 1, "run", "Loading the models")
        dtype, device = choose_dtype(config.dtype, self.device), str(self.device)
        base = models.load_model(config, source, device, dtype)
        if METHODS[config.method].adapter:
            model = saving.load(self.folder.model, base)
            return model, interpolation.of_adapter(model, config.method)
        tuned = models.load_model(config, str(self.folder.model), device, dtype)
        return tuned, interpolation.of_weights(base, tuned)

    def measure(self, model: Any, rows: Rows, alpha: float) -> list[Measured]:
        """The held-out rows, then each probe."""
        size, whole = self.config.per_device_eval_batch_size, len(self.asked.alphas)

        def on_items(done: int, name: str, of: int) -> None:
            self.job.check_cancelled()
            memory.guard(self.config, self.device)
            place = self.asked.alphas.index(alpha)
            told = f"α {alpha:g}: {name} ({done} of {of})"
            self.job.progress(place, whole, "shares", told)

        found = row_losses(
            model, rows, batch_size=size, device=self.device,
            on_batch=lambda done: on_items(done, "held-out rows", len(rows)),
        )  # fmt: skip
        none = np.zeros(len(rows), np.int32)
        names = [str(row_id) for row_id in found.row_ids]
        own = Measured(
            HELD_OUT, names, [""] * len(rows), found.loss_sum, found.tokens, found.correct, none, none - 1
        )

        def probed(probe: Probe) -> Measured:
            return probe.measure(
                model, batch_size=size, device=self.device,
                on_items=lambda done: on_items(done, probe.name, len(probe)),
            )  # fmt: skip

        return [own, *map(probed, self.probes)]


def _point(alpha: float, first: list[Measured], measured: list[Measured]) -> dict[str, Any]:
    """One α held against the first, which is 0."""
    base, now = first[0], measured[0]
    before, after = (pa.concat_tables([m.table() for m in some[1:]]) for some in (first, measured))
    return diagnosis.point(alpha, now.tokens, base.loss_sum, now.loss_sum, before, after)
