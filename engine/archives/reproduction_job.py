"""The `reproduction` job: compare the figures of a run with those of the bundle it was launched from."""

from __future__ import annotations

from dataclasses import replace

from engine.archives import archive_file, contents, originals, reproduction
from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses
from engine.worker.job import WorkerJob, build_fixed_phases
from store.archives.config import ManifestDocument
from store.archives.schemas import OpenedBundle, OriginalComparison, Reproduction
from store.core.config import drop_code_field
from store.core.documents import parse_document, parse_optional_document
from store.core.errors import DataError, NotFoundError
from store.core.job_folder import JobDir, read_json
from store.evaluation.verdict_schemas import RunFigure, Verdict
from store.jobs.schemas import RunWithCurves
from store.runs.schemas import RunFacts
from store.training.train_config import TrainConfig

phases = build_fixed_phases()  # reports nothing: it is done before anybody could read it


def run(job: WorkerJob) -> Reproduction:
    """Compare the figures. Raises NotFoundError if the bundle's job was deleted in the meantime."""
    spec = job.spec
    opened = JobDir(job.home.jobs / spec["opened_by"])
    document = read_json(opened.path / archive_file.MANIFEST)
    outcome = read_json(opened.result)
    verdict = parse_optional_document(Verdict, spec["run"].verdict)
    if document is None or outcome is None or verdict is None:
        raise NotFoundError("The opened bundle no longer exists.", fix="Reproduce the bundle again.")
    bundle = parse_document(OpenedBundle, outcome["result"])
    manifest = ManifestDocument.parse(document)
    first = originals.read_losses(opened.path / archive_file.LOSSES)
    second = originals.read_losses(JobDir(job.home.jobs / spec["run"].run_id).row_losses)
    figures = [RunFigure(**figure.model_dump()) for figure in manifest.figures]
    values = {figure.key: figure.value for figure in figures}
    own = run_comparison.list_figures(verdict, second)
    answer = reproduction.compare_figures(
        bundle.bundle,
        figures,
        own,
        originals.compute_paired_changes(first, second, values),
        [
            *bundle.differences,
            *contents.compare_after_run(manifest, parse_document(RunFacts, spec["run"].facts)),
        ],
    )
    if compared := spec.get("compared"):
        answer.beside = _compare_with_original(job, compared, own, second)
    return answer


def _compare_with_original(
    job: WorkerJob, compared: list[RunWithCurves], own: list[RunFigure], rows: HeldOutRowLosses
) -> OriginalComparison:
    """Compare with the original in this home folder, whatever the bundle says about it. own: figures of the
    second run.
    """
    original, repeated = compared
    folders = [JobDir(job.home.jobs / run.run_id) for run in compared]
    verdict = parse_optional_document(Verdict, original.verdict)
    try:
        before = originals.read_losses(folders[0].row_losses)
    except DataError:  # they were deleted
        before = None
    theirs = run_comparison.list_figures(verdict, before) if verdict else []
    values = {figure.key: figure.value for figure in theirs}
    pairs = originals.compute_paired_changes(before, rows, values) if before else {}
    figures = reproduction.compare_figures("", theirs, own, pairs, []).figures
    split_same = contents.is_same_split(folders[0].split, folders[1].split)
    original = replace(original, config=upgrade_config(original.config))
    repeated = replace(repeated, config=upgrade_config(repeated.config))
    return reproduction.compare_with_original(original, repeated, figures, split_same=split_same)


def upgrade_config(config: dict[str, object]) -> dict[str, object]:
    """Add fields introduced later, with their defaults, and drop a removed one."""
    fields = TrainConfig.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
    return defaults | drop_code_field(config)
