"""A version at a gate and the holder of the alias, with results of its run, bias checks and exports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from store.core.documents import parse_document, parse_optional_document
from store.core.export_schemas import ParityReport
from store.core.figure_schemas import BiasReport
from store.core.model_schemas import ModelVersion
from store.evaluation.verdict_schemas import Verdict
from store.registry import model_versions
from store.registry.schemas import CheckInputs
from store.runs import runs

if TYPE_CHECKING:
    from store.db.database import Queryable

Check = Mapping[str, Any]  # a check of store.registry.gate_checks, as it is stored


class Candidate(NamedTuple):
    """A version at a gate, and the version that holds the alias now, if it is another one."""

    version: ModelVersion
    holder: ModelVersion | None
    alias: str

    @property
    def reference(self) -> str:
        return format_version_reference(self.version)

    @property
    def quoted(self) -> str:
        """The reference quoted for a shell."""
        return shlex.quote(self.reference)


def format_version_reference(version: ModelVersion) -> str:
    """Format a version as NAME@NUMBER."""
    return f"{version.name}@{version.version}"


def get_candidate(db: Queryable, reference: str, alias: str) -> Candidate:
    """Return the version and the holder of the alias. Raises NotFoundError."""
    version = model_versions.get_version(db, reference)
    number = model_versions.alias_standing(db, version.model_id, alias)
    holder = None
    if number is not None and number != version.version:
        holder = model_versions.find_version(db, version.model_id, number)
    return Candidate(version, holder, alias)


def format_gather_command(candidate: Candidate) -> CheckInputs:
    """Return the command that creates the missing evaluations."""
    command = f"tunebench model gate {candidate.quoted} {shlex.quote(candidate.alias)} --gather --wait"
    return {"command": command, "gather": True}


def find_verdict(db: Queryable, version: ModelVersion) -> Verdict | None:
    """Return the verdict of the version's run; None unless the version is the run's final model and the run
    exists.
    """
    if not version.run_id or version.source.checkpoint != "tuned":
        return None
    run = runs.find_run(db, version.run_id)
    return run.verdict if run else None


def explain_missing_verdict(version: ModelVersion) -> str:
    if not version.run_id:
        return "It is an imported folder, so no run here measured it against its base."
    if version.source.checkpoint != "tuned":
        return "It is a checkpoint, but the run's verdict covers its final model."
    return "Its run was deleted, along with the verdict."


def find_bias_check(db: Queryable, version: ModelVersion) -> tuple[BiasReport, str, int] | None:
    """Return the newest bias check of a version or its run, what it was compared with, and the number of
    checks.
    """
    tuned = version.run_id if version.source.checkpoint == "tuned" else None
    return find_newest_bias_check(db, format_version_reference(version), tuned)


def find_newest_bias_check(
    db: Queryable, reference: str | None, run_id: str | None
) -> tuple[BiasReport, str, int] | None:
    """Return the newest bias check of the version NAME@3 or of the run's final model.

    Pass None for either that doesn't apply.
    """
    sql = """
        SELECT report, against, count(*) OVER () AS checks FROM bias_check WHERE model = ? OR run_id = ?
        ORDER BY created_at DESC, job_id DESC LIMIT 1"""
    newest = next(iter(db.query(sql, [reference, run_id]).to_pylist()), None)
    if newest is None:
        return None
    return parse_document(BiasReport, json.loads(newest["report"])), newest["against"], newest["checks"]


def format_bias_command(db: Queryable, candidate: Candidate) -> str:
    version = candidate.version
    run_id = version.run_id
    if run_id and version.source.checkpoint == "tuned" and runs.find_run(db, run_id):
        return f"tunebench bias {shlex.quote(run_id)}"
    base = shlex.quote(version.base_model) if version.base_model else "BASE"
    return f"tunebench bias {candidate.quoted} --against {base}"


def list_exports(db: Queryable, version: ModelVersion) -> list[tuple[str, ParityReport | None]]:
    """Return the newest export of a version in each format, with its parity report."""
    sql = """
        SELECT form, arg_max(parity::VARCHAR, created_at) AS parity FROM model_export
        WHERE model_id = ? AND version = ? GROUP BY form ORDER BY form"""
    lines = db.query(sql, [version.model_id, version.version]).to_pylist()
    return [
        (line["form"], parse_optional_document(ParityReport, json.loads(line["parity"] or "null")))
        for line in lines
    ]
