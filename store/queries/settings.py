"""What a store keeps for all of its users: the price of an hour on the machine, and who works with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field

from store.contract.document import Config
from store.documents.tables.machine import HourPrice

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

PRICE = "price"
PERSON = "person"


class Price(Config):
    """What an hour of the machine costs; left out, nobody knows."""

    per_hour: float | None = Field(None, ge=0, le=1_000_000, allow_inf_nan=False)
    currency: str = Field("EUR", min_length=1, max_length=8)


def price(db: Queryable) -> HourPrice:
    """What somebody set, or that nobody did."""
    rows = db.query("SELECT value FROM setting WHERE name = ?", [PRICE]).to_pylist()
    price = Price.parse(json.loads(rows[0]["value"]) if rows else {})
    return {"per_hour": price.per_hour, "currency": price.currency}


def set_price(tx: Transaction, value: Price) -> None:
    """Keep the price."""
    tx.execute(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        [PRICE, value.model_dump_json()],
    )


def acting_person(db: Queryable) -> str:
    """Who does what is asked for now: the name in the settings, or "you"."""
    rows = db.query("SELECT value FROM setting WHERE name = ?", [PERSON]).to_pylist()
    return str(rows[0]["value"]) if rows and rows[0]["value"].strip() else "you"
