"""The lengths of a data set's rows in tokens as a figure, and where `max_length` cuts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from pages.shared.palette import BAD, VALIDATION
from pages.shared.traces import empty_figure


def length_chart(counts: Sequence[int], edges: Sequence[float], max_length: int) -> go.Figure:
    """A histogram: `counts` between `edges` (one more), bars beyond `max_length` in the colour of a fault."""
    figure = empty_figure("Length of the rows", "Rows", 260)
    centres = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
    colors = [BAD if begin >= max_length else VALIDATION for begin in edges[:-1]]
    figure.add_bar(
        x=centres,
        y=list(counts),
        width=np.diff(edges),
        marker={"color": colors, "line_width": 0},
        customdata=np.column_stack([np.ceil(edges[:-1]), np.floor(edges[1:])]),
        hovertemplate="%{customdata[0]:,} to %{customdata[1]:,} tokens: %{y:,} rows<extra></extra>",
    )
    figure.update_layout(showlegend=False, bargap=0.05)
    figure.update_xaxes(title="Tokens of a row", rangemode="tozero", tickformat=",")
    if max_length < edges[-1]:
        figure.add_vline(
            x=max_length, line={"color": BAD, "dash": "dash", "width": 1.5},
            annotation={"text": f"max_length {max_length:,}", "font": {"color": BAD}},
        )  # fmt: skip
    return figure
