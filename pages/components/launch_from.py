"""A run launched from another: the config of that one with some fields changed, and a name that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages.components import reads
from pages.components.config_fields import as_text

NAME = 120  # characters


def cloned(run_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with `change`, that run as its parent, data sets under their present names."""
    run = reads.run(run_id)
    document = {k: v for k, v in run["config"].items() if v is not None}
    names = {row["dataset_id"]: row["name"] for row in reads.datasets()}
    document["dataset"] = names.get(run["dataset_id"], run["dataset_name"])
    if general := document.get("replay_dataset"):
        document["replay_dataset"] = names.get(general, general)
    return document | {"name": named(run["name"], change), "parent": run_id} | dict(change)


def named(name: str, change: Mapping[str, Any]) -> str:
    """The parent's name and what is changed, as far as there is room."""
    if change.get("init_from"):
        return f"{name[:110]} continued"
    if not change:
        return f"{name} again"[:NAME]
    said = ", ".join(f"{field} {as_text(value)}" for field, value in change.items())
    return f"{name[: max(20, NAME - len(said) - 2)]}, {said}"[:NAME]
