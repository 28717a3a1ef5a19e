"""The `bundle` job: write a finished run, with a manifest of everything it depends on, to one file in the
home folder's exports, to be reproduced anywhere.
"""

from __future__ import annotations

import datetime
import platform
import re
from dataclasses import replace
from pathlib import Path, PurePath

from engine.archives import archive_file, contents, originals
from engine.evaluation import evaluated_model
from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses
from engine.models import provenance
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from engine.worker.temporary_folder import use_temporary_folder
from store.archives.config import FORMAT, VERSION, BundleConfig
from store.archives.schemas import (
    BaseWeights,
    BundledRows,
    BundledRun,
    BundleEnvironment,
    BundleManifest,
    BundleResult,
)
from store.core.documents import parse_document, parse_optional_document
from store.core.errors import NotFoundError
from store.core.job_folder import JobDir
from store.core.model_schemas import VersionFile
from store.evaluation.verdict_schemas import Verdict
from store.jobs.schemas import JobSpec, VersionSpec
from store.runs.schemas import RunFacts

UNKNOWN = "unknown"


def build_manifest(
    spec: JobSpec, base: BaseWeights, rows: HeldOutRowLosses, files: list[VersionFile], *, with_rows: bool
) -> BundleManifest:
    """Build the manifest of the run described by `spec`."""
    run = spec["run"]
    facts, verdict = parse_document(RunFacts, run.facts), parse_optional_document(Verdict, run.verdict)
    assert verdict is not None  # a finished run has one
    model = base["name"] if base["hub_id"] else provenance.shorten_name(run.model)
    return BundleManifest(
        format=FORMAT,
        version=VERSION,
        written_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        run=BundledRun(
            run_id=run.run_id,
            name=run.name,
            created_at=run.created_at,
            kind=run.kind,
        ),
        config=run.config | {"model": model},
        facts=facts,
        base=base,
        data=_describe_rows(spec, with_rows=with_rows),
        split=spec["split"],
        others=spec["others"],
        environment=_describe_environment(facts),
        figures=run_comparison.list_figures(verdict, rows),
        verdict=verdict,
        files=files,
    )


def _describe_rows(spec: JobSpec, *, with_rows: bool) -> BundledRows:
    dataset = spec["dataset"]
    return BundledRows(
        name=dataset["name"],
        kind=dataset["kind"],
        format=dataset["format"],
        columns=dataset["columns"],
        fingerprint=dataset["fingerprint"],
        parent_fingerprint=spec["parent_fingerprint"],
        row_count=dataset["row_count"],
        included=with_rows,
        history=[_strip_path(version) for version in spec["history"]],
    )


def _strip_path(version: VersionSpec) -> VersionSpec:
    """Reduce a source path to its file name, as its location on this machine is private."""
    source = version.source.copy()
    if path := source.get("path"):
        source["path"] = PurePath(path).name
    return replace(version, source=source)


def _describe_environment(facts: RunFacts) -> BundleEnvironment:
    return BundleEnvironment(
        tunebench=contents.get_tunebench_version(),
        platform=platform.platform(),
        versions=facts.get("versions", {}),
        device=facts.get("device", UNKNOWN),
        device_name=facts.get("device_name", UNKNOWN),
        dtype=facts.get("dtype", UNKNOWN),
    )


def build_card(manifest: BundleManifest) -> str:
    """Build a readme for people who look into the zip."""
    run, bundled, base = manifest.run, manifest.data, manifest.base
    rows = "included" if bundled.included else "not included; reproducing the run requires the same rows"
    lines = [
        f"# Bundle of the run {run.name}",
        "",
        "Reproduce it with `tunebench reproduce FILE`, which reports for each metric whether it was"
        " reproduced.",
        "",
        f"- Base model: {base['name']}" + (f", revision {base['revision']}" if base["revision"] else ""),
        f"- Rows: {bundled.row_count:,} of {bundled.name}, fingerprint {bundled.fingerprint}, {rows}",
        f"- Trained on {manifest.environment.device_name}",
        f"- {manifest.verdict.headline}",
        "",
        "| metric | value | 95% CI | n |",
        "|---|---|---|---|",
    ]
    for figure in manifest.figures:
        none = figure.low is None or figure.high is None
        between = "none" if none else f"{figure.low:.4g} to {figure.high:.4g}"
        lines.append(f"| {figure.title} ({figure.unit}) | {figure.value:.4g} | {between} | {figure.n:,} |")
    return "\n".join(lines) + "\n"


NAME_CHARACTERS = 80
SUFFIX = ".bundle.zip"


phases = build_fixed_phases(  # estimated: weights are larger than rows, zipping is slower than a checksum
    Phase("Computing the checksum of the base model", 0.7),
    Phase("Writing the bundle", 0.3),
)


def run(job: WorkerJob) -> BundleResult:
    """Write the bundle. Raises NotFoundError if the row losses or the rows no longer exist."""
    config = BundleConfig.parse(job.config)
    spec = job.spec
    with use_temporary_folder(job, what="the bundle", again="ask for the bundle again") as folder:
        files = _list_files(job, spec, config.with_rows)
        source = evaluated_model.resolve_source(job, spec["run"].model)
        base = contents.describe_weights(job, source)
        rows = originals.read_losses(files[archive_file.LOSSES])
        job.check_cancelled()
        job.progress(0, 1, "file", "Writing the bundle")
        listed = [archive_file.compute_checksum(path, name) for name, path in files.items()]
        document = build_manifest(spec, base, rows, listed, with_rows=config.with_rows)
        page = folder / archive_file.CARD
        page.write_text(build_card(document), encoding="utf-8")
        document.files.append(archive_file.compute_checksum(page))
        fingerprint = archive_file.write_archive(
            folder / "bundle", document, {**files, archive_file.CARD: page}
        )
        stem = re.sub(r"[^\w.()-]+", "-", spec["run"].name)[:NAME_CHARACTERS].strip("-.") or "run"
        path = archive_file.publish(folder / "bundle", job.home.exports, stem, SUFFIX)
    notices = _list_notices(spec, base["fingerprint"], config.with_rows)
    for notice in notices:
        job.alert(notice, level="info")
    size = path.stat().st_size
    return BundleResult(
        path=str(path),
        name=path.name,
        bytes=size,
        with_rows=config.with_rows,
        seal=fingerprint,
        notices=notices,
    )


def _list_files(job: WorkerJob, spec: JobSpec, with_rows: bool) -> dict[str, Path]:
    """Return the files to include, by their names in the bundle."""
    folder = JobDir(job.home.jobs / spec["run"].run_id)
    files = {archive_file.SPLIT: folder.split, archive_file.LOSSES: folder.row_losses}
    fingerprint = spec["dataset"]["fingerprint"]
    if with_rows:
        files |= {
            archive_file.ROWS: job.home.rows(fingerprint),
            archive_file.SKIPPED: job.home.skipped(fingerprint),
        }
        if (fates := job.home.fates(fingerprint)).exists():
            files[archive_file.FATES] = fates
    for path in files.values():
        if not path.exists():
            raise NotFoundError(
                f"{path.name} of the run {spec['run'].name!r} no longer exists.",
                fix="Repeat the run and bundle the new one.",
                field="run",
            )
    return files


def _list_notices(spec: JobSpec, fingerprint: str | None, with_rows: bool) -> list[str]:
    notices = []
    if spec["run"].config.get("init_from") or spec["run"].kind != "train":
        notices.append(
            "The run continues another run, whose model is not included: it can't be reproduced from this"
            " bundle."
        )
    if not with_rows:
        notices.append("The rows are not included: reproducing the run requires the same rows.")
    for other in spec["others"]:
        notices.append(f"The rows of {other['name']}, which the run also used, are not included.")
    if fingerprint is None:
        notices.append("The base model is no longer on this machine: its fingerprint is not included.")
    return notices
