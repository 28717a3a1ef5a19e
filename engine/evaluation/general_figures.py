"""What one model knows in general, as figures with their intervals: the suite's prose and questions."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.diagnostics.statistics.statistics import ratio_interval, wilson_interval
from engine.evaluation.evaluated import Evaluated
from engine.probes import general
from engine.probes.probes import ProbeMeasurement
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressReporter
from store.contract.jobdir import written_aside
from store.documents.evaluations.evaluation_result import GeneralFigure


def measure(
    job: WorkerJob,
    subject: Evaluated,
    *,
    batch_size: int,
    confidence: float,
    beside: tuple[Sequence[ProbeMeasurement], Sequence[pa.Table]] = ((), ()),
) -> list[GeneralFigure]:
    """A document for each probe; its items go into `probes.parquet` and `probe_items.parquet`, with those
    `beside` them."""
    probes = [make(subject.tokenizer, subject.positions) for make in (general.prose, general.questions)]
    measurements = []
    for probe in probes:
        tell = ProgressReporter(job, len(probe), "items", f"Probing: {probe.name}")
        device = torch.device(job.device)
        measurements.append(probe.measure(subject.model, batch_size=batch_size, device=device, on_items=tell))
    write(job, [*measurements, *beside[0]], [*(probe.listing() for probe in probes), *beside[1]])
    return [_document(measured, confidence) for measured in measurements]


def write(job: WorkerJob, measured: Sequence[ProbeMeasurement], listed: Sequence[pa.Table]) -> None:
    """`probes.parquet` and `probe_items.parquet` of the job, where there is something in them."""
    if not measured:
        return
    tables = {
        job.dir.probes: [each.table(model="evaluated") for each in measured],
        job.dir.probe_items: list(listed),
    }
    for path, parts in tables.items():
        with written_aside(path) as unfinished:
            pq.write_table(pa.concat_tables(parts), unfinished)


def _document(measured: ProbeMeasurement, confidence: float) -> GeneralFigure:
    loss = ratio_interval(measured.loss_sum, measured.tokens, confidence=confidence)
    document: GeneralFigure = {
        "probe": measured.probe,
        "suite": general.fingerprint(),
        "n": len(measured),
        "loss": loss.to_dict(),
    }
    if measured.options.any():
        right = int(measured.correct.sum())
        document["accuracy"] = wilson_interval(right, len(measured), confidence=confidence).to_dict()
    return document
