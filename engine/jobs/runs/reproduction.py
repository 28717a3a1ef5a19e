"""The job `reproduction`: the figures of a run beside those of the bundle that it was launched from."""

from __future__ import annotations

from typing import cast

from engine.bundles import archive, differences, row_scores
from engine.diagnostics.comparison import reproduced
from engine.diagnostics.verdicts import run_figures
from engine.worker.job import WorkerJob
from store.config.training.bundle_config import ReadManifest
from store.contract.errors import NotFoundError
from store.contract.jobdir import JobDir, read_json
from store.documents.runs.bundle import OpenedBundle, Reproduction, RunFigure
from store.documents.tables.run import RunFacts
from store.documents.verdicts.verdict import read_verdict


def run(job: WorkerJob) -> Reproduction:
    """Hold them beside each other. Raises NotFoundError where the bundle's job was deleted meanwhile."""
    order = job.order
    opened = JobDir(job.home.jobs / order["opened_by"])
    document = read_json(opened.path / archive.MANIFEST)
    outcome = read_json(opened.result)
    verdict = read_verdict(order["run"]["verdict"])
    if document is None or outcome is None or verdict is None:
        raise NotFoundError("The opened bundle is gone.", fix="Reproduce the bundle again.")
    bundle: OpenedBundle = outcome["result"]
    manifest = ReadManifest.parse(document)
    first = row_scores.read(opened.path / archive.LOSSES)
    second = row_scores.read(JobDir(job.home.jobs / order["run"]["run_id"]).row_losses)
    figures = [cast(RunFigure, figure.model_dump()) for figure in manifest.figures]
    values = {figure["key"]: figure["value"] for figure in figures}
    return reproduced.reproduction(
        bundle["bundle"],
        figures,
        run_figures.figures_of(verdict, second),
        row_scores.pairs(first, second, values),
        [*bundle["differences"], *differences.after(manifest, cast(RunFacts, order["run"]["facts"]))],
    )
