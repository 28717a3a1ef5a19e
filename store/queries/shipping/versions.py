"""Registered models and their versions, by what people write: NAME@3, NAME@production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.contract.errors import NotFoundError
from store.db.records import records
from store.documents.shipping.version import ModelVersion

if TYPE_CHECKING:
    from store.db.database import Queryable

COLUMNS = (
    "v.model_id, m.name, v.version, v.source, v.run_id, v.base_model, v.adapter, v.folder, v.fingerprint,"
    " v.files, v.notes, v.created_by, v.created_by_name, v.created_at"
)


def is_reference(name: str) -> bool:
    """Whether a model's name is one of a registered version; neither a folder nor a hub id has such."""
    model, at, version = name.rpartition("@")
    return bool(model and at and version) and "/" not in name and "\\" not in name


def get_version(db: Queryable, reference: str) -> ModelVersion:
    """The version that NAME@NUMBER or NAME@ALIAS means now. Raises NotFoundError that says what there is."""
    name, _, version = reference.rpartition("@")
    number = int(version) if version.isdecimal() and len(version) < 10 else None
    sql = f"""
        SELECT {COLUMNS} FROM model_version v JOIN registered_model m USING (model_id)
        WHERE m.name = $1 AND v.version = coalesce($2, (
            SELECT version FROM model_alias WHERE model_id = m.model_id AND alias = $3))"""
    rows = records(db.query(sql, [name, number, version]), ModelVersion, ["source", "files"])
    if not rows:
        raise NotFoundError(
            f"There is no registered model {reference}.",
            fix="`tunebench models` lists the models, their versions and aliases.",
        )
    return rows[0]
