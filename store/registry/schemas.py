"""Gates, their evidence and reports, and the lineage of a version as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from store.core.export_schemas import ParityStatus
from store.core.figure_schemas import BiasReport, Estimate, Figure, Gain
from store.core.schemas import ConfigDocument

CheckAnswer = Literal["passed", "failed", "cant_tell"]
MoveKind = Literal["promoted", "overridden", "back", "removed"]


@dataclass(kw_only=True)
class GateRow:
    """Rows of an evaluation as scored by one metric."""

    evaluation_id: str
    name: str  # name of the evaluation
    figure: Figure
    row_ids: list[int]
    scores: list[float | None]
    statistics: list[list[float] | None] | None
    groups: dict[int, Any] | None


@dataclass(kw_only=True)
class RowConfidence:
    """A classifier's confidence in each row's answer, and whether the answer was right."""

    evaluation_id: str
    probability: list[float]
    right: list[bool]


@dataclass(kw_only=True)
class RatedRows:
    """Ratings of a version compared with another model: 1 preferred, 0 not, 0.5 a tie; one per rating."""

    rounds: list[str]  # ids of rounds
    other: str
    outcomes: list[float]
    items: list[str]
    raters: list[str]


@dataclass(kw_only=True)
class FormParity:
    """An export of the version, and whether it gives the same answers as the version."""

    form: str
    title: str  # title of the export format
    status: ParityStatus | None  # null if not compared yet
    answer_agreement: Estimate | None
    reasons: list[str]


class CheckInputs(TypedDict, total=False):
    """Inputs of one check; those that a kind of check doesn't read are missing."""

    rows: GateRow | None  # rows of the version
    other_rows: GateRow | None
    other: str  # reference of the other model: NAME@2 or a base model; empty if there is none
    gain: Gain | Estimate | None  # gain of the run's verdict, or its part from the question; see gain_unit
    gain_unit: str
    prose: Estimate | None  # rise of the loss on general texts, nats per token
    answers: Estimate | None  # change in accuracy on general questions
    certainty: RowConfidence | None
    bias: BiasReport | None
    exports: list[FormParity]
    rated: RatedRows | None
    seconds: list[float]  # seconds per answer, the mean of each evaluation
    device: str
    missing: str  # sentence about what is missing
    command: str  # command that creates the missing evidence
    gather: bool  # whether `gather_gate_evidence` can queue it
    tries: int  # measurements so far, of which the newest is used; missing if all are used together
    slipped: int  # rows that the version may have learned from unrecognized duplicates


@dataclass(kw_only=True)
class CheckReport:
    """Result of one check of a gate."""

    check: str
    title: str
    answer: CheckAnswer
    sentence: str
    limit: float | None
    unit: str
    value: Gain | Estimate | None
    other: str  # what the version was compared with
    evaluations: list[str]  # ids of the evaluations used
    command: str | None = None  # creates the missing evidence
    gather: bool | None = None  # whether the missing evidence is an evaluation, which can be queued
    tries: int | None = None  # number of measurements, if more than one
    lifted: float | None = None  # how much `value` may be too high due to unrecognized duplicates; same unit


@dataclass(kw_only=True)
class GateReport:
    """Result of a gate for a version."""

    reference: str  # NAME@3
    alias: str
    holder: str | None  # NAME@2, which holds the alias now
    answer: CheckAnswer  # passed if all checks passed
    sentence: str
    checks: list[CheckReport]


@dataclass(kw_only=True)
class AliasMove:
    """A row of `alias_move`: who moved an alias, when and why."""

    move_id: str
    model_id: str
    alias: str
    from_version: int | None
    to_version: int | None  # null if the alias was removed
    kind: MoveKind
    reason: str
    gate: GateReport | None
    moved_by: str
    moved_by_name: str
    moved_at: datetime


@dataclass(kw_only=True)
class GateRecord:
    """A row of `model_gate`."""

    model_id: str
    alias: str
    config: ConfigDocument  # store.registry.gate_checks.GateConfig
    changed_by_name: str
    changed_at: datetime


LineageKind = Literal["base", "dataset", "run", "version", "evaluation", "round", "bias", "export", "move"]


@dataclass(kw_only=True)
class LineageNode:
    """A node of the graph."""

    node_id: str  # unique in the graph
    kind: LineageKind
    title: str
    detail: str  # a few words
    subject_id: str | None  # subject of the page that shows it; null if there is none or it was deleted
    gone: bool  # whether it was deleted


@dataclass(kw_only=True)
class LineageEdge:
    """A directed relation between two nodes."""

    source: str  # node_id
    target: str
    words: str  # relation: "tuned by", "cleaned into"


@dataclass(kw_only=True)
class Lineage:
    """Lineage graph of one version."""

    reference: str  # NAME@3
    nodes: list[LineageNode]  # in order, origins first
    edges: list[LineageEdge]
    left_out: dict[LineageKind, int]  # kind -> number of nodes not shown
