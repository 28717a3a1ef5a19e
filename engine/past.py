"""What the engine adds to a question about costs and a worker can't look up: how runs of the past turned out,
and which data set is to be replayed.

Screens, command line and the launch itself all ask through here, so that one config has one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store import datasets, runs
from store.database import Queryable
from store.errors import ConfigError, NotFoundError

Body = dict[str, Any]


def completed_by(database: Queryable) -> Callable[[str, Body], Body]:
    """A function that completes the body of an ask."""

    def complete(name: str, body: Body) -> Body:
        if name not in ("preview", "advice"):
            return body
        return body | {"past": runs.measured(database), "replay": replayed(database, body)}

    return complete


def replayed(database: Queryable, body: Body) -> Body | None:
    """The data set whose rows a run replays {dataset_id, name, kind, fingerprint}; None where it is none.

    Raises ConfigError for one that isn't there.
    """
    name = (body.get("config") or {}).get("replay_dataset") or ""
    if not name or not isinstance(name, str):
        return None
    try:
        found = datasets.get_dataset(database, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field="replay_dataset") from error
    return {key: found[key] for key in ("dataset_id", "name", "kind", "fingerprint")}
