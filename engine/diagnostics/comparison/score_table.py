"""Scores of rows as a table, so that every later question is a query, and back again.

One line a row and metric: `row_id` int64, `metric` string, `score` float64 (null where the metric has none or
the row could not be scored), `reason` string (why not, else null), `statistics` list<float64> (what is summed
where the figure is no mean of scores). What a metric is stands in its document (`scored.aggregate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.diagnostics.statistics.scored import Scored, difference

LEVEL = 0.95  # of all intervals of a comparison together
SCHEMA = pa.schema(
    [
        ("row_id", pa.int64()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
        ("statistics", pa.list_(pa.float64())),
    ]
)


def to_table(found: Sequence[Scored]) -> pa.Table:
    """The scores of all metrics, one after the other."""
    return pa.concat_tables([_lines(scored) for scored in found] or [SCHEMA.empty_table()])


def _lines(scored: Scored) -> pa.Table:
    rows = len(scored.row_ids)
    reasons = [scored.reasons.get(place) for place in range(rows)]
    if scored.statistics is None:
        statistics = pa.nulls(rows, SCHEMA.field("statistics").type)
    else:
        usable = scored.usable
        lists = [line if ok else None for line, ok in zip(scored.statistics.tolist(), usable, strict=True)]
        statistics = pa.array(lists, SCHEMA.field("statistics").type)
    return pa.table(
        [
            pa.array(scored.row_ids, pa.int64()),
            pa.array([scored.name] * rows, pa.string()),
            pa.array(scored.scores, pa.float64(), from_pandas=True),
            pa.array(reasons, pa.string()),
            statistics,
        ],
        schema=SCHEMA,
    )


def from_table(table: pa.Table, document: Mapping[str, Any]) -> Scored:
    """One metric's scores, given its document."""
    lines = table.filter(pc.equal(table["metric"], document["metric"]))
    scores = np.array([np.nan if x is None else x for x in lines["score"].to_pylist()], float)
    lists = lines["statistics"].to_pylist()
    width = max((len(one) for one in lists if one is not None), default=0)
    statistics = None
    if width:
        statistics = np.array([[np.nan] * width if one is None else one for one in lists], float)
    reasons = {place: why for place, why in enumerate(lines["reason"].to_pylist()) if why is not None}
    low, high = document["bounds"]
    return Scored(
        document["metric"],
        np.array(lines["row_id"].to_pylist(), np.int64),
        scores,
        estimator=document["estimator"],
        bounds=(low, high),
        unit=document["unit"],
        better=document["better"],
        statistics=statistics,
        labels=document["labels"],
        reasons=reasons,
        empty=document["empty"],
        failed=document["failed"],
    )


@dataclass(frozen=True)
class Differences:
    """`found`: as `scored.difference`, one for each metric that could be compared. Each interval
    is at `confidence`, so that together they are at `level`."""

    found: list[dict[str, Any]]
    confidence: float
    level: float = LEVEL

    @property
    def sentence(self) -> str:
        """At which level the intervals are."""
        if len(self.found) < 2:
            return f"The interval is at {self.level:.0%}."
        return (
            f"Each interval is at {self.confidence:.1%}, so that the {len(self.found)} comparisons are at"
            f" {self.level:.0%} together (Bonferroni)."
        )


def differences(
    first: tuple[pa.Table, Sequence[Mapping[str, Any]]],
    second: tuple[pa.Table, Sequence[Mapping[str, Any]]],
    groups: Mapping[int, Any] | None = None,
) -> Differences:
    """`first` minus `second` in every metric that both evaluations, each (scores, documents), scored on a row
    of both; `groups`: row id -> group. Each interval is at 1 - 0.05 / k, k the metrics compared (Bonferroni),
    so that the order of the two and what only one of them has change nothing."""
    pairs = _pairs(first, second)
    confidence = 1 - (1 - LEVEL) / max(1, len(pairs))
    found = []
    for one, two in pairs:
        own = None if groups is None else [groups.get(row) for row in one.row_ids.tolist()]
        found.append(difference(one, two, own, confidence=confidence))
    return Differences(found, confidence)


def _pairs(
    first: tuple[pa.Table, Sequence[Mapping[str, Any]]],
    second: tuple[pa.Table, Sequence[Mapping[str, Any]]],
) -> list[tuple[Scored, Scored]]:
    """The scores of each metric that both have and that scored a row of both."""
    others = {document["metric"]: document for document in second[1]}
    pairs = []
    for document in first[1]:
        other = others.get(document["metric"])
        if other is None or document["estimator"] == "whole":
            continue
        if document["estimator"] != other["estimator"] or document["labels"] != other["labels"]:
            continue
        one, two = from_table(first[0], document), from_table(second[0], other)
        if len(np.intersect1d(one.row_ids[one.usable], two.row_ids[two.usable])):
            pairs.append((one, two))
    return pairs


def told(found: Mapping[str, Any]) -> str:
    """What the first is beside the second by such a difference: better, worse, or that it can't be told."""
    if found["low"] is None or found["high"] is None or found["low"] <= 0 <= found["high"]:
        return "can't be told"
    return "better" if (found["value"] > 0) == (found["better"] == "higher") else "worse"
