"""Addresses in a body that people choose: refused before anything is queued, as far as their text tells.

What a name leads to is seen by whoever connects (`store.http.outgoing`). Routes and webhooks are checked by
their own commands, as those are no `Endpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from store.config.measuring.judge_config import Endpoint
from store.contract.home import Home
from store.db.database import Queryable
from store.queries import settings


def check_addresses(db: Queryable, home: Home, body: BaseModel) -> None:
    """Raise ConfigError (base_url) for the first that is refused."""
    for endpoint in endpoints_in(body):
        settings.address_policy(db, home).check(endpoint.base_url, "base_url")


def endpoints_in(part: Any) -> Iterator[Endpoint]:
    """All within a body, however deep."""
    if isinstance(part, Endpoint):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from endpoints_in(getattr(part, name))
    elif isinstance(part, Mapping):
        for entry in part.values():
            yield from endpoints_in(entry)
    elif isinstance(part, list | tuple):
        for entry in part:
            yield from endpoints_in(entry)
