"""The charts of what a run forgot, as pure functions: documents of the verdict in, Plotly figures out."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from pages.shared import wording
from pages.shared.charts import IntervalRow, interval_chart
from pages.shared.palette import BAD, BASE, GOOD, TRAIN
from pages.shared.traces import empty_figure
from store.documents.runs.evidence_rows import MatrixChange
from store.documents.verdicts.forgetting import CategoryFlips, ForgottenChoices

AMBER = "#d97a1a"
FLIPS = ("Right before", "Wrong before", "Right after", "Wrong after")


def category_name(category: str) -> str:
    """As people write it: "common sense"."""
    return category.replace("_", " ")


def category_chart(categories: Sequence[CategoryFlips]) -> go.Figure:
    """Change of accuracy by category in percentage points, the most forgotten first."""
    rows = [
        IntervalRow(
            f"{category_name(part['category'])} (n {part['n']})",
            100 * part["change"]["value"],
            *wording.ends(part["change"], 100),
            ink_of(part),
        )
        for part in sorted(categories, key=lambda part: part["change"]["value"])
    ]
    return interval_chart(rows, "Change of accuracy (percentage points)")


def ink_of(part: CategoryFlips) -> str:
    """Red where it is surely lost after Holm over the categories, green where surely won, else grey."""
    if part["p_holm"] >= 0.05:
        return BASE
    return BAD if part["change"]["value"] < 0 else GOOD


def flips_chart(choices: ForgottenChoices, ink: str) -> go.Figure:
    """Questions from right or wrong before to right or wrong after, as a Sankey diagram."""
    lost, won = int(choices["lost"]), int(choices["won"])
    kept = round(choices["before"]["value"] * choices["n"]) - lost
    wrong = int(choices["n"]) - kept - lost - won
    flows = [(0, 2, kept, GOOD), (0, 3, lost, BAD), (1, 2, won, TRAIN), (1, 3, wrong, BASE)]
    flows = [flow for flow in flows if flow[2]]
    counts = (kept + lost, won + wrong, kept + won, lost + wrong)
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            textfont={"color": ink, "shadow": "none", "size": 13},
            node={
                "label": [f"{name}: {count:,}" for name, count in zip(FLIPS, counts, strict=True)],
                "color": [GOOD, BASE, GOOD, BASE],
                "pad": 26,
                "thickness": 12,
                "line": {"width": 0},
                "hovertemplate": "%{label}<extra></extra>",
            },
            link={
                "source": [flow[0] for flow in flows],
                "target": [flow[1] for flow in flows],
                "value": [flow[2] for flow in flows],
                "color": [faint(flow[3]) for flow in flows],
                "hovertemplate": "%{value:,} questions<extra></extra>",
            },
        )
    )
    figure.update_layout(height=280, margin={"l": 8, "r": 8, "t": 12, "b": 12}, paper_bgcolor="rgba(0,0,0,0)")
    return figure


def faint(color: str) -> str:
    """A colour of the palette that lets what lies under it through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def weights_chart(rows: Sequence[MatrixChange]) -> go.Figure:
    """How far each matrix moved, in per cent of its norm, by layer and module."""
    placed = [row for row in rows if row["layer"] is not None and row["relative"] is not None]
    layers = sorted({row["layer"] for row in placed if row["layer"] is not None})
    modules = list(dict.fromkeys(row["module"].removesuffix(".weight") for row in placed))
    cells = {(row["module"].removesuffix(".weight"), row["layer"]): row for row in placed}
    figure = empty_figure("", "", 90 + 30 * len(modules), x_title="Layer")
    figure.add_trace(
        go.Heatmap(
            z=[[_moved(cells.get((m, layer))) for layer in layers] for m in modules],
            x=layers,
            y=[module.rsplit(".", 1)[-1] for module in modules],
            colorscale=[[0.0, "rgba(15,157,143,0.06)"], [1.0, "rgba(15,157,143,1)"]],
            zmin=0,
            xgap=1,
            ygap=1,
            colorbar={"ticksuffix": "%", "thickness": 10, "outlinewidth": 0},
            text=[[_matrix_text(cells.get((m, layer))) for layer in layers] for m in modules],
            hovertemplate="Layer %{x}, %{y}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, title=None)
    figure.update_layout(hovermode="closest", margin={"l": 8, "r": 8, "t": 8, "b": 44})
    return figure


def _moved(row: MatrixChange | None) -> float | None:
    return None if row is None else 100 * row["relative"]


def _matrix_text(row: MatrixChange | None) -> str:
    if row is None:
        return "not known"
    text = f"moved by {100 * row['relative']:.2g}% of its norm"
    if row["stable_rank"] is not None:
        text += f", stable rank {row['stable_rank']:.1f}, effective rank {row['effective_rank']:.0f}"
    if row["intruders"] is not None:
        text += f", {row['intruders']} of {row['strongest']} strongest directions are new"
    return text
