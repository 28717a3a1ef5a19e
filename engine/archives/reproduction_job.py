"""The job `reproduction`: the figures of a run beside those of the bundle that it was launched from."""

from __future__ import annotations

from typing import Any, cast

from engine.archives import archive_file, contents, originals
from engine.evaluation.comparison import reproduction, run_comparison
from engine.evaluation.comparison.run_comparison import JudgedRows
from engine.worker.job import WorkerJob, always
from store.archives.config import ReadManifest
from store.archives.schemas import BesideOriginal, OpenedBundle, Reproduction, RunFigure
from store.core.errors import DataError, NotFoundError
from store.core.job_folder import JobDir, read_json
from store.core.model_folders import without_field
from store.evaluation.verdict_schemas import read_verdict
from store.jobs.schemas import RunWithCurves
from store.runs.schemas import RunFacts
from store.training.train_config import TrainConfig

phases = always()  # it tells nothing: its work is done before anybody could read it


def run(job: WorkerJob) -> Reproduction:
    """Hold them beside each other. Raises NotFoundError where the bundle's job was deleted meanwhile."""
    order = job.order
    opened = JobDir(job.home.jobs / order["opened_by"])
    document = read_json(opened.path / archive_file.MANIFEST)
    outcome = read_json(opened.result)
    verdict = read_verdict(order["run"]["verdict"])
    if document is None or outcome is None or verdict is None:
        raise NotFoundError("The opened bundle is gone.", fix="Reproduce the bundle again.")
    bundle: OpenedBundle = outcome["result"]
    manifest = ReadManifest.parse(document)
    first = originals.read_losses(opened.path / archive_file.LOSSES)
    second = originals.read_losses(JobDir(job.home.jobs / order["run"]["run_id"]).row_losses)
    figures = [cast(RunFigure, figure.model_dump()) for figure in manifest.figures]
    values = {figure["key"]: figure["value"] for figure in figures}
    own = run_comparison.figures_of(verdict, second)
    answer = reproduction.reproduction(
        bundle["bundle"],
        figures,
        own,
        originals.paired_changes(first, second, values),
        [
            *bundle["differences"],
            *contents.differences_after(manifest, cast(RunFacts, order["run"]["facts"])),
        ],
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
        before = originals.read_losses(folders[0].row_losses)
    except DataError:  # they were deleted
        before = None
    theirs = run_comparison.figures_of(verdict, before) if verdict else []
    values = {figure["key"]: figure["value"] for figure in theirs}
    pairs = originals.paired_changes(before, rows, values) if before else {}
    figures = reproduction.reproduction("", theirs, own, pairs, [])["figures"]
    split_same = contents.same_split(folders[0].split, folders[1].split)
    original = {**original, "config": as_of_today(original["config"])}
    repeated = {**repeated, "config": as_of_today(repeated["config"])}
    return reproduction.compare_with_original(original, repeated, figures, split_same=split_same)


def as_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """With the fields that came after it, at their defaults, and without one that has gone."""
    fields = TrainConfig.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
    return defaults | without_field(config)
