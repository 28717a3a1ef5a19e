"""The `open_bundle` job: check an uploaded bundle, import its rows, and find its base model.

What a later run needs of it (split, row losses, manifest) is kept in the job's folder.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from engine.archives import archive_file, contents, originals
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from engine.worker.temporary_folder import use_temporary_folder
from store.archives.config import ManifestDocument, OpenBundleConfig
from store.archives.schemas import BaseStatus, BundledRun, OpenedBundle
from store.core.config import CODE_FIELD
from store.core.errors import NotFoundError
from store.jobs.schemas import AuxiliaryDataset
from store.training.split import Split, get_split
from store.training.train_config import TrainConfig

KEPT = (archive_file.MANIFEST, archive_file.SPLIT, archive_file.LOSSES)


phases = build_fixed_phases(  # estimated
    Phase("Checking the bundle", 0.3),
    Phase("Computing the checksum of the base model", 0.5),
    Phase("Importing rows", 0.2),
)


def run(job: WorkerJob) -> OpenedBundle:
    """Open the bundle. Raises DataError if it is not a bundle, or differs from its manifest."""
    config = OpenBundleConfig.parse(job.config)
    bundle = _find_upload(job, config.upload)
    with use_temporary_folder(job, what="the bundle", again="open it again") as folder:
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        job.progress(0, 1, "file", "Checking the bundle")
        sha256 = archive_file.compute_checksum(bundle).sha256
        manifest = archive_file.unpack(bundle, unpacked)
        trained = TrainConfig.of_past(manifest.config)
        contents.check_split(unpacked / archive_file.SPLIT, manifest.data.row_count)
        originals.read_losses(unpacked / archive_file.LOSSES)
        model, base, weights = contents.find_local_weights(job, manifest.base, config.model)
        refused = _explain_refusal(job, manifest, trained, base)
        included = (unpacked / archive_file.ROWS).exists() and (unpacked / archive_file.SKIPPED).exists()
        taken = contents.import_rows(job, unpacked, manifest.data, folder / "rows") if included else None
        if taken is None and not job.home.rows(manifest.data.fingerprint).exists():
            refused = (
                refused
                or f"its rows ({manifest.data.fingerprint}) are neither in the bundle nor on this machine"
            )
        for name in KEPT:
            os.replace(unpacked / name, job.dir.path / name)
    answer = OpenedBundle(
        bundle=config.upload,
        sha256=sha256,
        seal=archive_file.compute_fingerprint((job.dir.path / archive_file.MANIFEST).read_bytes()),
        run=BundledRun(
            run_id=manifest.run.run_id,
            name=manifest.run.name,
            created_at=manifest.run.created_at,
            kind=manifest.run.kind,
        ),
        config=trained.model_dump() | {"model": model},
        fingerprint=manifest.data.fingerprint,
        taken=taken,
        dataset=manifest.data.name,
        split=get_split(manifest.config, Split().fields()),
        base=base,
        others=_list_others(manifest),
        differences=contents.compare_before_run(manifest, base, weights),
    )
    return replace(answer, refused=refused) if refused else answer


def _find_upload(job: WorkerJob, name: str) -> Path:
    path = job.home.uploads / name
    if Path(name).name != name or name.startswith(".") or path.is_symlink() or not path.is_file():
        raise NotFoundError(f"Uploaded file {name!r} not found.", fix="Upload the bundle.", field="upload")
    return path


def _list_others(manifest: ManifestDocument) -> list[AuxiliaryDataset]:
    return [
        {"role": other.role, "name": other.name, "fingerprint": other.fingerprint}
        for other in manifest.others
    ]


def _explain_refusal(
    job: WorkerJob, manifest: ManifestDocument, trained: TrainConfig, base: BaseStatus
) -> str:
    """Return why it can't be reproduced; empty if it can."""
    if trained.init_from or manifest.run.kind != "train":
        return "it continues another run, whose model is not in the bundle"
    if manifest.config.get(CODE_FIELD):
        return "its base model requires custom code, which Tunebench does not run"
    if base == "missing":
        return (
            f"its base model {manifest.base.name} was a folder on another machine and is not available here;"
            " give its folder with --model"
        )
    for other in manifest.others:
        if other.role == "replay" and not job.home.rows(other.fingerprint).exists():
            return f"it replays rows of {other.name}, which are not available here"
    return ""
