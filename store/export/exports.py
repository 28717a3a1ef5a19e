"""Exported models of runs and registered versions, and unfinished exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.core.errors import NotFoundError
from store.core.export_schemas import ExportSpec, ModelExportResult, ModelExportRow, StoredManifest
from store.core.schemas import Job
from store.db.named_query import named_query
from store.db.records import read_records, to_json
from store.jobs.job_queue import to_utc

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

KIND, VERIFY = "model_export", "model_verify"
MANIFEST = "manifest.json"  # manifest in an export's folder (`ExportManifest`)
JSON_COLUMNS = ("files", "parity", "notices")
COPIED = ("form", "gguf", "folder", "bytes", "model_bytes", "source_bytes")  # unchanged from a result


@named_query
def of_run(db: Queryable, run_id: str) -> list[ModelExportRow]:
    """Return exports of a run's own model, newest first."""
    sql = """SELECT * FROM model_export WHERE run_id = ? AND subject = 'run'
        ORDER BY created_at DESC, job_id DESC"""
    return read_records(db.query(sql, [run_id]), ModelExportRow, JSON_COLUMNS)


@named_query
def of_version(db: Queryable, model_id: str, version: int) -> list[ModelExportRow]:
    """Return exports of a registered version, newest first."""
    sql = """SELECT * FROM model_export WHERE model_id = ? AND version = ?
        ORDER BY created_at DESC, job_id DESC"""
    return read_records(db.query(sql, [model_id, version]), ModelExportRow, JSON_COLUMNS)


@named_query
def get(db: Queryable, job_id: str) -> ModelExportRow:
    """Return the export created by this job. Raises NotFoundError."""
    sql = "SELECT * FROM model_export WHERE job_id = ?"
    rows = read_records(db.query(sql, [job_id]), ModelExportRow, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(
            f"Export {job_id!r} not found.", fix="List them with `tunebench model exports`.", field="export"
        )
    return rows[0]


def is_named(db: Queryable, folder: str) -> bool:
    """Return whether any export uses the folder with that path, relative to the home folder."""
    return bool(db.query("SELECT 1 FROM model_export WHERE folder = ?", [folder]).num_rows)


@named_query
def recent(db: Queryable, *, limit: int = 100) -> list[ModelExportRow]:
    """Return exports of all models, newest first."""
    sql = "SELECT * FROM model_export ORDER BY created_at DESC, job_id DESC LIMIT ?"
    return read_records(db.query(sql, [limit]), ModelExportRow, JSON_COLUMNS)


@named_query
def unfinished(db: Queryable, subject: str) -> list[Job]:
    """Return export jobs of a subject (a run's id, or NAME@3) without a result, oldest first."""
    sql = """SELECT * FROM job WHERE kind = ? AND status <> 'finished' AND config ->> 'subject' = ?
        ORDER BY created_at, job_id"""
    return read_records(db.query(sql, [KIND, subject]), Job, ("config", "error", "result"))


@named_query
def verifications(db: Queryable, export: str) -> list[Job]:
    """Return jobs that compared this export with its model again, newest first."""
    sql = """SELECT * FROM job WHERE kind = ? AND config ->> 'export' = ?
        ORDER BY created_at DESC, job_id DESC"""
    return read_records(db.query(sql, [VERIFY, export]), Job, ("config", "error", "result"))


def list_manifests(db: Queryable, subject: str, checkpoint: str) -> list[StoredManifest]:
    """Return the manifests of a subject's exports (a run's id, or NAME@3) that have one, newest first."""
    sql = """SELECT * FROM model_export
        WHERE checkpoint = ? AND CASE subject WHEN 'run' THEN run_id ELSE name END = ?
        ORDER BY created_at DESC, job_id DESC"""
    rows = read_records(db.query(sql, [checkpoint, subject]), ModelExportRow, JSON_COLUMNS)
    return [
        {"form": row.form, "gguf": row.gguf, "folder": row.folder, "sha256": file.sha256}
        for row in rows
        for file in row.files
        if file.path == MANIFEST
    ]


def insert(tx: Transaction, job: Job, order: ExportSpec, result: ModelExportResult, at: float) -> None:
    """Record the export created by a job."""
    version = order.version
    name = f"{version.name}@{version.version}" if version else order.run_name
    row = {
        "job_id": job.job_id,
        "subject": "version" if version else "run",
        "name": name,
        "run_id": order.run_id,
        "model_id": version.model_id if version else None,
        "version": version.version if version else None,
        "checkpoint": job.config["checkpoint"],
        **{key: getattr(result, key) for key in COPIED},
        **{"files": to_json(result.files), "zip": result.zip, "hub": result.hub},
        **{"status": result.parity.status, "parity": to_json(result.parity)},
        "notices": to_json(result.notices),
        "tokens_per_second": result.parity.tokens_per_second,
        "created_by": job.created_by,
        "created_at": to_utc(at),
    }
    marks = ", ".join("?" for _ in row)
    tx.execute(f"INSERT INTO model_export ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def delete(tx: Transaction, job_id: str) -> None:
    """Delete an export."""
    tx.execute("DELETE FROM model_export WHERE job_id = ?", [job_id])
