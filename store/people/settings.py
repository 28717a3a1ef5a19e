"""What a store keeps for all of its users: the price of an hour, whether people sign in, the owner's name,
which private networks may be reached."""

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
    """What an hour of the machine costs; left out, nobody knows."""

    per_hour: float | None = Field(None, ge=0, le=1_000_000, allow_inf_nan=False)
    currency: str = Field("EUR", min_length=1, max_length=8)


@named_query
def price(db: Queryable) -> HourPrice:
    """What somebody set, or that nobody did."""
    kept = _read_setting(db, PRICE)
    price = Price.parse(json.loads(kept) if kept else {})
    return HourPrice(per_hour=price.per_hour, currency=price.currency)


def set_price(tx: Transaction, value: Price) -> None:
    """Keep the price."""
    _save_setting(tx, PRICE, value.model_dump_json())


def has_team(db: Queryable) -> bool:
    """Whether people sign in."""
    return _read_setting(db, TEAM) == "on"


def set_team(tx: Transaction, on: bool) -> None:
    """Whether people sign in from now on."""
    _save_setting(tx, TEAM, "on" if on else "off")


@named_query
def networks(db: Queryable) -> list[str]:
    """Private networks that requests to addresses of people's choice may go to."""
    kept = _read_setting(db, NETWORKS)
    return list(json.loads(kept)) if kept else []


def get_address_policy(db: Queryable, home: Home) -> AddressPolicy:
    """Where such a request may go now."""
    return AddressPolicy.of(networks(db), home)


def set_networks(tx: Transaction, networks: list[str]) -> None:
    """Others in their place."""
    _save_setting(tx, NETWORKS, json.dumps(networks))


def get_owner_name(db: Queryable) -> str:
    """The name of whoever has the home folder: the one that was chosen, else that of the system's user."""
    return _read_setting(db, OWNER_NAME) or _get_system_user()


def set_owner_name(tx: Transaction, name: str) -> None:
    """Another name."""
    _save_setting(tx, OWNER_NAME, name)


@named_query
def lost_commits(db: Queryable) -> LostCommits | None:
    """What the store lacked when that was last found."""
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
