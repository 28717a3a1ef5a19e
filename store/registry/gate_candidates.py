"""A version at a gate beside whoever has the alias, and what its run, its bias checks and its exports say
of it."""

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

Check = Mapping[str, Any]  # of store.registry.config, as it is stored


class Candidate(NamedTuple):
    """A version at a gate, and the version that has the alias now, where it is another one."""

    version: ModelVersion
    holder: ModelVersion | None
    alias: str

    @property
    def reference(self) -> str:
        return format_version_reference(self.version)

    @property
    def quoted(self) -> str:
        """For a shell."""
        return shlex.quote(self.reference)


def format_version_reference(version: ModelVersion) -> str:
    """NAME@NUMBER."""
    return f"{version.name}@{version.version}"


def get_candidate(db: Queryable, reference: str, alias: str) -> Candidate:
    """The version and who has the alias now. Raises NotFoundError."""
    version = model_versions.get_version(db, reference)
    number = model_versions.alias_standing(db, version.model_id, alias)
    holder = None
    if number is not None and number != version.version:
        holder = model_versions.find_version(db, version.model_id, number)
    return Candidate(version, holder, alias)


def format_gather_command(candidate: Candidate) -> CheckInputs:
    """What makes the evaluations that are missing."""
    command = f"tunebench model gate {candidate.quoted} {shlex.quote(candidate.alias)} --gather --wait"
    return {"command": command, "gather": True}


def find_verdict(db: Queryable, version: ModelVersion) -> Verdict | None:
    """Of the run that it came from, where the version is what that run ended with and the run is there."""
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
    """The newest bias check of a version, or of the run that it came from, against what it was, and how many
    checks there are."""
    tuned = version.run_id if version.source.checkpoint == "tuned" else None
    return find_newest_bias_check(db, format_version_reference(version), tuned)


def find_newest_bias_check(
    db: Queryable, reference: str | None, run_id: str | None
) -> tuple[BiasReport, str, int] | None:
    """Of the version NAME@3, or of what the run ended with; null is none."""
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
    """The newest export of a version in each form, and how it compares."""
    sql = """
        SELECT form, arg_max(parity::VARCHAR, created_at) AS parity FROM model_export
        WHERE model_id = ? AND version = ? GROUP BY form ORDER BY form"""
    lines = db.query(sql, [version.model_id, version.version]).to_pylist()
    return [
        (line["form"], parse_optional_document(ParityReport, json.loads(line["parity"] or "null")))
        for line in lines
    ]
