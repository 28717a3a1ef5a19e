"""The scored shares of the way as a table: every figure with its interval and n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.compare.tradeoff.cost_points import MEASURES, measure_of
from pages.run.mix import mix_points
from pages.run.mix.mix_points import ScoredShare
from pages.shared import wording
from store.documents.tables.run import KeptVariant


def draw_table(shares: Sequence[ScoredShare], kept: Mapping[float, KeptVariant]) -> None:
    """A line a share, from the base on."""
    if shares:
        # a measure that no share has would be a column of nothing
        measures = [name for name in mix_points.measures(shares) if any(share.cost(name) for share in shares)]
        st.dataframe(
            [line(share, kept, measures) for share in shares],
            hide_index=True,
            alt="Gain and forgetting by share",
        )


def line(
    share: ScoredShare, kept: Mapping[float, KeptVariant], measures: Sequence[str]
) -> dict[str, str | int | None]:
    """Of one share."""
    cells: dict[str, str | int | None] = {
        "α": f"{share.alpha:g}",
        "Gain ↑ (nats a token)": wording.estimate(share.gain),
        "n (rows)": share.gain["n"] if share.gain else None,
    }
    for name in measures:
        what, cost = measure_of(name), share.cost(name)
        cells[f"{what.title} ↓ ({what.unit})"] = wording.estimate(cost) if cost else "–"
        counted = f"n ({what.items}s)" if name in MEASURES else f"n ({what.items}s of {what.title})"
        cells[counted] = cost["n"] if cost else None
    run = kept.get(share.alpha)
    cells["Kept as"] = f"#{run['number']} {run['name']}" if run else "–"
    return cells
