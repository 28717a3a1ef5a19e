"""Improvements of registered models, and their schedules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from store.core.documents import parse_document
from store.core.errors import NotFoundError, StateError
from store.core.model_schemas import ModelVersion
from store.core.schemas import ErrorDocument
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json
from store.retraining.config import DatasetRowSource, ImproveSchedule, RoundRowSource
from store.retraining.schemas import (
    AT_WORK,
    RESUMED,
    Improvement,
    ImprovementFacts,
    ImprovementSchedule,
    ImprovementState,
)

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

JSON_COLUMNS = ["config", "facts", "trouble"]
MAX_LISTED = 200


@named_query
def get(db: Queryable, name: str) -> Improvement:
    """Return the improvement with this id, or the newest with this name. Raises NotFoundError."""
    sql = """
        SELECT * FROM improvement WHERE improvement_id = $1 OR name = $1
        ORDER BY improvement_id <> $1, begun_at DESC LIMIT 1"""
    rows = read_records(db.query(sql, [name]), Improvement, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(
            f"There is no improvement {name!r}.",
            fix="`tunebench improvements` lists them.",
            field="improvement",
        )
    return rows[0]


@named_query
def of_model(db: Queryable, model_id: str, *, limit: int = MAX_LISTED) -> list[Improvement]:
    """Return the improvements of a model, newest first; of all models if the id is empty."""
    sql = """
        SELECT * FROM improvement WHERE $1 IN ('', model_id)
        ORDER BY begun_at DESC, improvement_id DESC LIMIT $2"""
    return read_records(db.query(sql, [model_id, limit]), Improvement, JSON_COLUMNS)


@named_query
def in_states(db: Queryable, states: Sequence[ImprovementState] = AT_WORK) -> list[Improvement]:
    """Return the improvements of all models in these states, oldest first."""
    sql = "SELECT * FROM improvement WHERE list_contains($1, state) ORDER BY begun_at, improvement_id"
    return read_records(db.query(sql, [list(states)]), Improvement, JSON_COLUMNS)


@named_query
def schedule(db: Queryable, model_id: str) -> ImprovementSchedule | None:
    """Return the schedule of a model; None if there is none."""
    sql = "SELECT * FROM improvement_schedule WHERE model_id = ?"
    rows = read_records(db.query(sql, [model_id]), ImprovementSchedule, ["config", "trouble"])
    return rows[0] if rows else None


def list_schedules(db: Queryable) -> list[ImprovementSchedule]:
    """Return the schedules of all models, sorted by model id."""
    table = db.query("SELECT * FROM improvement_schedule ORDER BY model_id")
    return read_records(table, ImprovementSchedule, ["config", "trouble"])


def find(db: Queryable, improvement_id: str) -> Improvement | None:
    """Return the improvement with this id; None if it was deleted."""
    table = db.query("SELECT * FROM improvement WHERE improvement_id = ?", [improvement_id])
    return next(iter(read_records(table, Improvement, JSON_COLUMNS)), None)


def list_names(db: Queryable) -> set[str]:
    """Return the names of all improvements."""
    return set(db.query("SELECT name FROM improvement")["name"].to_pylist())


def find_last_start(db: Queryable, model_id: str) -> datetime | None:
    """Return when the last improvement of a model began."""
    moment: datetime | None = read_scalar(
        db.query("SELECT max(begun_at) FROM improvement WHERE model_id = ?", [model_id])
    )
    return moment


def find_dependent(
    db: Queryable, needed_id: str, states: Sequence[ImprovementState] = AT_WORK
) -> Improvement | None:
    """Return an improvement in progress that needs a run, a job, a data set, a round or a version NAME@3."""
    return next((each for each in in_states(db, states) if needed_id in _build_needed_sql(each)), None)


UNPROMOTED: tuple[ImprovementState, ...] = (*AT_WORK, *RESUMED, "stopped", "declined")


def find_unpromoted(db: Queryable, version: ModelVersion, alias: str) -> Improvement | None:
    """Return the newest improvement that created a version for an alias, unless it was promoted.

    It is also matched by its run: an improvement records its version only a step after that exists, and
    never versions that others register from its run.
    """
    reference = f"{version.name}@{version.version}"
    for each in reversed(in_states(db, (*UNPROMOTED, "promoted"))):
        facts = each.facts
        own_run = version.run_id is not None and facts.get("run_id") == version.run_id
        ours = each.model_id == version.model_id and each.alias == alias
        if ours and (own_run or facts.get("version") == reference):
            return each if each.state in UNPROMOTED else None
    return None


def _build_needed_sql(improvement: Improvement) -> set[str]:
    config, facts = improvement.config, improvement.facts
    needed = {config.run}
    needed |= {source.round for source in config.rows if isinstance(source, RoundRowSource)}
    needed |= {source.dataset for source in config.rows if isinstance(source, DatasetRowSource)}
    needed |= {value for value in facts.values() if isinstance(value, str)}
    needed |= {*facts.get("evaluation_jobs", []), *facts.get("compared_runs", [])}
    return needed - {""}


# -- writes -----------------------------------------------------------------------------------------


def insert(tx: Transaction, improvement: Improvement) -> None:
    """Insert an improvement."""
    row = {
        name: to_json(value) if name in JSON_COLUMNS and value is not None else value
        for name, value in vars(improvement).items()
    }
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO improvement ({', '.join(row)}) VALUES ({places})", row)


def set_facts(tx: Transaction, improvement_id: str, **facts: Unpack[ImprovementFacts]) -> ImprovementFacts:
    """Add facts, and return all facts."""
    return _write_facts(tx, improvement_id, {**_read_facts(tx, improvement_id), **facts})


def drop_facts(tx: Transaction, improvement_id: str, *facts: str) -> None:
    """Remove facts, if present."""
    kept = {name: value for name, value in _read_facts(tx, improvement_id).items() if name not in facts}
    _write_facts(tx, improvement_id, parse_document(ImprovementFacts, kept))


def _read_facts(tx: Transaction, improvement_id: str) -> ImprovementFacts:
    raw = read_scalar(tx.query("SELECT facts FROM improvement WHERE improvement_id = ?", [improvement_id]))
    facts = parse_document(ImprovementFacts, json.loads(raw))
    return facts


def _write_facts(tx: Transaction, improvement_id: str, facts: ImprovementFacts) -> ImprovementFacts:
    tx.execute("UPDATE improvement SET facts = ? WHERE improvement_id = ?", [to_json(facts), improvement_id])
    return facts


def set_state(
    tx: Transaction,
    improvement_id: str,
    state: ImprovementState,
    at: datetime,
    *,
    failed_at: ImprovementState | None = None,
    trouble: ErrorDocument | None = None,
) -> None:
    """Set the state; for a failed or waiting improvement, also where it resumes and why it stopped."""
    tx.execute(
        "UPDATE improvement SET state = ?, failed_at = ?, trouble = ?, changed_at = ?"
        " WHERE improvement_id = ?",
        [state, failed_at, to_json(trouble) if trouble else None, at, improvement_id],
    )


def end(
    tx: Transaction, improvement_id: str, state: ImprovementState, at: datetime, by: str | None, note: str
) -> None:
    """End an improvement as promoted, declined or stopped, with the person and the reason."""
    set_state(tx, improvement_id, state, at)
    tx.execute(
        "UPDATE improvement SET ended_at = ?, ended_by_name = ?, note = ? WHERE improvement_id = ?",
        [at, by, note, improvement_id],
    )


def set_schedule(
    tx: Transaction, model_id: str, config: ImproveSchedule, by: tuple[str, str], at: datetime
) -> None:
    """Set the schedule of a model, replacing an existing one. by: id and name of the person."""
    tx.execute("DELETE FROM improvement_schedule WHERE model_id = ?", [model_id])
    tx.execute(
        "INSERT INTO improvement_schedule VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
        [model_id, to_json(config), *by, at],
    )


def end_schedule(tx: Transaction, model_id: str) -> bool:
    """Delete the schedule of a model, and return whether there was one."""
    return bool(tx.execute("DELETE FROM improvement_schedule WHERE model_id = ?", [model_id]))


def record_look(
    tx: Transaction, model_id: str, at: datetime, rows: int | None, trouble: ErrorDocument | None
) -> None:
    """Record a schedule's check for new rows and any problem."""
    tx.execute(
        "UPDATE improvement_schedule SET last_at = ?, last_rows = ?, trouble = ? WHERE model_id = ?",
        [at, rows, to_json(trouble) if trouble else None, model_id],
    )


def check_not_improving(db: Queryable, needed_id: str, name: str) -> None:
    """Raise StateError if an improvement in progress needs a job, run, data set, round or version.

    needed_id: its id; for a version, NAME@3.
    """
    if improvement := find_dependent(db, needed_id):
        raise StateError(
            f"{name} is used by the improvement {improvement.name}, which is in progress.",
            fix="Wait until it ends, or stop it first.",
        )


def check_split_unchanged(db: Queryable, dataset_id: str, name: str) -> None:
    """Raise StateError if an improvement trains and evaluates on the split of a data set.

    After a new split, its evaluations would include training rows. A failed improvement counts, since it
    may be resumed.
    """
    if improvement := find_dependent(db, dataset_id, (*AT_WORK, "failed")):
        raise StateError(
            f"{improvement.name} trains and evaluates on the splits of {name}, which can't change until "
            "it ends.",
            fix="Promote, decline or stop the improvement first.",
            field="dataset",
        )
