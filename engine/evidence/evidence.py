"""Base and tuned model on the same held-out rows and probes: losses item by item, answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.course.judged_config import JudgedConfig
from engine.diagnostics.forgetting import forgetting, forgetting_words
from engine.diagnostics.forgetting.probe_scores import TASK
from engine.evidence.extraction_prompts import Written
from engine.forward.losses import RowLosses
from engine.probes import requests, samples
from engine.probes.probes import SEEN, Probe, ProbeMeasurement
from engine.probes.sample_prompts import Prompt
from engine.probes.task_probes import TaskProbes
from engine.worker.job import WorkerJob
from store.config.training import interpolate_config
from store.config.training.refusals import refusals
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.forgetting import AdvicePiece
from store.documents.verdicts.verdict import Verdict


@dataclass
class Evidence:
    """What one model made of the held-out rows and probes: losses of the rows, answers to the prompts; what
    it wrote of rows from memory, and what it loses on answers after prompts of other rows."""

    losses: RowLosses
    answers: list[str]
    probes: list[ProbeMeasurement]
    written: list[Written] = field(default_factory=list)
    swapped: ProbeMeasurement | None = None

    @property
    def seen(self) -> ProbeMeasurement | None:
        """Rows that were trained on."""
        return next((measured for measured in self.probes if measured.probe == SEEN), None)

    def probe_table(self, **same: Any) -> pa.Table:
        """A row for each item of all probes."""
        return pa.concat_tables([measured.table(**same) for measured in self.probes])


def settle(tasks: TaskProbes | None, base: Evidence, tuned: Evidence) -> None:
    """Both models were asked: what one of them could not be asked goes from both, and is told."""
    if not tasks:
        return
    paired = {probe.name for probe in tasks.probes}
    for each in (base, tuned):
        each.probes = [m for m in each.probes if not m.probe.startswith(TASK) or m.probe in paired]
    tasks.tell()


def write(job: WorkerJob, split: str, base: Evidence, tuned: Evidence, prompts: list[Prompt]) -> None:
    """`row_losses.parquet`, `predictions.parquet` and `probes.parquet` of the job."""
    pq.write_table(
        pa.table(
            {
                "split": [split] * len(base.losses.row_ids),
                "row_id": base.losses.row_ids,
                "tokens": base.losses.tokens,
                "base_loss": base.losses.loss_sum,
                "tuned_loss": tuned.losses.loss_sum,
                "base_correct": base.losses.correct,
                "tuned_correct": tuned.losses.correct,
            }
        ),
        job.dir.row_losses,
    )
    strings = {
        "split": [split] * len(prompts),
        "prompt": [p.readable for p in prompts],
        "reference": [p.reference for p in prompts],
        "base": base.answers,
        "tuned": tuned.answers,
    }
    columns = {"row_id": pa.array([p.row_id for p in prompts], pa.int64())}
    columns |= {name: pa.array(values, pa.string()) for name, values in strings.items()}
    pq.write_table(pa.table(columns), job.dir.predictions)
    if base.probes:
        both = [each.probe_table(model=which) for which, each in (("base", base), ("tuned", tuned))]
        pq.write_table(pa.concat_tables(both), job.dir.probes)
        requests.write(job, base.probes, tuned.probes)


def write_items(job: WorkerJob, probes: Sequence[Probe]) -> None:
    """`probe_items.parquet` of the job: what the items of the probes are."""
    if probes:
        pq.write_table(pa.concat_tables([probe.listing() for probe in probes]), job.dir.probe_items)


def judged_config(config: TrainConfig, parameters: int | None = None) -> JudgedConfig:
    """What conclusions read of a config; `parameters`: of the base model, where known."""
    fields = config.model_dump() | {"default_learning_rate": config.default_learning_rate(parameters)}
    return cast(JudgedConfig, fields)  # those of a config have these names and types


SHORTER = {"num_train_epochs", "max_steps"}  # fields by which a run ends earlier


def add_forgetting(
    verdict: Verdict,
    base: Evidence,
    tuned: Evidence,
    config: TrainConfig,
    earlier: AdvicePiece | None = None,
    unasked: Mapping[str, str] | None = None,
    parameters: int | None = None,
) -> None:
    """What the probes say of what was lost, into the verdict, with what to try. earlier: the advice to stop
    at a step that was as good, in place of half the epochs. unasked: tasks that were not, and why.
    parameters: of the base model."""
    pairs = [(b, t) for b, t in zip(base.probes, tuned.probes, strict=True) if b.probe != SEEN]
    if not pairs:
        return
    tables = (pa.concat_tables([m.table() for m in some]) for some in zip(*pairs, strict=True))
    lost = forgetting.assess(*tables, config=judged_config(config, parameters), unasked=unasked)
    samples.add_agreement(lost, base.probes, tuned.probes)
    shape = verdict["overfitting"]
    if verdict["state"] == "worse" or (shape and shape["state"] == "diverged"):
        # nothing was gained that a remedy could keep
        lost["advice"] = [piece for piece in lost["advice"] if piece.get("kind") == "learning_rate"]
    elif earlier and lost["state"] in ("some", "much"):
        others = [piece for piece in lost["advice"] if piece.get("kind") != "epochs"]
        lost["advice"] = [earlier, *others]
        # what the course shows comes before a guess at it
        verdict["advice"] = [piece for piece in verdict["advice"] if not SHORTER & set(piece["change"])]
    else:
        lost["advice"] = forgetting_words.drop_undone(lost["advice"], verdict["stopped"])
    if interpolate_config.refusal(config):
        lost["advice"] = [piece for piece in lost["advice"] if piece.get("kind") != "interpolation"]
    lost["advice"] = [
        piece for piece in lost["advice"] if not refusals(config.model_copy(update=piece["change"]))
    ]
    advised = {field for piece in verdict["advice"] for field in piece["change"]}
    new = [piece for piece in lost["advice"] if not advised & set(piece["change"])]
    verdict["forgetting"] = lost
    verdict["advice"] = [*verdict["advice"], *new]
