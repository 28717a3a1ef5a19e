"""The reference: rows dealt by chance into those that distances, topics and names are taken from, and those
that the tests begin with.

A row that is its own nearest neighbour is nearer than any new one, and the commonest labels of some rows are
rarer in others: so what is fitted and what is ranked must be different rows, or every stream would seem to
have changed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.diagnostics.drift.watched import WATCHED, bins_of
from engine.diagnostics.drift.watching import LEAST_REFERENCE, chosen_names, start
from engine.monitoring.asked_rows import AskedRequests
from engine.monitoring.signals import NO_TEXTS, ReferenceFit, measure, vectors_of
from engine.monitoring.under_base import UnderBase
from engine.signals.embedded import topics
from store.config.serving.monitor_config import DEAR
from store.documents.serving.drift import TestState, WatchedName
from store.documents.serving.monitor import ReferenceFacts, ReferenceValue


class MonitorReference(NamedTuple):
    """What was learned of the reference's rows."""

    fit: ReferenceFit
    facts: ReferenceFacts
    states: list[TestState]


def learn(
    rows: AskedRequests,
    source: str,
    watched: list[WatchedName],
    *,
    wanted: int,
    seed: int,
    under_base: UnderBase | None = None,
    by_days: bool = False,
) -> MonitorReference:
    """Of rows in any order; `wanted`: values that a test takes from the stream where the rows lack them.
    under_base: of their answers, where perplexity is watched; without a measured one it is not. by_days: of
    rows that are requests, whose alarms wait for whole days."""
    order = np.random.default_rng(seed).permutation(len(rows))
    half = len(rows) // 2
    fitted, ranked = np.sort(order[:half]), np.sort(order[half:])
    fit = _fit(rows, fitted)
    columns = measure(rows, fit, under_base.nats if under_base else None)
    states, values = [], {}
    for name in watched:
        column = columns[name]
        ranked_values = column.take(pa.array(ranked)).to_pylist()
        if WATCHED[name].is_category:
            names = chosen_names([value for value in column.take(pa.array(fitted)).to_pylist() if value])
        elif name != "input_distance":  # what nothing was fitted to may use all rows
            ranked_values, names = column.to_pylist(), []
        else:
            names = []
        present = [value for value in ranked_values if value is not None]
        few = len(present) < LEAST_REFERENCE
        unmeasured = under_base.why if under_base and name == DEAR else ""
        if not (few and _needs_fit(name)) and not unmeasured:
            given = [] if few else present
            states.append(start(name, given, categories=names, wanted=wanted, seed=seed, by_days=by_days))
        values[name] = _facts(name, present, few)
        if unmeasured:
            values[name]["why"] = unmeasured
    facts: ReferenceFacts = {
        "source": source,
        "rows": len(rows),
        "fitted": half,
        "topics": fit.topics,
        "values": values,
        "fit": "",
    }
    return MonitorReference(fit, facts, states)


def _needs_fit(name: WatchedName) -> bool:
    """Whether its values mean nothing without the reference's own: it can't be watched against others."""
    return name in ("input_distance", "input_topic")


def _fit(rows: AskedRequests, fitted: np.ndarray) -> ReferenceFit:
    texts = any(text is not None for text in rows.inputs)
    vectors = vectors_of(rows)[fitted]
    there = np.linalg.norm(vectors, axis=1) > 0
    if there.sum() < LEAST_REFERENCE:
        return ReferenceFit(texts, NO_TEXTS.vectors, NO_TEXTS.centres, [])
    kept = vectors[there]
    topic = topics.cluster(kept)
    inputs = [rows.inputs[place] or "" for place in fitted[there]]
    centres = np.array([kept[topic == number].mean(axis=0) for number in range(int(topic.max()) + 1)])
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return ReferenceFit(
        texts, kept, (centres / np.maximum(lengths, 1e-9)).astype(np.float32), topics.describe(topic, inputs)
    )


def _facts(name: WatchedName, values: list[float | str], few: bool) -> ReferenceValue:
    watched = WATCHED[name]
    why = ""
    if not values and not _needs_fit(name):
        why = "No row of the reference has one. It is watched once enough requests have."
    elif few:
        has = f"The reference has {len(values):,} values of it; {LEAST_REFERENCE} are needed"
        first = "it is held against the first requests."
        why = f"{has}." if _needs_fit(name) else f"{has}, so {first}"
    if watched.is_category:
        names, counts = np.unique([str(value) for value in values], return_counts=True)
        return {
            "n": len(values), "bins": [], "names": names.tolist(), "counts": counts.tolist(), "why": why
        }  # fmt: skip
    bins, counts = np.unique(bins_of(watched.scale, [float(value) for value in values]), return_counts=True)
    return {"n": len(values), "bins": bins.tolist(), "names": [], "counts": counts.tolist(), "why": why}
