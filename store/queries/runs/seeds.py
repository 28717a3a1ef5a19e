"""Which runs repeat one another: the same settings on the same rows, with another seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

OWN = frozenset({"name", "notes", "seed", "gate_override"})  # what may differ between repetitions


def settings_of(run: Mapping[str, Any]) -> str:
    """A key that runs share which differ in nothing but their seed."""
    config = {field: value for field, value in run["config"].items() if field not in OWN}
    return json.dumps([run["data_fingerprint"], config], sort_keys=True, default=str)


def repeated(runs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs by their settings, in the order in which each was first met. A run that has the seed too of
    another says nothing new of their settings and stands by itself."""
    groups: dict[str, list[dict[str, Any]]] = {}
    twice = []
    for run in runs:
        group = groups.setdefault(settings_of(run), [])
        if any(run["config"].get("seed") == other["config"].get("seed") for other in group):
            twice.append([run])
        else:
            group.append(run)
    return [*groups.values(), *twice]
