"""Scores of rows as a table, so that every later question is a query, and back again.

One line a row and metric: `row_id` int64, `metric` string, `score` float64 (null where the metric has none or
the row could not be scored), `reason` string (why not, else null), `statistics` list<float64> (what is summed
where the figure is no mean of scores). What a metric is stands in its document (`scored.aggregate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.diagnostics.statistics.scored import Scored, difference
from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference, Figure

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


def to_table(metrics: Sequence[Scored]) -> pa.Table:
    """The scores of all metrics, one after the other."""
    return pa.concat_tables([_lines(scored) for scored in metrics] or [SCHEMA.empty_table()])


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


def from_table(table: pa.Table, document: Figure) -> Scored:
    """One metric's scores, given its document."""
    lines = table.filter(pc.equal(table["metric"], document["metric"]))
    scores = np.array([np.nan if x is None else x for x in lines["score"].to_pylist()], float)
    lists = lines["statistics"].to_pylist()
    width = max((len(sums) for sums in lists if sums is not None), default=0)
    statistics = None
    if width:
        statistics = np.array([[np.nan] * width if sums is None else sums for sums in lists], float)
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
    """One for each metric that could be compared. Each interval is at `confidence`, so that together they are
    at `level`."""

    metrics: list[Difference]
    confidence: float
    level: float = LEVEL

    @property
    def sentence(self) -> str:
        """At which level the intervals are."""
        if len(self.metrics) < 2:
            return f"The interval is at {self.level:.0%}."
        return (
            f"Each interval is at {self.confidence:.1%}, so that the {len(self.metrics)} comparisons are at"
            f" {self.level:.0%} together (Bonferroni)."
        )


ScoresOfMetrics = tuple[pa.Table, Sequence[Figure]]  # of one evaluation: its table, and its documents


def differences(
    first: ScoresOfMetrics, second: ScoresOfMetrics, groups: Mapping[int, object] | None = None
) -> Differences:
    """`first` minus `second` in every metric that both evaluations scored on a row of both; `groups`: row id
    -> group. Each interval is at 1 - 0.05 / k, k the metrics compared (Bonferroni), so that the order of the
    two and what only one of them has change nothing."""
    pairs = _pairs(first, second)
    confidence = 1 - (1 - LEVEL) / max(1, len(pairs))
    metrics = []
    for own, other in pairs:
        of_rows = None if groups is None else [groups.get(row) for row in own.row_ids.tolist()]
        metrics.append(difference(own, other, of_rows, confidence=confidence))
    return Differences(metrics, confidence)


def _pairs(first: ScoresOfMetrics, second: ScoresOfMetrics) -> list[tuple[Scored, Scored]]:
    """The scores of each metric that both have and that scored a row of both."""
    others = {document["metric"]: document for document in second[1]}
    pairs = []
    for document in first[1]:
        other = others.get(document["metric"])
        if other is None or document["estimator"] == "whole":
            continue
        if document["estimator"] != other["estimator"] or document["labels"] != other["labels"]:
            continue
        scores, against = from_table(first[0], document), from_table(second[0], other)
        both = np.intersect1d(scores.row_ids[scores.usable], against.row_ids[against.usable])
        if len(both):
            pairs.append((scores, against))
    return pairs


def comparison_word(figure: Difference | Estimate, better: str) -> str:
    """What the first is beside the second by such a difference: better, worse, or that it can't be told;
    better: whether higher or lower values are."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None or low <= 0 <= high:
        return "can't be told"
    return "better" if (value > 0) == (better == "higher") else "worse"
