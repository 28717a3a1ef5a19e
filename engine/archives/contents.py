"""Contents of an archive compared with this machine: its rows, the weights of its base model, and whatever
else may change a figure.

Rows are rewritten and their fingerprint is computed from what was written: an archive can't import rows
under the fingerprint of others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.archives import archive_file
from engine.data import training_rows
from engine.data.cleaning.recipe_run import FATES_SCHEMA, hash_fates
from engine.data.conversion.dataset_writer import DatasetWriter
from engine.data.readers.file_rows import make_skipped_row
from engine.models import loading, provenance
from engine.models.bundled import ensure_bundled_model
from engine.models.hardware import read_versions
from engine.worker.job import WorkerJob
from engine.worker.temporary_folder import publish_dataset
from store.archives.config import ManifestBase, ManifestDocument, ManifestRows
from store.archives.schemas import BaseStatus, BaseWeights, BundleDifference
from store.core.errors import DataError, ModelError
from store.core.row_schemas import RowsResult
from store.data.dataset_files import LATER, SCHEMA, SKIPPED_SCHEMA
from store.data.formats import FORMATS
from store.runs.schemas import RunFacts

NOT_HERE, UNKNOWN = "not installed", "unknown"


def get_tunebench_version() -> str:
    """Return the version of the installed package."""
    return importlib.metadata.version("tunebench")


def compare_before_run(
    manifest: ManifestDocument, base: BaseStatus, weights: BaseWeights | None
) -> list[BundleDifference]:
    """Compare what is known before the run: versions, the base model's weights, and its tokenizer."""
    environment = manifest.environment
    pairs = [("Tunebench", environment.tunebench, get_tunebench_version())]
    pairs += [("platform", environment.platform, platform.platform())]
    mine = read_versions()
    for name in sorted({*environment.versions, *mine}):
        pairs.append((name, environment.versions.get(name, UNKNOWN), mine.get(name, NOT_HERE)))
    first = (manifest.base.fingerprint or UNKNOWN)[:12]
    if base in ("other", "unchecked"):
        present = weights["fingerprint"] if weights else None
        pairs.append(("weights of the base model", first, present[:12] if present else "not checked"))
    tokenizer = weights["tokenizer"] if weights else None
    if tokenizer and manifest.base.tokenizer:
        pairs.append(("tokenizer of the base model", manifest.base.tokenizer[:12], tokenizer[:12]))
    return [
        BundleDifference(what=what, first=first, here=here) for what, first, here in pairs if first != here
    ]


def compare_after_run(manifest: ManifestDocument, facts: RunFacts) -> list[BundleDifference]:
    """Compare what only the run reveals: its device, its precision, its rows."""
    environment = manifest.environment
    pairs = [
        ("device", environment.device, facts.get("device", UNKNOWN)),
        ("device name", environment.device_name, facts.get("device_name", UNKNOWN)),
        ("precision", environment.dtype, facts.get("dtype", UNKNOWN)),
        ("rows", manifest.data.fingerprint, facts.get("data_fingerprint", UNKNOWN)),
    ]
    return [
        BundleDifference(what=what, first=first, here=here) for what, first, here in pairs if first != here
    ]


TOKENIZER = "tokenizer.json"


def describe_weights(job: WorkerJob, source: str) -> BaseWeights:
    """Describe the weights of a folder or hub ID; without a fingerprint if the hub's files are not on this
    machine.
    """
    try:
        folder = loading.find_weights_folder(source)
    except OSError:
        return {**provenance.build_reference(source), "fingerprint": None, "tokenizer": None, "files": []}
    files, names = [], sorted(folder.glob("*.safetensors"))
    for number, name in enumerate(names):
        job.check_cancelled()
        job.progress(number, len(names), "files", "Computing the checksum of the base model")
        files.append(archive_file.compute_checksum(name))
    sums = [[file.path, file.sha256] for file in files]
    fingerprint = hashlib.sha256(json.dumps(sums).encode()).hexdigest() if files else None
    tokenizer = folder / TOKENIZER
    named = provenance.build_reference(str(folder) if not Path(source).is_dir() else source)
    sha256 = archive_file.compute_checksum(tokenizer).sha256 if tokenizer.exists() else None
    return {**named, "fingerprint": fingerprint, "tokenizer": sha256, "files": files}


def _is_hub_id(base: ManifestBase) -> bool:
    """Return whether the bundle's base model is one of a hub, and its name is not that of a local folder."""
    plain = base.hub_id == base.name and provenance.HUB_ID.fullmatch(base.name)
    return bool(plain) and not Path(base.name).exists()


def find_local_weights(
    job: WorkerJob, base: ManifestBase, model: str
) -> tuple[str, BaseStatus, BaseWeights | None]:
    """Return the local name of the bundle's base model, whether it is the same, and its weights. model: its
    location as given by the user; empty to find it by name.
    """
    name = model or base.name
    if name in loading.BUNDLED:
        ensure_bundled_model(name, job.home)
    own = (job.home.models / name).is_dir() and "/" not in name
    if not (model or own or _is_hub_id(base)):
        return name, "missing", None
    try:
        weights = describe_weights(job, loading.resolve_model(name, job.home))
    except ModelError:
        if model:
            raise
        return name, "missing", None
    if weights["fingerprint"] is None or base.fingerprint is None:
        return name, "unchecked", weights
    return name, "same" if weights["fingerprint"] == base.fingerprint else "other", weights


BATCH = 5_000  # rows


def import_rows(job: WorkerJob, unpacked: Path, bundled: ManifestRows, aside: Path) -> RowsResult | None:
    """Create the data set of the bundle unpacked in `unpacked`; None if the same rows exist already.

    Raises DataError if the rows are not those named by the manifest.
    """
    if bundled.format not in FORMATS or FORMATS[bundled.format].kind != bundled.kind:
        raise _build_error(
            f"its manifest declares rows of an unknown kind ({bundled.kind}, format {bundled.format})"
        )
    if job.home.rows(bundled.fingerprint).exists():
        return None
    parts: Counter[str] = Counter()
    try:
        with DatasetWriter(aside) as writer:
            _write(job, writer, unpacked, parts, bundled.row_count)
            if (fates := unpacked / archive_file.FATES).exists():
                table = _cast_columns(archive_file.open_parquet(fates).read(), FATES_SCHEMA)
                pq.write_table(table, aside / archive_file.FATES, compression="zstd")
                hash_fates(writer.fingerprint, table)
                writer.fingerprint.add("parent", pa.array([bundled.parent_fingerprint or ""]))
            fingerprint = writer.close()
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # e.g. a full disk; Parquet's errors have none
            raise
        reason = " ".join(str(error).split())[:200]
        raise _build_error(f"its rows can't be read ({reason})") from error
    if fingerprint != bundled.fingerprint or writer.row_count != bundled.row_count:
        raise _build_error(
            f"its rows do not match the manifest: fingerprint {fingerprint} instead of {bundled.fingerprint}"
        )
    publish_dataset(job, aside, fingerprint)
    return _build_result(bundled, writer, parts, (unpacked / archive_file.ROWS).stat().st_size)


def check_split(file: Path, row_count: int) -> None:
    """Raise DataError unless the file assigns some of `row_count` rows to the parts of a run."""
    try:
        table = archive_file.open_parquet(file, row_count).read(columns=["row_id", "split"])
        names, ids = table["split"].to_numpy(zero_copy_only=False), table["row_id"].to_numpy()
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise _build_error("its split can't be read") from error
    if not pa.types.is_integer(table["row_id"].type):
        raise _build_error("its split has no row ids")
    training_rows.check_split({part: ids[names == part] for part in training_rows.PARTS}, row_count)


def is_same_split(first: Path, second: Path) -> bool | None:
    """Return whether two splits assign each row to the same part; None if one no longer exists."""
    if not first.exists() or not second.exists():
        return None
    tables = [pq.read_table(path, columns=["row_id", "split"]) for path in (first, second)]
    dealt = [
        dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) for table in tables
    ]
    return dealt[0] == dealt[1]


def _write(
    job: WorkerJob, writer: DatasetWriter, unpacked: Path, parts: Counter[str], row_count: int
) -> None:
    file = archive_file.open_parquet(unpacked / archive_file.ROWS, row_count)
    total = file.metadata.num_rows
    for batch in file.iter_batches(BATCH):
        job.check_cancelled()
        table = _cast_columns(pa.Table.from_batches([batch]), SCHEMA)
        writer.add_table(table)
        parts.update(part for part in table["part"].to_pylist() if part is not None)
        job.progress(writer.row_count, total, "rows", "Importing rows")
    for row in _cast_columns(
        archive_file.open_parquet(unpacked / archive_file.SKIPPED).read(), SKIPPED_SCHEMA
    ).to_pylist():
        writer.skip(row["line"], make_skipped_row(row["reason"], row["excerpt"]))


def _cast_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Select and cast the schema's columns; those that older data sets lack are null."""
    for name in LATER & set(schema.names) - set(table.column_names):
        table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
    return table.select(schema.names).cast(schema)


def _build_result(bundled: ManifestRows, writer: DatasetWriter, parts: Counter[str], size: int) -> RowsResult:
    return {
        "fingerprint": bundled.fingerprint,
        "kind": bundled.kind,
        "format": bundled.format,
        "columns": bundled.columns,
        "row_count": writer.row_count,
        "skipped_count": writer.skipped_count,
        "duplicate_count": writer.duplicate_count(),
        "source_bytes": size,
        "stats": {
            **writer.sizes(),
            "labels": dict(writer.labels.most_common(20)),
            "label_count": len(writer.labels),
            "skipped_reasons": dict(writer.reasons.most_common(100)),
            "reader": "bundle",
            "encoding": "utf-8",
            "parts": dict(parts),
            "notices": [],
        },
    }


def _build_error(why: str) -> DataError:
    return DataError(f"The bundle can't be opened: {why}.", fix=archive_file.RETRY_FIX, field="bundle")
