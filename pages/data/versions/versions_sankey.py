"""What became of every row as a Sankey diagram: a pure function from counts to a Plotly figure.

Rows flow from the old version through the steps in their order. What a step drops leaves there, what it adds
enters there; what is left at the end was kept, changed or added, and these together are the new version. A
row is in exactly one flow of a stage, so the widths add up. Fates stand last, because Plotly writes the names
of last nodes on their inner side: none runs over the edge of a phone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go

from pages.data.rows.fate_counts import rows_before
from pages.shared.palette import BAD, BASE, BUSY, GOOD, TRAIN
from store.documents.data.fates import Fates

INK = {"kept": GOOD, "changed": TRAIN, "dropped": BAD, "added": BUSY, "rows": BASE}


@dataclass
class Flows:
    """Nodes by name and links between them, as Plotly wants them."""

    labels: list[str] = field(default_factory=list)
    hovers: list[str] = field(default_factory=list)
    colors: list[str] = field(default_factory=list)
    links: list[tuple[int, int, int, str]] = field(default_factory=list)

    def node(self, label: str, hover: str, kind: str) -> int:
        self.labels.append(label)
        self.hovers.append(hover)
        self.colors.append(INK[kind])
        return len(self.labels) - 1

    def link(self, source: int, target: int, rows: int, kind: str) -> None:
        if rows:
            self.links.append((source, target, rows, INK[kind]))


def flows(fates: Fates) -> Flows:
    """Nodes and links of what became of the rows, step by step."""
    made = Flows()
    old = rows_before(fates)
    at = made.node(f"{old:,}", f"{old:,} rows of the version before", "rows")
    passing = old
    for number, step in enumerate(fates["steps"], 1):
        changed = f", {step['changed']:,} changed" if step["changed"] else ""
        here = made.node(f"{number}.", f"{step['title']}: {step['rows_in']:,} rows come in{changed}", "rows")
        made.link(at, here, passing, "rows")
        if step["dropped"]:
            hover = f"{step['dropped']:,} dropped by step {number}: {step['title']}"
            made.link(
                here, made.node(f"{step['dropped']:,} dropped", hover, "dropped"), step["dropped"], "dropped"
            )
        if step["added"]:
            hover = f"{step['added']:,} added by step {number}: {step['title']}"
            made.link(made.node(f"{step['added']:,} added", hover, "added"), here, step["added"], "added")
        at, passing = here, step["rows_out"]
    for fate, count in (("kept", fates["kept"]), ("changed", fates["changed"]), ("added", fates["added"])):
        if count:
            made.link(at, made.node(f"{count:,} {fate}", f"{count:,} rows {fate}", fate), count, fate)
    return made


def sankey(fates: Fates, ink: str = "#5c6b70") -> go.Figure:
    """The diagram, narrow enough for a phone: steps go by their numbers. `ink`: colour of its words."""
    made = flows(fates)
    sources, targets, rows, inks = (list(part) for part in zip(*made.links, strict=True))
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            textfont={"color": ink, "shadow": "none", "size": 12},
            node={
                "label": made.labels,
                "customdata": [hover.replace("<", "&lt;") for hover in made.hovers],
                "color": made.colors,
                "pad": 22,
                "thickness": 12,
                "line": {"width": 0},
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            link={
                "source": sources,
                "target": targets,
                "value": rows,
                "color": [f"rgba({int(c[1:3], 16)},{int(c[3:5], 16)},{int(c[5:7], 16)},0.35)" for c in inks],
                "hovertemplate": "%{value:,} rows<extra></extra>",
            },
        )
    )
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 12, "b": 12},
        paper_bgcolor="rgba(0,0,0,0)",
    )
    return figure
