"""A finished run's model at any interpolation share between base and tuned weights, loaded once.

Target: the rows that judged the run. What may be forgotten: the general probes and, if the run has them, the
base model's own texts and the data sets that are its probes. The run's verdict measurements of both ends are
reused from its folder, so that a share in between costs one pass instead of three.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from engine.data import training_rows
from engine.evaluation import evaluated_model
from engine.evaluation.probes import configured_probes, suite_probes
from engine.evaluation.probes.probe_sets import Probe, ProbeMeasurement
from engine.models import adapter_weights, hardware, loading, saved_models
from engine.models.losses import RowLosses, compute_row_losses
from engine.models.tokenization.rendering import TokenRows
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.documents import parse_document
from store.core.errors import NotFoundError
from store.core.figure_schemas import JudgingSplit
from store.core.job_folder import JobDir, read_json
from store.jobs.schemas import JobSpec
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

HELD_OUT = "held_out"  # name of the rows that judged the run, among the probes
ENDS = {0.0: "base", 1.0: "tuned"}


class ModelInterpolation:
    """A run's model, movable between its base and its tuned weights. Raises NotFoundError if the run left
    none.
    """

    def __init__(self, job: WorkerJob, run_id: str) -> None:
        self.job, self.folder = job, JobDir(job.home.jobs / run_id)
        spec = read_json(self.folder.config)
        if not spec or not (self.folder.model / "tunebench.json").exists():
            raise NotFoundError(
                f"The run {run_id} has no saved model in {self.folder.path}.",
                fix="Choose a run that finished and was not deleted.",
                field="run",
            )
        self.spec = parse_document(JobSpec, spec)
        self.run = evaluated_model.find_run(job, run_id)
        self.config: TrainConfig = self.run.config
        self.device = torch.device(job.device)
        subject = evaluated_model.load_tuned(job, self.run)
        self.model, self.tokenizer, self.positions = subject.model, subject.tokenizer, subject.positions
        self.line = build_weight_line(job, self.run, self.model)
        self.split, self.rows, trained = self._held_out()
        self.trained = self.spec["dataset"]["fingerprint"], trained
        self.probes = self._probes()

    def _held_out(self) -> tuple[JudgingSplit, TokenRows, np.ndarray]:
        """Return the split and rows that judged the run, as it saw them, and the IDs of the rows it trained
        on.
        """
        table, dataset = pq.read_table(self.folder.split), self.spec["dataset"]
        names = table["split"].to_numpy(zero_copy_only=False)
        dealt = {part: table["row_id"].to_numpy()[names == part] for part in training_rows.PARTS}
        whole = training_rows.tokenise(
            self.job.home,
            self.config,
            self.tokenizer,
            training_rows.SplitRows(dataset["fingerprint"], dataset["kind"], dealt),
        )
        limit = training_rows.resolve_max_length(self.config, whole["train"], self.positions)
        parts = {name: training_rows.truncate_rows(rows, limit).rows for name, rows in whole.items()}
        split: JudgingSplit = "test" if len(parts["test"]) else "validation"
        return split, parts[split], parts["train"].row_ids

    def _probes(self) -> list[Probe]:
        probes: list[Probe] = [
            make(self.tokenizer, self.positions)
            for make in (suite_probes.build_prose_probe, suite_probes.build_choice_probe)
        ]
        if self.config.probes:  # then the base model's texts have been generated
            self.line.go(0.0)
            folder = loading.find_weights_folder(self.run.base(self.job.home))
            probes.append(suite_probes.load_or_generate_texts(self.job, self.model, self.tokenizer, folder))
            probes += self._data_sets()
        return probes

    def _data_sets(self) -> list[Probe]:
        """Return the data sets that were probes of the run, with the same rows."""
        sources = self.spec.get("probes") or []
        probed = configured_probes.load_dataset_probes(
            self.job, self.config, self.tokenizer, self.positions, sources, trained=self.trained
        )
        return [data_set.probe for data_set in probed if data_set.probe]

    @property
    def work(self) -> int:
        """Approximate tokens of one measurement."""
        return int(self.rows.lengths.sum()) + sum(probe.tokens for probe in self.probes)

    def measured_end(self, alpha: float) -> list[ProbeMeasurement] | None:
        """Return the run's verdict measurements of one of the ends; None if the verdict measured something
        else.
        """
        which, folder = ENDS.get(alpha, ""), self.folder
        if not which or not all(p.exists() for p in (folder.row_losses, folder.probes, folder.probe_items)):
            return None
        rows, items, asked = map(pq.read_table, (folder.row_losses, folder.probes, folder.probe_items))
        if (
            not np.array_equal(rows["row_id"].to_numpy(), self.rows.row_ids)
            or "base_correct" not in rows.column_names
        ):
            return None
        numbers = (rows[name].to_numpy() for name in (f"{which}_loss", "tokens", f"{which}_correct"))
        measurements = [build_held_out_measurement(RowLosses(self.rows.row_ids, *numbers))]
        items = items.filter(pc.equal(items["model"], which))
        for probe in self.probes:
            if not _filter_probe(asked, probe.name).equals(probe.listing()):
                return None
            measurements.append(ProbeMeasurement.of(_filter_probe(items, probe.name)))
        return measurements

    def measure(self, alpha: float, tell: Callable[[int, str], None]) -> list[ProbeMeasurement]:
        """Move to `alpha` and measure the held-out rows, then each probe. tell(tokens done, what is
        measured).
        """
        self.line.go(alpha)
        size, before = self.config.per_device_eval_batch_size, 0

        def within(tokens: int, count: int, name: str) -> Callable[[int], None]:
            def on_items(done: int, before: int = before) -> None:
                hardware.guard_memory(self.config, self.device)
                tell(before + int(tokens * done / max(1, count)), name)

            return on_items

        tokens = int(self.rows.lengths.sum())
        on_batch = within(tokens, len(self.rows), "held-out rows")
        losses = compute_row_losses(
            self.model, self.rows, batch_size=size, device=self.device, on_batch=on_batch
        )
        measurements, before = [build_held_out_measurement(losses)], tokens
        for probe in self.probes:
            on_items = within(probe.tokens, len(probe), probe.name.replace("_", " "))
            measurements.append(
                probe.measure(self.model, batch_size=size, device=self.device, on_items=on_items)
            )
            before += probe.tokens
        return measurements

    def pace(self, alphas: list[float]) -> Callable[[float], Callable[[int, str], None]]:
        """Return a function from a share to its `tell`, reporting progress and time left over all these
        shares.
        """
        report = RowProgressReporter(self.job, max(1, self.work * len(alphas)), "tokens", "")

        def of(alpha: float) -> Callable[[int, str], None]:
            begun = alphas.index(alpha) * self.work

            def tell(done: int, what: str) -> None:
                number = f"{alphas.index(alpha) + 1} of {len(alphas)}"
                report(begun + done, message=f"Scoring α {alpha:g} ({number}), {what}")

            return tell

        return of


def build_weight_line(
    job: WorkerJob, run: saved_models.EarlierRun, model: Any, adapter: str = ""
) -> adapter_weights.WeightInterpolation:
    """Build the interpolation from the run's base to `model`, which it left. adapter: its name if there are
    several.
    """
    method = METHODS[run.config.method]
    if method.adapter:
        return adapter_weights.interpolate_adapter(model, method, adapter)
    source = loading.find_weights_folder(loading.resolve_model(run.config.model, job.home))

    def load(folder: Path) -> Any:
        return loading.load_model(run.config, str(folder), "cpu", model.dtype)

    return adapter_weights.interpolate_weights(model, (source, run.folder.model), load, job.dir.temporary)


def build_held_out_measurement(rows: RowLosses) -> ProbeMeasurement:
    """Convert row losses to a probe measurement."""
    count = len(rows.row_ids)
    none = np.zeros(count, np.int32)
    items = [str(row_id) for row_id in rows.row_ids]
    return ProbeMeasurement(
        HELD_OUT, items, [""] * count, rows.loss_sum, rows.tokens, rows.correct, none, none - 1
    )


def _filter_probe(table: pa.Table, probe: str) -> pa.Table:
    return table.filter(pc.equal(table["probe"], probe)).combine_chunks()
