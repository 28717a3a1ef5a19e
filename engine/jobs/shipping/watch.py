"""The job `watch`: what new requests of an endpoint are like, and what that says of drift.

It leaves `signals.parquet`, a line for each request, and the tests' states after them; of a reference
`fit.npz` too. Requests and states come with its order, so that the same order gives the same end: what is
stored of it is never counted twice (`engine.server.scheduling.watch_results`). Where perplexity is watched,
`bases.json` says which models lie beneath the versions; they are loaded then, and no model otherwise.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from engine.diagnostics.drift.watching import ValueOfRequest, advance
from engine.monitoring import asked_rows, served_answers
from engine.monitoring.asked_rows import AskedRequests
from engine.monitoring.reference import learn
from engine.monitoring.served_answers import ServedAnswer
from engine.monitoring.signals import NO_TEXTS, ReferenceFit, measure
from engine.monitoring.under_base import UnderBase, measure_answers
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, always
from store.config.serving.monitor_config import DEAR, WatchConfig
from store.contract.jobdir import read_json, written_aside
from store.documents.serving.drift import TestState
from store.documents.serving.monitor import WatchOrder, WatchResult
from store.documents.serving.served_base import ServedBases

# Nothing is foreseen: of how many answers how many bases are asked is known once versions were looked up, and
# nobody waits for this job.
phases = always(Phase(("Loading the base model", "Asking the base model"), 0))


def run(job: WorkerJob) -> WatchResult:
    """Measure. Raises DataError where the reference's rows are gone."""
    config = WatchConfig.parse(job.config)
    return _reference(job, config) if config.reference else _requests(job)


def _reference(job: WorkerJob, config: WatchConfig) -> WatchResult:
    rows, source = _reference_rows(job, config)
    under_base = _reference_under_base(job, config) if DEAR in config.watched else None
    learned = learn(
        rows, source, list(config.watched), wanted=config.rows, seed=config.seed, under_base=under_base,
        by_days=config.source in ("first", "window"),
    )  # fmt: skip
    learned.fit.save(job.dir.path / "fit.npz")
    look = under_base.look if under_base else None
    return {"states": learned.states, "reference": learned.facts, "requests": 0, "base_look": look}


def _reference_under_base(job: WorkerJob, config: WatchConfig) -> UnderBase:
    """Answers of the reference under their base; those that no version gave under that of the live one."""
    live = _bases(job)["live"]
    if config.source == "evaluation":
        answers = served_answers.of_evaluation(job, config.source_id, config.rows, live)
    elif config.source == "dataset":
        answers = served_answers.of_rows(asked_rows.held_out(job, config.rows), live)
    else:
        answers = served_answers.of_log(pq.read_table(job.dir.path / "requests.parquet"))
    return _under_base(job, answers)


def _under_base(job: WorkerJob, answers: list[ServedAnswer]) -> UnderBase:
    from engine.monitoring.base_losses import BasesOfVersions  # torch, which no other look needs

    return measure_answers(answers, _bases(job)["bases"], BasesOfVersions(job))


def _bases(job: WorkerJob) -> ServedBases:
    bases: ServedBases = read_json(job.dir.path / "bases.json")
    return bases


def _reference_rows(job: WorkerJob, config: WatchConfig) -> tuple[AskedRequests, str]:
    if config.source == "evaluation":
        rows = asked_rows.of_evaluation(job, config.source_id, config.rows)
        return rows, f"{len(rows):,} rows of the evaluation {config.source_name}"
    if config.source == "dataset":
        rows = asked_rows.of_dataset(job, config.rows)
        return rows, f"{len(rows):,} held-out rows of {config.source_name}"
    rows = asked_rows.of_log(pq.read_table(job.dir.path / "requests.parquet"))
    what = f"the first {len(rows):,} requests" if config.source == "first" else f"{len(rows):,} requests"
    return rows, f"{what}{config.source_name}"


def _requests(job: WorkerJob) -> WatchResult:
    order = job.order["watch"]
    requests = pq.read_table(job.dir.path / "requests.parquet")
    fit = ReferenceFit.load(job.home.path / order["fit"]) if order["fit"] else NO_TEXTS
    is_asked = any(state["name"] == DEAR for state in order["states"])
    under_base = _under_base(job, served_answers.of_log(requests)) if is_asked else None
    signals = measure(asked_rows.of_log(requests), fit, under_base.nats if under_base else None)
    job.check_cancelled()
    states = [_advanced(state, requests, signals, order) for state in order["states"]]
    table = signals.add_column(0, "asked_at", requests["asked_at"])
    table = table.add_column(0, "place", requests["place"])
    with written_aside(job.dir.path / "signals.parquet") as unfinished:
        pq.write_table(table, unfinished)
    look = under_base.look if under_base else None
    return {"states": states, "reference": None, "requests": len(requests), "base_look": look}


def _advanced(state: TestState, requests: pa.Table, signals: pa.Table, order: WatchOrder) -> TestState:
    """The test after those requests that count for it: live ones that were answered, thinned where asked."""
    rows = zip(
        requests["place"].to_pylist(),
        requests["asked_seconds"].to_pylist(),
        signals[state["name"]].to_pylist(),
        requests["counts"].to_pylist(),
        strict=True,
    )
    values: list[ValueOfRequest] = [
        {"place": place, "at": at, "value": value} for place, at, value, counts in rows if counts
    ]
    return advance(state, values, order["log_threshold"], order["alpha"])
