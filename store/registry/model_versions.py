"""Registered models, their versions by reference (NAME@3, NAME@production), aliases and gates.

Aliases have a present version, a log of moves, a gate, and a version to roll back to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from store.core.errors import NotFoundError
from store.core.model_schemas import AliasState, ModelSummary, ModelVersion, VersionSummary
from store.core.schemas import ConfigDocument, Person
from store.db.named_query import named_query, register_reference
from store.db.records import read_records, read_scalar, to_json
from store.jobs import job_queue
from store.registry.schemas import AliasMove, GateRecord

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

COLUMNS = (
    "v.model_id, m.name, v.version, v.source, v.run_id, v.base_model, v.adapter, v.folder, v.fingerprint,"
    " v.files, v.notes, v.created_by, v.created_by_name, v.created_at"
)

JSON_COLUMNS = ("source", "files")
_MODELS = """
    SELECT m.model_id, m.name, m.description, m.created_by_name, m.created_at,
        (SELECT count(*) FROM model_version v WHERE v.model_id = m.model_id) AS versions,
        (SELECT max(version) FROM model_version v WHERE v.model_id = m.model_id) AS newest,
        (SELECT max(created_at) FROM model_version v WHERE v.model_id = m.model_id) AS newest_at,
        (SELECT version FROM model_alias a WHERE a.model_id = m.model_id AND alias = 'production')
            AS production
    FROM registered_model m"""


@named_query
def get_version(db: Queryable, reference: str) -> ModelVersion:
    """Return the version that NAME@NUMBER or NAME@ALIAS refers to now. Raises NotFoundError."""
    name, _, version = reference.rpartition("@")
    number = int(version) if version.isdecimal() and len(version) < 10 else None
    sql = f"""
        SELECT {COLUMNS} FROM model_version v JOIN registered_model m USING (model_id)
        WHERE m.name = $1 AND v.version = coalesce($2, (
            SELECT version FROM model_alias WHERE model_id = m.model_id AND alias = $3))"""
    rows = read_records(db.query(sql, [name, number, version]), ModelVersion, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(
            f"There is no registered model {reference}.",
            fix="`tunebench models` lists the models, their versions and aliases.",
        )
    return rows[0]


register_reference(ModelVersion, lambda version: f"{version.name}@{version.version}", get_version)


@named_query
def find_fingerprint(db: Queryable, model_id: str, fingerprint: str) -> ModelVersion | None:
    """Return the version of a model with exactly this content."""
    sql = f"""
        SELECT {COLUMNS} FROM model_version v JOIN registered_model m USING (model_id)
        WHERE v.model_id = ? AND v.fingerprint = ?"""
    return next(iter(read_records(db.query(sql, [model_id, fingerprint]), ModelVersion, JSON_COLUMNS)), None)


@named_query
def registered_by(db: Queryable, job_id: str) -> ModelVersion:
    """Return the version that a finished job `register` created or found.

    Raises NotFoundError if it has been deleted since.
    """
    job = job_queue.get_job(db, job_id)
    name, result = job.config["register"]["name"], job.result or {}
    version = find_fingerprint(db, get_model(db, name).model_id, result["fingerprint"])
    if version is None:
        raise NotFoundError(f"The version of {name} no longer exists.", fix="Register the version again.")
    return version


def map_run_names(db: Queryable, model: str) -> set[str]:
    """Return names and ids of the runs behind a model's versions; a run can be served under either."""
    sql = """
        SELECT r.name, r.run_id FROM model_version v JOIN registered_model m USING (model_id)
            JOIN run r ON r.run_id = v.run_id
        WHERE m.name = ?"""
    return {str(value) for row in db.query(sql, [model]).to_pylist() for value in row.values()}


def find_version(db: Queryable, model_id: str, number: int) -> ModelVersion | None:
    """Return a version by its number, or None."""
    sql = f"""
        SELECT {COLUMNS} FROM model_version v JOIN registered_model m USING (model_id)
        WHERE v.model_id = ? AND v.version = ?"""
    return next(iter(read_records(db.query(sql, [model_id, number]), ModelVersion, JSON_COLUMNS)), None)


@named_query
def get_model(db: Queryable, name: str) -> ModelSummary:
    """Return the registered model with that name or id. Raises NotFoundError."""
    rows = read_records(db.query(f"{_MODELS} WHERE m.name = $1 OR m.model_id = $1", [name]), ModelSummary)
    if not rows:
        raise NotFoundError(
            f"There is no registered model {name[:200]!r}.", fix="`tunebench models` lists them."
        )
    return rows[0]


@named_query
def list_models(
    db: Queryable, *, search: str = "", limit: int = 50, offset: int = 0
) -> tuple[int, list[ModelSummary]]:
    """Return the number of models whose name matches and a page of them, by newest version first."""
    where = "WHERE contains(lower(m.name), lower($1))"
    total = int(read_scalar(db.query(f"SELECT count(*) FROM registered_model m {where}", [search])))
    sql = f"{_MODELS} {where} ORDER BY newest_at DESC NULLS LAST, m.name LIMIT $2 OFFSET $3"
    return total, read_records(db.query(sql, [search, limit, offset]), ModelSummary)


@named_query
def list_versions(
    db: Queryable, model_id: str, *, limit: int = 25, offset: int = 0
) -> tuple[int, list[VersionSummary]]:
    """Return the number of a model's versions and a page of them, newest first, without their file lists."""
    total = int(read_scalar(db.query("SELECT count(*) FROM model_version WHERE model_id = ?", [model_id])))
    sql = """
        SELECT v.model_id, m.name, v.version, v.source, v.run_id, v.base_model, v.adapter, v.fingerprint,
            v.notes, v.created_by, v.created_by_name, v.created_at,
            coalesce(list_sort((SELECT list(alias) FROM model_alias a
                WHERE a.model_id = v.model_id AND a.version = v.version)), []) AS aliases,
            (SELECT sum((f ->> 'bytes')::BIGINT) FROM (SELECT unnest(v.files::JSON[]) AS f))::BIGINT AS bytes,
            EXISTS (SELECT 1 FROM job j WHERE j.job_id = v.run_id) AS run_present
        FROM model_version v JOIN registered_model m USING (model_id)
        WHERE v.model_id = ? ORDER BY v.version DESC LIMIT ? OFFSET ?"""
    return total, read_records(db.query(sql, [model_id, limit, offset]), VersionSummary, ["source"])


@named_query
def aliases(db: Queryable, model_id: str) -> list[AliasState]:
    """Return the version of each alias of a model, sorted by alias."""
    sql = "SELECT alias, version, moved_at FROM model_alias WHERE model_id = ? ORDER BY alias"
    return read_records(db.query(sql, [model_id]), AliasState)


@named_query
def versions_of_run(db: Queryable, run_id: str) -> list[VersionSummary]:
    """Return the versions registered from a run."""
    sql = """
        SELECT v.model_id, m.name, v.version, v.source, v.run_id, v.base_model, v.adapter, v.fingerprint,
            v.notes, v.created_by, v.created_by_name, v.created_at,
            coalesce(list_sort((SELECT list(alias) FROM model_alias a
                WHERE a.model_id = v.model_id AND a.version = v.version)), []) AS aliases,
            NULL::BIGINT AS bytes, true AS run_present
        FROM model_version v JOIN registered_model m USING (model_id)
        WHERE v.run_id = ? ORDER BY v.created_at DESC"""
    return read_records(db.query(sql, [run_id]), VersionSummary, ["source"])


def list_on_base(db: Queryable, reference: str) -> list[str]:
    """Return versions whose base model is this version, as NAME@NUMBER."""
    sql = """
        SELECT m.name || '@' || v.version AS name
        FROM model_version v JOIN registered_model m USING (model_id)
        WHERE v.base_model = ? ORDER BY 1"""
    return [str(name) for name in db.query(sql, [reference])["name"].to_pylist()]


# -- writes -----------------------------------------------------------------------------------------


def ensure_model(tx: Transaction, model_id: str, name: str, person: Person, at: datetime) -> None:
    """Create the registered model if it doesn't exist."""
    tx.execute(
        "INSERT OR IGNORE INTO registered_model"
        " (model_id, name, description, created_by, created_by_name, created_at, last_version)"
        " VALUES (?, ?, '', ?, ?, ?, 0)",
        [model_id, name, person.person_id, person.name, at],
    )


def set_description(tx: Transaction, model_id: str, description: str) -> None:
    """Set a model's intended use."""
    tx.execute("UPDATE registered_model SET description = ? WHERE model_id = ?", [description, model_id])


def get_last_number(db: Queryable, model_id: str) -> int:
    """Return the highest version number ever assigned."""
    sql = "SELECT coalesce(max(last_version), 0) FROM registered_model WHERE model_id = ?"
    return int(read_scalar(db.query(sql, [model_id])))


def insert(tx: Transaction, version: ModelVersion) -> None:
    """Insert a new version; its number is never reused."""
    row = {name: value for name, value in vars(version).items() if name != "name"}
    row |= {"source": to_json(version.source), "files": to_json(version.files)}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO model_version ({', '.join(row)}) VALUES ({places})", row)
    tx.execute(
        "UPDATE registered_model SET last_version = greatest(last_version, ?) WHERE model_id = ?",
        [version.version, version.model_id],
    )


def delete(tx: Transaction, model_id: str, number: int) -> None:
    """Delete a version; alias moves to it stay in the log."""
    tx.execute("DELETE FROM model_version WHERE model_id = ? AND version = ?", [model_id, number])


@dataclass(kw_only=True)
class VersionWithAliases:
    """A version with its aliases."""

    name: str  # name of the model
    version: int
    aliases: list[str]
    run_id: str | None
    base_model: str | None
    adapter: bool
    notes: str
    created_by_name: str
    created_at: datetime


@named_query
def count_versions(db: Queryable) -> int:
    """Return the number of versions."""
    return int(read_scalar(db.query("SELECT count(*) FROM model_version")))


@named_query
def newest_versions(db: Queryable, limit: int) -> list[VersionWithAliases]:
    """Return the most recently registered versions, newest first."""
    sql = """
        SELECT m.name, v.version, coalesce(a.aliases, []) AS aliases, v.run_id, v.base_model, v.adapter,
               v.notes, v.created_by_name, v.created_at
        FROM model_version v JOIN registered_model m USING (model_id)
        LEFT JOIN (
            SELECT model_id, version, list(alias ORDER BY alias) AS aliases FROM model_alias GROUP BY ALL
        ) a USING (model_id, version)
        ORDER BY v.created_at DESC, m.name, v.version DESC LIMIT ?"""
    return read_records(db.query(sql, [limit]), VersionWithAliases)


@named_query
def alias_standing(db: Queryable, model_id: str, alias: str) -> int | None:
    """Return the version number that has an alias; None if there is none."""
    sql = "SELECT version FROM model_alias WHERE model_id = ? AND alias = ?"
    rows = db.query(sql, [model_id, alias])["version"].to_pylist()
    return int(rows[0]) if rows else None


@named_query
def alias_moves(db: Queryable, model_id: str, alias: str = "", *, limit: int = 500) -> list[AliasMove]:
    """Return the log of alias moves of a model, or of one alias, newest first."""
    sql = """
        SELECT * FROM alias_move WHERE model_id = $1 AND ($2 = '' OR alias = $2)
        ORDER BY moved_at DESC, move_id DESC LIMIT $3"""
    return read_records(db.query(sql, [model_id, alias, limit]), AliasMove, ["gate"])


@named_query
def alias_before(db: Queryable, model_id: str, alias: str) -> int | None:
    """Return the version that a rollback moves an alias to: the previous holder, if it still exists.

    Rolling back twice goes back two versions instead of alternating between two.
    """
    stack: list[int] = []
    for move in reversed(alias_moves(db, model_id, alias, limit=100_000)):
        if move.kind == "back":
            while stack and move.to_version is not None and stack[-1] != move.to_version:
                stack.pop()
        elif move.to_version is not None:
            stack.append(move.to_version)
    present = db.query("SELECT version FROM model_version WHERE model_id = ?", [model_id])
    there = set(present["version"].to_pylist())
    current = alias_standing(db, model_id, alias)
    earlier = [number for number in stack if number in there and number != current]
    return earlier[-1] if earlier else None


@named_query
def gate(db: Queryable, model_id: str, alias: str) -> GateRecord | None:
    """Return the gate of an alias; None if it was never set."""
    sql = """
        SELECT model_id, alias, config, changed_by_name, changed_at FROM model_gate
        WHERE model_id = ? AND alias = ?"""
    return next(iter(read_records(db.query(sql, [model_id, alias]), GateRecord, ["config"])), None)


def list_gates(db: Queryable, model_id: str) -> list[GateRecord]:
    """Return all gates of a model, sorted by alias."""
    sql = """
        SELECT model_id, alias, config, changed_by_name, changed_at FROM model_gate
        WHERE model_id = ? ORDER BY alias"""
    return read_records(db.query(sql, [model_id]), GateRecord, ["config"])


# -- writes -----------------------------------------------------------------------------------------


def move_alias(tx: Transaction, line: AliasMove) -> None:
    """Move an alias and log who did it and why."""
    tx.execute("DELETE FROM model_alias WHERE model_id = ? AND alias = ?", [line.model_id, line.alias])
    if line.to_version is not None:
        tx.execute(
            "INSERT INTO model_alias (model_id, alias, version, moved_at) VALUES (?, ?, ?, ?)",
            [line.model_id, line.alias, line.to_version, line.moved_at],
        )
    row: ConfigDocument = {**vars(line), "gate": to_json(line.gate) if line.gate else None}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO alias_move ({', '.join(row)}) VALUES ({places})", row)


def set_gate(
    tx: Transaction, model_id: str, alias: str, config: ConfigDocument, person: Person, at: datetime
) -> None:
    """Set a gate, replacing an existing one."""
    tx.execute("DELETE FROM model_gate WHERE model_id = ? AND alias = ?", [model_id, alias])
    tx.execute(
        "INSERT INTO model_gate VALUES (?, ?, ?, ?, ?, ?)",
        [model_id, alias, to_json(config), person.person_id, person.name, at],
    )
