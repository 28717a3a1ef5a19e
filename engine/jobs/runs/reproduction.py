"""The job `reproduction`: the figures of a run beside those of the bundle that it was launched from."""

from __future__ import annotations

from typing import Any, cast

from engine.bundles import archive, bundled_rows, differences, row_scores
from engine.diagnostics.comparison import beside_original, reproduced
from engine.diagnostics.verdicts import run_figures
from engine.diagnostics.verdicts.run_figures import JudgedRows
from engine.worker.job import WorkerJob
from engine.worker.phases import always
from store.config.training.bundle_config import ReadManifest
from store.config.training.train_config import TrainConfig
from store.contract.errors import DataError, NotFoundError
from store.contract.jobdir import JobDir, read_json
from store.contract.no_code import without_field
from store.documents.runs.bundle import BesideOriginal, OpenedBundle, Reproduction, RunFigure
from store.documents.tables.job_order import RunWithCurves
from store.documents.tables.run import RunFacts
from store.documents.verdicts.verdict import read_verdict

phases = always()  # it tells nothing: its work is done before anybody could read it


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
    own = run_figures.figures_of(verdict, second)
    answer = reproduced.reproduction(
        bundle["bundle"],
        figures,
        own,
        row_scores.pairs(first, second, values),
        [*bundle["differences"], *differences.after(manifest, cast(RunFacts, order["run"]["facts"]))],
    )
    if compared := order.get("compared"):
        answer["beside"] = _beside_original(job, compared, own, second)
    return answer


def _beside_original(
    job: WorkerJob, compared: list[RunWithCurves], own: list[RunFigure], rows: JudgedRows
) -> BesideOriginal:
    """The original as it lies in this home, whatever the bundle says of it. own: figures of the second."""
    original, repeated = compared
    folders = [JobDir(job.home.jobs / run["run_id"]) for run in compared]
    verdict = read_verdict(original["verdict"])
    try:
        before = row_scores.read(folders[0].row_losses)
    except DataError:  # they were deleted
        before = None
    theirs = run_figures.figures_of(verdict, before) if verdict else []
    values = {figure["key"]: figure["value"] for figure in theirs}
    pairs = row_scores.pairs(before, rows, values) if before else {}
    figures = reproduced.reproduction("", theirs, own, pairs, [])["figures"]
    split_same = bundled_rows.same_split(folders[0].split, folders[1].split)
    original = {**original, "config": as_of_today(original["config"])}
    repeated = {**repeated, "config": as_of_today(repeated["config"])}
    return beside_original.beside(original, repeated, figures, split_same=split_same)


def as_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """With the fields that came after it, at their defaults, and without one that has gone."""
    fields = TrainConfig.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
    return defaults | without_field(config)
