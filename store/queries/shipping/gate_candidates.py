"""A version at a gate, and whoever has the alias that it is to take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from store.documents.shipping.gate import CheckEvidence
from store.documents.shipping.version import ModelVersion
from store.queries.shipping import aliases, versions

if TYPE_CHECKING:
    from store.db.database import Queryable

Check = Mapping[str, Any]  # of store.config.shipping.gate_config, as it is stored


class Candidate(NamedTuple):
    """A version at a gate, and the version that has the alias now, where it is another one."""

    version: ModelVersion
    holder: ModelVersion | None
    alias: str

    @property
    def reference(self) -> str:
        return name_of(self.version)

    @property
    def quoted(self) -> str:
        """For a shell."""
        return shlex.quote(self.reference)


def name_of(version: ModelVersion) -> str:
    """NAME@NUMBER."""
    return f"{version['name']}@{version['version']}"


def candidate_of(db: Queryable, reference: str, alias: str) -> Candidate:
    """The version and who has the alias now. Raises NotFoundError."""
    version = versions.get_version(db, reference)
    number = aliases.standing(db, version["model_id"], alias)
    holder = None
    if number is not None and number != version["version"]:
        holder = versions.find_version(db, version["model_id"], number)
    return Candidate(version, holder, alias)


def gather_command(candidate: Candidate) -> CheckEvidence:
    """What makes the evaluations that are missing."""
    command = f"tunebench model gate {candidate.quoted} {shlex.quote(candidate.alias)} --gather --wait"
    return {"command": command, "gather": True}
