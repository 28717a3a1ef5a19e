"""What the engine adds to a question about costs and a worker can't look up: how runs of the past turned out,
which data set is to be replayed, and which are probes.

Screens, command line and the launch itself all ask through here, so that one config has one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.contract.document import by_commas
from store.contract.errors import ConfigError, NotFoundError
from store.db.database import Queryable
from store.queries.data import datasets
from store.queries.runs import runs

Body = dict[str, Any]


def completed_by(database: Queryable) -> Callable[[str, Body], Body]:
    """A function that completes the body of an ask."""

    def complete(name: str, body: Body) -> Body:
        if name not in ("preview", "advice"):
            return body
        if not isinstance(body.get("config") or {}, dict):
            raise ConfigError(f"config is {body['config']!r}: give fields and values.", field="config")
        past = {"past": runs.measured(database)}
        return body | past | {"replay": replayed(database, body), "probes": probed(database, body)}

    return complete


def replayed(database: Queryable, body: Body) -> Body | None:
    """The data set whose rows a run replays {dataset_id, name, kind, fingerprint}; None where it is none.

    Raises ConfigError for one that isn't there.
    """
    name = (body.get("config") or {}).get("replay_dataset") or ""
    return _told(database, name, "replay_dataset") if name and isinstance(name, str) else None


def probed(database: Queryable, body: Body) -> list[Body]:
    """The data sets that are probes of a run, each once, as `replayed`. Raises ConfigError for one that isn't
    there."""
    names = (body.get("config") or {}).get("probe_datasets") or []
    names = by_commas(names)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"probe_datasets is {names!r}: give names of data sets.", field="probe_datasets")
    found = [_told(database, name, "probe_datasets") for name in names]
    return list({one["dataset_id"]: one for one in found}.values())


def _told(database: Queryable, name: str, field: str) -> Body:
    try:
        found = datasets.get_dataset(database, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    return {key: found[key] for key in ("dataset_id", "name", "kind", "fingerprint")}
