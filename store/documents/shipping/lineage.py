"""Where a registered version comes from and what became of it, as a graph."""

from __future__ import annotations

from typing import Literal, TypedDict

LineageKind = Literal["base", "dataset", "run", "version", "evaluation", "round", "bias", "export", "move"]


class LineageNode(TypedDict):
    """One thing in the graph."""

    node_id: str  # unique in the graph
    kind: LineageKind
    title: str
    detail: str  # a few words
    subject_id: str | None  # of a page that shows it; null where there is none, or it is gone
    gone: bool  # it was deleted


class LineageEdge(TypedDict):
    """What came of what."""

    source: str  # node_id
    target: str
    words: str  # how: "tuned by", "cleaned into"


class Lineage(TypedDict):
    """The graph of one version."""

    reference: str  # NAME@3
    nodes: list[LineageNode]  # what comes first stands first
    edges: list[LineageEdge]
    left_out: dict[LineageKind, int]  # of a kind with many, how many are not shown
