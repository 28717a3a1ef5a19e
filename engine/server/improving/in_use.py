"""The version in use, beside which an improvement is measured, and what is known of the rows that it was
trained on: whoever knows a row that judges is favoured there."""

from __future__ import annotations

from typing import TypedDict

from engine.server.scheduling import compared_rows
from store.db.database import Queryable
from store.documents.shipping.version import ModelVersion
from store.queries.shipping import aliases, versions
from store.queries.shipping.gate_candidates import name_of


class TrainedBy(TypedDict):
    """Fields of `GatherConfig`."""

    in_use_run: str
    in_use_unknown: str


def holder(db: Queryable, model_id: str, alias: str) -> ModelVersion | None:
    """The version that has the alias; None where none has it."""
    number = aliases.standing(db, model_id, alias)
    return None if number is None else versions.find_version(db, model_id, number)


def trained_by(db: Queryable, version: ModelVersion | None, run_id: str) -> TrainedBy:
    """The run that made the version in use, where it is another than `run_id`, whose config is launched; and
    why nobody knows all rows that they and the runs that they go on from were trained on."""
    launched = compared_rows.line(db, run_id)
    unknown = "" if launched.whole else _gone(launched.runs[0]["name"] if launched.runs else run_id)
    if version is None or version["run_id"] == run_id:
        return {"in_use_run": "", "in_use_unknown": unknown}
    name = name_of(version)
    if version["run_id"] is None:
        imported = f"{name} was imported: nobody knows what it was trained on"
        return {"in_use_run": "", "in_use_unknown": imported}
    made_by = compared_rows.line(db, version["run_id"])
    return {
        "in_use_run": version["run_id"] if made_by.runs else "",
        "in_use_unknown": unknown if made_by.whole else _gone(name),
    }


def _gone(name: str) -> str:
    return f"what {name} was trained on is gone: nobody knows whether it has seen it"


def compared_runs(db: Queryable, by: TrainedBy, run_id: str) -> list[str]:
    """Those whose rows are compared with new ones: none may be deleted until that is done."""
    ends = [end for end in (run_id, by["in_use_run"]) if end]
    return sorted({run["run_id"] for end in ends for run in compared_rows.line(db, end).runs})
