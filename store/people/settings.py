"""Settings shared by all users of a store: price per hour, whether people sign in, the owner's name, and the
allowed private networks.
"""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING

from pydantic import Field

from store.core.address_policy import AddressPolicy
from store.core.config import Config
from store.core.documents import parse_document
from store.core.schemas import HourPrice, LostCommits
from store.db.named_query import named_query

if TYPE_CHECKING:
    from store.core.home import Home
    from store.db.database import Queryable, Transaction

PRICE = "price"
TEAM = "team"
OWNER_NAME = "owner_name"
NETWORKS = "networks"
LOST_COMMITS = "lost_commits"  # written by store.db.database


class Price(Config):
    """Cost of an hour of the machine; None if unknown."""

    per_hour: float | None = Field(None, ge=0, le=1_000_000, allow_inf_nan=False)
    currency: str = Field("EUR", min_length=1, max_length=8)


@named_query
def price(db: Queryable) -> HourPrice:
    """Return the configured price, or that there is none."""
    kept = _read_setting(db, PRICE)
    price = Price.parse(json.loads(kept) if kept else {})
    return HourPrice(per_hour=price.per_hour, currency=price.currency)


def set_price(tx: Transaction, value: Price) -> None:
    """Store the price."""
    _save_setting(tx, PRICE, value.model_dump_json())


def has_team(db: Queryable) -> bool:
    """Return whether people sign in."""
    return _read_setting(db, TEAM) == "on"


def set_team(tx: Transaction, on: bool) -> None:
    """Set whether people sign in."""
    _save_setting(tx, TEAM, "on" if on else "off")


@named_query
def networks(db: Queryable) -> list[str]:
    """Return the private networks that requests to user-chosen addresses may reach."""
    kept = _read_setting(db, NETWORKS)
    return list(json.loads(kept)) if kept else []


def get_address_policy(db: Queryable, home: Home) -> AddressPolicy:
    """Return the current policy for such requests."""
    return AddressPolicy.of(networks(db), home)


def set_networks(tx: Transaction, networks: list[str]) -> None:
    """Replace the allowed networks."""
    _save_setting(tx, NETWORKS, json.dumps(networks))


def get_owner_name(db: Queryable) -> str:
    """Return the name of the home folder's owner: the configured one, else that of the system user."""
    return _read_setting(db, OWNER_NAME) or _get_system_user()


def set_owner_name(tx: Transaction, name: str) -> None:
    """Change the owner's name."""
    _save_setting(tx, OWNER_NAME, name)


@named_query
def lost_commits(db: Queryable) -> LostCommits | None:
    """Return the lost commits that were last detected in the store."""
    kept = _read_setting(db, LOST_COMMITS)
    return parse_document(LostCommits, json.loads(kept)) if kept else None


def _get_system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user, as in some containers
        return "owner"


def _read_setting(db: Queryable, name: str) -> str | None:
    rows = db.query("SELECT value FROM setting WHERE name = ?", [name]).to_pylist()
    return str(rows[0]["value"]) if rows else None


def _save_setting(tx: Transaction, name: str, value: str) -> None:
    sql = "INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
    tx.execute(sql, [name, value])
