"""The scored shares of the way as a table: every figure with its interval and n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages.compare.tradeoff.cost_points import MEASURES, Row, cost_of, measure_of
from pages.run.mix import mix_points
from pages.shared import wording


def draw_table(rows: Sequence[Row], kept: Mapping[float, Row]) -> None:
    """A line a share, from the base on."""
    if rows:
        # a measure that no share has would be a column of nothing
        measures = [name for name in mix_points.measures(rows) if any(cost_of(row, name) for row in rows)]
        st.dataframe(
            [line(row, kept, measures) for row in rows], hide_index=True, alt="Gain and forgetting by share"
        )


def line(row: Row, kept: Mapping[float, Row], measures: Sequence[str] = tuple(MEASURES)) -> dict[str, Any]:
    """Of one share."""
    cells: dict[str, Any] = {
        "α": f"{row['alpha']:g}",
        "Gain ↑ (nats a token)": wording.estimate(row["gain"]),
        "n (rows)": row["gain"]["n"] if row["gain"] else None,
    }
    for name in measures:
        what, cost = measure_of(name), cost_of(row, name)
        cells[f"{what.title} ↓ ({what.unit})"] = wording.estimate(cost) if cost else "–"
        counted = f"n ({what.items}s)" if name in MEASURES else f"n ({what.items}s of {what.title})"
        cells[counted] = cost["n"] if cost else None
    run = kept.get(row["alpha"])
    cells["Kept as"] = f"#{run['number']} {run['name']}" if run else "–"
    return cells
