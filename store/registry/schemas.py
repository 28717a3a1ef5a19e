"""Gates, the evidence that there is and what they said of a version; and where a version comes from, as a
graph."""

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
    """Rows of an evaluation as one metric scored them."""

    evaluation_id: str
    name: str  # of the evaluation
    figure: Figure
    row_ids: list[int]
    scores: list[float | None]
    statistics: list[list[float] | None] | None
    groups: dict[int, Any] | None


@dataclass(kw_only=True)
class RowConfidence:
    """How sure a classifier was of each row's answer, and whether that was right."""

    evaluation_id: str
    probability: list[float]
    right: list[bool]


@dataclass(kw_only=True)
class RatedRows:
    """What people said of a version beside another model: 1 preferred, 0 not, 0.5 a tie; a rating each."""

    rounds: list[str]  # ids
    other: str
    outcomes: list[float]
    items: list[str]
    raters: list[str]


@dataclass(kw_only=True)
class FormParity:
    """An export of the version, and whether it answers as the version does."""

    form: str
    title: str  # of the form
    status: ParityStatus | None  # null where nobody has compared them
    answer_agreement: Estimate | None
    reasons: list[str]


class CheckInputs(TypedDict, total=False):
    """What one check is judged by; what a kind of check does not read is missing."""

    rows: GateRow | None  # of the version
    other_rows: GateRow | None
    other: str  # who that is: NAME@2, or a base model; empty where there is none
    gain: Gain | Estimate | None  # of the run's verdict, or what of it the question adds, as its unit says
    gain_unit: str
    prose: Estimate | None  # rise of the loss on general texts, nats a token
    answers: Estimate | None  # change of the share of general questions that are right
    certainty: RowConfidence | None
    bias: BiasReport | None
    exports: list[FormParity]
    rated: RatedRows | None
    seconds: list[float]  # an answer, a mean of each evaluation
    device: str
    missing: str  # what is not there, a sentence
    command: str  # that makes it
    gather: bool  # `gather_gate_evidence` queues it
    tries: int  # measurements so far, of which the newest is read; missing where they are read together
    slipped: int  # rows that the version may have learned from repeats that nobody recognised


@dataclass(kw_only=True)
class CheckReport:
    """One check of a gate."""

    check: str
    title: str
    answer: CheckAnswer
    sentence: str
    limit: float | None
    unit: str
    value: Gain | Estimate | None
    other: str  # what the version was held against
    evaluations: list[str]  # ids of what it rests on
    command: str | None = None  # makes the evidence that is missing
    gather: bool | None = None  # it is an evaluation, which can be queued from here
    tries: int | None = None  # how often this was measured, where that is more than once
    lifted: float | None = None  # by how much `value` may be too high for unrecognised repeats; its unit


@dataclass(kw_only=True)
class GateReport:
    """What a gate says of a version."""

    reference: str  # NAME@3
    alias: str
    holder: str | None  # NAME@2, which has the alias now
    answer: CheckAnswer  # passed: all checks are
    sentence: str
    checks: list[CheckReport]


@dataclass(kw_only=True)
class AliasMove:
    """A row of `alias_move`: who moved an alias, when and why."""

    move_id: str
    model_id: str
    alias: str
    from_version: int | None
    to_version: int | None  # null: the alias was taken away
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
    config: ConfigDocument  # store.registry.config.GateConfig
    changed_by_name: str
    changed_at: datetime


LineageKind = Literal["base", "dataset", "run", "version", "evaluation", "round", "bias", "export", "move"]


@dataclass(kw_only=True)
class LineageNode:
    """One thing in the graph."""

    node_id: str  # unique in the graph
    kind: LineageKind
    title: str
    detail: str  # a few words
    subject_id: str | None  # of a page that shows it; null where there is none, or it is gone
    gone: bool  # it was deleted


@dataclass(kw_only=True)
class LineageEdge:
    """What came of what."""

    source: str  # node_id
    target: str
    words: str  # how: "tuned by", "cleaned into"


@dataclass(kw_only=True)
class Lineage:
    """The graph of one version."""

    reference: str  # NAME@3
    nodes: list[LineageNode]  # what comes first stands first
    edges: list[LineageEdge]
    left_out: dict[LineageKind, int]  # of a kind with many, how many are not shown
