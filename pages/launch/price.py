"""The price of an hour on this machine, asked once and kept in the store for all who use it."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import act, client, kept_for
from store.documents.tables.machine import HourPrice
from store.queries import settings

PER_HOUR, CURRENCY = "price-per-hour", "price-currency"


@kept_for(5, most=4)
def price() -> HourPrice:
    """{"per_hour", "currency"} as it is kept."""
    return settings.price(client())


def draw_price() -> HourPrice:
    """The two fields; the price that is kept."""
    kept = price()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input(
            "Price of an hour on this machine",
            min_value=0.0,
            value=kept["per_hour"],
            placeholder="unknown",
            key=PER_HOUR,
            on_change=_keep,
            width=240,
            help="What you pay for it, or what its power costs. Kept for everyone who uses this store.",
        )
        st.text_input("Currency", kept["currency"], key=CURRENCY, max_chars=8, on_change=_keep, width=110)
    return kept


def _keep() -> None:
    currency = str(st.session_state.get(CURRENCY) or "").strip() or "EUR"
    act("set_price", {"per_hour": st.session_state.get(PER_HOUR), "currency": currency})
