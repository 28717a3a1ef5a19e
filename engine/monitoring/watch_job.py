"""The job `watch`: measures new requests of an endpoint and advances its drift tests.

It writes `signals.parquet` and the states of the tests, and `fit.npz` for a reference. Fitting and ranking
use different rows of the reference. The same input gives the same result, so that nothing counts twice.
Models are loaded only if perplexity is monitored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.data.signals import topic_map
from engine.data.signals.embeddings import EMBEDDED_CHARACTERS, embed
from engine.data.signals.text_checks import detect_languages, is_refusal
from engine.monitoring import measured_requests
from engine.monitoring.drift import (
    MIN_REFERENCE,
    WATCHED_SIGNALS,
    RequestValue,
    advance_test,
    choose_names,
    compute_bins,
    start_test,
)
from engine.monitoring.measured_requests import BaseLosses, MeasuredRequests, ServedAnswer, measure_answers
from engine.monitoring.text import describe_few_values
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.core.job_folder import read_json, write_atomically
from store.core.monitoring_schemas import (
    ReferenceFacts,
    ReferenceValue,
    ServedBases,
    TestState,
    WatchedName,
    WatchResult,
    WatchSpec,
)
from store.monitoring.config import EXPENSIVE, WatchConfig

NEIGHBOURS = 3
WORDS = 3  # per repetition
MIN_CONFIDENCE = 1e-6

SCHEMA = pa.schema(
    [
        ("input_length", pa.float64()),
        ("input_language", pa.string()),
        ("input_distance", pa.float64()),
        ("input_topic", pa.string()),
        ("output_length", pa.float64()),
        ("output_refusal", pa.float64()),
        ("output_repetition", pa.float64()),
        ("output_label", pa.string()),
        ("confidence", pa.float64()),
        ("output_perplexity", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ReferenceFit:
    """What distances and topics are measured against: vectors of reference rows, and topic centers with
    names. texts: whether texts are stored; otherwise lengths cover everything that was sent."""

    texts: bool
    vectors: NDArray[np.float32]
    centres: NDArray[np.float32]
    topics: list[str]

    def save(self, path: Path) -> None:
        """Write atomically."""
        with write_atomically(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(
                file,
                texts=np.array(self.texts),
                vectors=self.vectors,
                centres=self.centres,
                topics=np.array(self.topics, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> ReferenceFit:
        """Read a saved fit."""
        with np.load(path, allow_pickle=False) as kept:
            topics = [str(name) for name in kept["topics"]]
            return cls(bool(kept["texts"]), kept["vectors"], kept["centres"], topics)


EMPTY_FIT = ReferenceFit(False, np.zeros((0, 256), np.float32), np.zeros((0, 256), np.float32), [])


def measure_signals(
    rows: MeasuredRequests, fit: ReferenceFit, nats: Sequence[float | None] | None = None
) -> pa.Table:
    """The columns of SCHEMA, null if a row has no such value. nats: per token of each response under its base
    model; None if not scored."""
    vectors = embed_requests(rows)
    distance, topic = _measure_distances(vectors, fit)
    confidence = [
        math.log(max(sure, MIN_CONFIDENCE)) if sure is not None else logprob
        for sure, logprob in zip(rows.confidences, rows.logprobs, strict=True)
    ]
    lengths = [None if text is None else len(text) for text in rows.inputs]
    columns: dict[str, Sequence[Any]] = {
        "input_length": lengths if fit.texts else rows.input_characters,
        "input_language": _detect_languages(rows.inputs),
        "input_distance": distance,
        "input_topic": topic,
        "output_length": rows.output_characters,
        "output_refusal": [None if text is None else float(is_refusal(text)) for text in rows.outputs],
        "output_repetition": [None if text is None else compute_repetition(text) for text in rows.outputs],
        "output_label": rows.labels,
        "confidence": confidence,
        "output_perplexity": [None] * len(rows) if nats is None else list(nats),
    }
    without_nan = {  # a remote model may report NaN
        name: [value if value == value else None for value in values] for name, values in columns.items()
    }
    return pa.table(without_nan, schema=SCHEMA)


def embed_requests(rows: MeasuredRequests) -> NDArray[np.float32]:
    """float32 [rows, 256] of prompts; 0 for a row without words."""
    texts = pa.array([(text or "")[:EMBEDDED_CHARACTERS] for text in rows.inputs], pa.large_string())
    return embed(texts) if any(rows.inputs) else np.zeros((len(rows), 256), np.float32)


def compute_repetition(text: str) -> float:
    """The share of word trigrams that occurred earlier in the text."""
    words = text.lower().split()
    triples = [tuple(words[place : place + WORDS]) for place in range(len(words) - WORDS + 1)]
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _detect_languages(texts: list[str | None]) -> list[str | None]:
    """Null for a text that is too short."""
    present = [text for text in texts if text]
    guesses = iter(detect_languages([""] * len(present), present))
    return [(next(guesses)[0] or None) if text else None for text in texts]


def _measure_distances(
    vectors: NDArray[np.float32], fit: ReferenceFit
) -> tuple[list[float | None], list[str | None]]:
    """Distance of each row to its nearest reference rows, and the nearest topic."""
    has_words = np.linalg.norm(vectors, axis=1) > 0
    nothing: list[None] = [None] * len(vectors)
    if not len(fit.vectors):
        return [*nothing], [*nothing]
    near = np.sort(vectors @ fit.vectors.T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    nearest = (vectors @ fit.centres.T).argmax(axis=1)
    distance = [float(1 - value) if there else None for value, there in zip(near, has_words, strict=True)]
    topic = [fit.topics[place] if there else None for place, there in zip(nearest, has_words, strict=True)]
    return distance, topic


# The reference is split at random into rows on which distances, topics and names are fitted, and rows with
# which the tests start.
#
# A row that is its own nearest neighbor is closer than any new row, and the most common labels in some rows
# are rarer in others. So fitting and ranking must use different rows, or every stream would appear to have
# changed.


class MonitorReference(NamedTuple):
    """The result of fitting a reference."""

    fit: ReferenceFit
    facts: ReferenceFacts
    states: list[TestState]


def learn_reference(
    rows: MeasuredRequests,
    source: str,
    watched: list[WatchedName],
    *,
    wanted: int,
    seed: int,
    under_base: BaseLosses | None = None,
    by_days: bool = False,
) -> MonitorReference:
    """Fit a reference on rows in any order. wanted: values that a test collects from the stream if the rows
    lack them. under_base: scores of responses, if perplexity is monitored; it is not monitored if none was
    scored. by_days: whether the rows are requests, so that alerts need full days."""
    order = np.random.default_rng(seed).permutation(len(rows))
    half = len(rows) // 2
    fitted, ranked = np.sort(order[:half]), np.sort(order[half:])
    fit = _fit_reference(rows, fitted)
    columns = measure_signals(rows, fit, under_base.nats if under_base else None)
    states, values = [], {}
    for name in watched:
        column = columns[name]
        ranked_values = column.take(pa.array(ranked)).to_pylist()
        if WATCHED_SIGNALS[name].is_category:
            names = choose_names([value for value in column.take(pa.array(fitted)).to_pylist() if value])
        elif name != "input_distance":  # nothing was fitted, so all rows can be used
            ranked_values, names = column.to_pylist(), []
        else:
            names = []
        present = [value for value in ranked_values if value is not None]
        few = len(present) < MIN_REFERENCE
        unmeasured = under_base.why if under_base and name == EXPENSIVE else ""
        if not (few and _needs_fit(name)) and not unmeasured:
            given = [] if few else present
            states.append(
                start_test(name, given, categories=names, wanted=wanted, seed=seed, by_days=by_days)
            )
        values[name] = _build_facts(name, present, few)
        if unmeasured:
            values[name].why = unmeasured
    facts = ReferenceFacts(
        source=source,
        rows=len(rows),
        fitted=half,
        topics=fit.topics,
        values=values,
        fit="",
    )
    return MonitorReference(fit, facts, states)


def _needs_fit(name: WatchedName) -> bool:
    """Whether the value is defined only relative to the reference."""
    return name in ("input_distance", "input_topic")


def _fit_reference(rows: MeasuredRequests, fitted: np.ndarray) -> ReferenceFit:
    texts = any(text is not None for text in rows.inputs)
    vectors = embed_requests(rows)[fitted]
    there = np.linalg.norm(vectors, axis=1) > 0
    if there.sum() < MIN_REFERENCE:
        return ReferenceFit(texts, EMPTY_FIT.vectors, EMPTY_FIT.centres, [])
    kept = vectors[there]
    topic = topic_map.cluster(kept)
    inputs = [rows.inputs[place] or "" for place in fitted[there]]
    centres = np.array([kept[topic == number].mean(axis=0) for number in range(int(topic.max()) + 1)])
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return ReferenceFit(
        texts,
        kept,
        (centres / np.maximum(lengths, 1e-9)).astype(np.float32),
        topic_map.describe_topics(topic, inputs),
    )


def _build_facts(name: WatchedName, values: list[float | str], few: bool) -> ReferenceValue:
    watched = WATCHED_SIGNALS[name]
    why = describe_few_values(len(values), later=not _needs_fit(name)) if few else ""
    if watched.is_category:
        names, counts = np.unique([str(value) for value in values], return_counts=True)
        return ReferenceValue(
            n=len(values), bins=[], names=names.tolist(), counts=counts.tolist(), why=why
        )  # fmt: skip
    bins, counts = np.unique(
        compute_bins(watched.scale, [float(value) for value in values]), return_counts=True
    )
    return ReferenceValue(n=len(values), bins=bins.tolist(), names=[], counts=counts.tolist(), why=why)


# The job `watch`: measures new requests and advances the drift tests.
#
# It writes `signals.parquet`, one row per request, and the states of the tests, and `fit.npz` for a
# reference. Requests and states are part of its input, so the same input gives the same result, and nothing
# counts twice (`engine.monitoring.job_handlers`). If perplexity is monitored, `bases.json` names the base
# models, which are then loaded; otherwise no model is.

# No time estimate: the number of responses per base model is known only after versions are looked up, and
# nobody waits for this job.
phases = build_fixed_phases(Phase(("Loading the base model", "Scoring responses"), 0))


def run(job: WorkerJob) -> WatchResult:
    """Measure. Raises DataError if the rows of the reference were deleted."""
    config = WatchConfig.parse(job.config)
    return _measure_reference(job, config) if config.reference else _measure_requests(job)


def _measure_reference(job: WorkerJob, config: WatchConfig) -> WatchResult:
    rows, source = _read_reference_rows(job, config)
    under_base = _score_reference_under_base(job, config) if EXPENSIVE in config.watched else None
    learned = learn_reference(
        rows, source, list(config.watched), wanted=config.rows, seed=config.seed, under_base=under_base,
        by_days=config.source in ("first", "window"),
    )  # fmt: skip
    learned.fit.save(job.dir.path / "fit.npz")
    look = under_base.look if under_base else None
    return {"states": learned.states, "reference": learned.facts, "requests": 0, "base_look": look}


def _score_reference_under_base(job: WorkerJob, config: WatchConfig) -> BaseLosses:
    """Scores of the reference's responses; those that no version gave use the base model of the live
    version."""
    live = _read_bases(job)["live"]
    if config.source == "evaluation":
        answers = measured_requests.read_evaluation_answers(job, config.source_id, config.rows, live)
    elif config.source == "dataset":
        answers = measured_requests.build_row_answers(
            measured_requests.read_held_out_rows(job, config.rows), live
        )
    else:
        answers = measured_requests.read_logged_answers(pq.read_table(job.dir.path / "requests.parquet"))
    return _score_under_base(job, answers)


def _score_under_base(job: WorkerJob, answers: list[ServedAnswer]) -> BaseLosses:
    from engine.monitoring.base_model_losses import VersionBases  # imports torch

    return measure_answers(answers, _read_bases(job)["bases"], VersionBases(job))


def _read_bases(job: WorkerJob) -> ServedBases:
    bases: ServedBases = read_json(job.dir.path / "bases.json")
    return bases


def _read_reference_rows(job: WorkerJob, config: WatchConfig) -> tuple[MeasuredRequests, str]:
    if config.source == "evaluation":
        rows = measured_requests.read_evaluation_requests(job, config.source_id, config.rows)
        return rows, f"{len(rows):,} rows of evaluation {config.source_name}"
    if config.source == "dataset":
        rows = measured_requests.read_dataset_requests(job, config.rows)
        return rows, f"{len(rows):,} held-out rows of {config.source_name}"
    rows = measured_requests.read_logged_requests(pq.read_table(job.dir.path / "requests.parquet"))
    what = f"the first {len(rows):,} requests" if config.source == "first" else f"{len(rows):,} requests"
    return rows, f"{what}{config.source_name}"


def _measure_requests(job: WorkerJob) -> WatchResult:
    spec = job.spec["watch"]
    requests = pq.read_table(job.dir.path / "requests.parquet")
    fit = ReferenceFit.load(job.home.path / spec["fit"]) if spec["fit"] else EMPTY_FIT
    is_asked = any(state.name == EXPENSIVE for state in spec["states"])
    under_base = _score_under_base(job, measured_requests.read_logged_answers(requests)) if is_asked else None
    signals = measure_signals(
        measured_requests.read_logged_requests(requests), fit, under_base.nats if under_base else None
    )
    job.check_cancelled()
    states = [_advance_test(state, requests, signals, spec) for state in spec["states"]]
    table = signals.add_column(0, "asked_at", requests["asked_at"])
    table = table.add_column(0, "place", requests["place"])
    with write_atomically(job.dir.path / "signals.parquet") as unfinished:
        pq.write_table(table, unfinished)
    look = under_base.look if under_base else None
    return {"states": states, "reference": None, "requests": len(requests), "base_look": look}


def _advance_test(state: TestState, requests: pa.Table, signals: pa.Table, spec: WatchSpec) -> TestState:
    """The test after the requests that count for it: successful live ones, thinned if set."""
    rows = zip(
        requests["place"].to_pylist(),
        requests["asked_seconds"].to_pylist(),
        signals[state.name].to_pylist(),
        requests["counts"].to_pylist(),
        strict=True,
    )
    values: list[RequestValue] = [
        RequestValue(place=place, at=at, value=value) for place, at, value, counts in rows if counts
    ]
    return advance_test(state, values, spec["log_threshold"], spec["alpha"])
