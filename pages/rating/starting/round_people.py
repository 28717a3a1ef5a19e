"""The people who rate a round: who may, and fields that name them with what each rates at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared.reads import LIVE
from pages.shared.session import client, kept_for, plain
from store.documents.rating.workload import PersonWhoRates
from store.queries.rating import assignments


@kept_for(LIVE, most=4)
def people_who_rate() -> list[PersonWhoRates]:
    """Everybody who may."""
    return assignments.people_who_rate(client())


def draw_naming_fields(
    people: Mapping[str, str], quotas: Mapping[str, int | None], key: str
) -> list[dict[str, Any]]:
    """Fields for who rates a round, and how much of each: raters as a config has them. people: id -> name;
    quotas: of those who are named so far."""
    chosen = st.multiselect(
        "Who rates it",
        list(people),
        [each for each in quotas if each in people],
        format_func=people.__getitem__,
        placeholder="everybody who may rate",
        key=f"{key}.people",
        help="They alone see the round on their list",
    )
    named: list[dict[str, Any]] = []
    for person_id in chosen:
        quota = st.number_input(
            f"Ratings of {plain(people[person_id])} at most",
            1,
            100_000,
            quotas.get(person_id),
            placeholder="no limit",
            key=f"{key}.quota.{person_id}",
        )
        named.append({"person": person_id, "quota": quota})
    return named
