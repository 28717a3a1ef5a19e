"""The job `bundle`: a finished run as one file in the home folder's exports, to be run again anywhere."""

from __future__ import annotations

import re
from pathlib import Path

from engine.bundles import archive, base_weights, manifest, row_scores
from engine.evaluation import evaluated
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, always
from engine.worker.temporary_folder import temporary_folder
from store.config.training.bundle_config import BundleConfig
from store.contract.errors import NotFoundError
from store.contract.jobdir import JobDir
from store.documents.runs.bundle import BundleResult
from store.documents.tables.job_order import JobOrder

NAME_CHARACTERS = 80
SUFFIX = ".bundle.zip"


phases = always(  # estimated: weights are larger than rows, and a zip is slower than a checksum
    Phase("Taking the checksum of the base model", 0.7),
    Phase("Writing the bundle", 0.3),
)


def run(job: WorkerJob) -> BundleResult:
    """Write it. Raises NotFoundError where what judged the run, or its rows, are gone."""
    config = BundleConfig.parse(job.config)
    order = job.order
    with temporary_folder(job, what="the bundle", again="ask for the bundle again") as folder:
        files = _files(job, order, config.with_rows)
        source = evaluated.source(job, order["run"]["model"])
        base = base_weights.of_source(job, source)
        rows = row_scores.read(files[archive.LOSSES])
        job.check_cancelled()
        job.progress(0, 1, "file", "Writing the bundle")
        listed = [archive.checksum(path, name) for name, path in files.items()]
        document = manifest.write(order, base, rows, listed, with_rows=config.with_rows)
        page = folder / archive.CARD
        page.write_text(manifest.card(document), encoding="utf-8")
        document["files"].append(archive.checksum(page))
        fingerprint = archive.write(folder / "bundle", document, {**files, archive.CARD: page})
        stem = re.sub(r"[^\w.()-]+", "-", order["run"]["name"])[:NAME_CHARACTERS].strip("-.") or "run"
        path = archive.publish(folder / "bundle", job.home.exports, stem, SUFFIX)
    notices = _notices(order, base["fingerprint"], config.with_rows)
    for notice in notices:
        job.alert(notice, level="info")
    size = path.stat().st_size
    return {
        "path": str(path),
        "name": path.name,
        "bytes": size,
        "with_rows": config.with_rows,
        "seal": fingerprint,
        "notices": notices,
    }


def _files(job: WorkerJob, order: JobOrder, with_rows: bool) -> dict[str, Path]:
    """What goes in, by its name there."""
    folder = JobDir(job.home.jobs / order["run"]["run_id"])
    files = {archive.SPLIT: folder.split, archive.LOSSES: folder.row_losses}
    fingerprint = order["dataset"]["fingerprint"]
    if with_rows:
        files |= {archive.ROWS: job.home.rows(fingerprint), archive.SKIPPED: job.home.skipped(fingerprint)}
        if (fates := job.home.fates(fingerprint)).exists():
            files[archive.FATES] = fates
    for path in files.values():
        if not path.exists():
            raise NotFoundError(
                f"{path.name} of the run {order['run']['name']!r} is gone.",
                fix="Run it again, and bundle that run.",
                field="run",
            )
    return files


def _notices(order: JobOrder, fingerprint: str | None, with_rows: bool) -> list[str]:
    notices = []
    if order["run"]["config"].get("init_from") or order["run"]["kind"] != "train":
        notices.append(
            "It goes on from another run, whose model is not in it: it can't be run again from it."
        )
    if not with_rows:
        notices.append("The rows are not in it: whoever runs it again needs the same rows.")
    for other in order["others"]:
        notices.append(f"The rows of {other['name']}, which the run read too, are not in it.")
    if fingerprint is None:
        notices.append("The base model is not on this machine any more: its fingerprint is not in it.")
    return notices
