"""What the engine adds to a question about costs: how runs of the past turned out, which a worker can't look
up.

Screens, command line and the launch itself all ask through here, so that one config has one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store import runs
from store.database import Queryable

Body = dict[str, Any]


def completed_by(database: Queryable) -> Callable[[str, Body], Body]:
    """A function that completes the body of an ask."""

    def complete(name: str, body: Body) -> Body:
        if name not in ("preview", "advice"):
            return body
        return body | {"past": runs.measured(database)}

    return complete
