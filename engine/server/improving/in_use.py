"""The version in use, beside which an improvement is measured, and what is known of the rows that it was
trained on: whoever knows a row that judges is favoured there."""

from __future__ import annotations

from typing import TypedDict

from store.contract.errors import NotFoundError
from store.db.database import Queryable
from store.documents.shipping.version import ModelVersion
from store.queries.data import datasets
from store.queries.runs import runs
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
    """The run that made the version in use, where it is another than `run_id`; why nobody knows its rows."""
    if version is None or version["run_id"] == run_id:
        return {"in_use_run": "", "in_use_unknown": ""}
    name = name_of(version)
    if version["run_id"] is None:
        return {
            "in_use_run": "",
            "in_use_unknown": f"{name} was imported: nobody knows what it was trained on",
        }
    try:
        datasets.get_dataset(db, runs.get_run(db, version["run_id"])["dataset_id"])
    except NotFoundError:
        gone = f"what {name} was trained on is gone: nobody knows whether it has seen it"
        return {"in_use_run": "", "in_use_unknown": gone}
    return {"in_use_run": version["run_id"], "in_use_unknown": ""}
