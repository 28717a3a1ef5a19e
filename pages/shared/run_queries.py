"""Queries of single runs: curves, log, samples and alerts.

A live curve requests only its new points. Earlier points are kept in the session as long as count and sum
agree with the store's summary; a resume voids points, and the curve is then requested again.
"""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from engine.evaluation.training_curve import run_curve as task_metric_figures
from engine.evaluation.training_curve.run_curve import CurveKind
from engine.evaluation.verdicts import forgetting_tradeoff
from pages.shared import cached_queries
from pages.shared.session import cached, get_client
from store.core.errors import QueryError
from store.core.schemas import JobLog, JobState
from store.data.schemas import Dataset
from store.evaluation import scored_rows
from store.evaluation.forgetting_schemas import CategoryMatrix, ForgettingCurve
from store.evaluation.verdict_schemas import (
    ExtractionRow,
    MatrixChange,
    MetricPoint,
    ProbeQuestion,
    RefusalRow,
)
from store.jobs import job_queue, metric_points
from store.jobs.schemas import MetricSummary
from store.runs import run_outcomes, runs
from store.runs.schemas import Alert, Prediction, Run

BUCKETS = 600
LIVE_CURVES_KEY = "live-curves"


def read_current_run(run_id: str) -> Run:
    """The present state of a run, with its full verdict. Raises NotFoundError."""
    return read_current_runs((run_id,))[run_id]


def find_run(name: str) -> Run:
    """The present state of the run with this id or name. Raises NotFoundError."""
    return read_current_run(cached_queries.read_run(name).run_id)


def read_current_runs(run_ids: tuple[str, ...]) -> dict[str, Run]:
    """The present state of runs, in the given order. Raises NotFoundError."""
    return cached_queries.read_runs_by_id(run_ids)


def list_newest_runs(search: str, statuses: tuple[str, ...], limit: int) -> list[Run]:
    """Matching runs, newest first."""
    return cached_queries.list_runs(search, statuses, limit, 0)


def find_dataset(dataset_id: str) -> Dataset:
    """A data set by id or name. Raises NotFoundError."""
    return cached_queries.read_dataset(dataset_id)


def list_all_datasets() -> list[Dataset]:
    """All data sets."""
    return cached_queries.list_datasets()


@cached(cached_queries.LIVE, max_entries=64)
def read_metric_summaries(run_id: str) -> dict[str, MetricSummary]:
    """metric name -> its summary row."""
    rows = metric_points.summaries(get_client(), [run_id])
    return {row.name: row for row in rows}


@cached(cached_queries.LIVE, max_entries=16)
def read_summaries_of_runs(run_ids: tuple[str, ...]) -> dict[str, dict[str, MetricSummary]]:
    """run_id -> metric name -> its summary row, of the runs that logged anything."""
    of_runs: dict[str, dict[str, MetricSummary]] = {}
    for row in metric_points.summaries(get_client(), list(run_ids)):
        of_runs.setdefault(row.run_id, {})[row.name] = row
    return of_runs


@cached(cached_queries.LIVE, max_entries=64)
def list_alerts(job_id: str) -> list[Alert]:
    return runs.alerts(get_client(), job_id)


@cached(cached_queries.CALM, max_entries=32)
def list_predictions(run_id: str) -> list[Prediction]:
    return runs.predictions(get_client(), run_id)


@cached(cached_queries.LIVE, max_entries=4)
def list_interpolated_runs() -> list[str]:
    """Runs with scored interpolations, most recently scored first."""
    return run_outcomes.mixed_runs(get_client())


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def list_probe_questions(
    run_id: str, only: scored_rows.ProbeChange, limit: int, offset: int
) -> tuple[int, list[ProbeQuestion]]:
    return scored_rows.probe_questions(get_client(), run_id, only=only, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def list_probe_requests(run_id: str) -> list[RefusalRow]:
    return scored_rows.probe_requests(get_client(), run_id)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def read_metric_curve(run_id: str, kind: CurveKind, count: int, moment: int) -> list[MetricPoint]:
    """The task metric at each of `count` validations with its interval; empty before the first.

    The kind "answers" is measured on generated answers. moment: part of the cache key, because rows are
    written some time after their numbers.
    """
    try:
        if kind == "answers":
            validations = scored_rows.answer_sums(get_client(), run_id)
        else:
            validations = scored_rows.validation_sums(get_client(), run_id, kind)
    except QueryError:
        return []
    return task_metric_figures.compute_metric_curve(kind, validations)


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def read_forgetting_curve(
    run_id: str, measured: int, ended: bool
) -> tuple[int, list[ForgettingCurve], CategoryMatrix | None]:
    """Forgetting by checkpoint: the number of checkpoints, and `forgetting_tradeoff.read_forgetting_curve`
    and `matrix` of some of them; empty without a base model.

    `measured` points and whether the run has `ended` are part of the cache key.
    """
    steps, at, base = scored_rows.probe_curve(get_client(), run_id)
    if base is None or not at:
        return steps, [], None
    asked = {step: rows for step, rows in at.items() if "choices" in rows["probe"].to_pylist()}
    courses = forgetting_tradeoff.compute_forgetting_curves(base, at)
    matrix = forgetting_tradeoff.build_category_matrix(base, asked) if asked else None
    return steps, courses, matrix


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def read_extraction_rows(run_id: str, part: str, limit: int, offset: int) -> tuple[int, list[ExtractionRow]]:
    return scored_rows.extraction_page(get_client(), run_id, part, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def list_weight_changes(run_id: str) -> list[MatrixChange]:
    return scored_rows.matrix_changes(get_client(), run_id)


@cached(cached_queries.LIVE, max_entries=16)
def read_log(job_id: str, tail: int) -> JobLog:
    return get_client().log(job_id, tail=tail)


@st.cache_data(ttl=cached_queries.LIVE, max_entries=64, show_spinner=False)
def read_job_statuses(job_ids: tuple[str, ...]) -> dict[str, JobState]:
    return job_queue.statuses(get_client(), job_ids)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def read_shared_rows(first: str, second: str, split: str) -> pa.Table:
    return scored_rows.shared_losses(get_client(), first, second, split)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def read_shared_classes(first: str, second: str, split: str) -> pa.Table:
    return scored_rows.shared_predictions(get_client(), first, second, split)


@cached(600, max_entries=512)
def read_curve(run_id: str, name: str, count: int, total: float | None) -> pa.Table:
    """The whole curve; `count` and `total` of its summary identify its state in the cache."""
    return metric_points.curve(get_client(), run_id, name, buckets=BUCKETS)


def read_live_curve(run_id: str, name: str) -> pa.Table:
    """The curve of an active run: the points kept in the session, and those after them."""
    summary = read_metric_summaries(run_id).get(name)
    if summary is None:
        return metric_points.curve(get_client(), run_id, name, buckets=BUCKETS)
    kept: dict[tuple[str, str], pa.Table] = st.session_state.setdefault(LIVE_CURVES_KEY, {})
    for other in [key for key in kept if key[0] != run_id]:
        del kept[other]
    table = kept.get((run_id, name))
    if table is not None and not is_consistent(table, summary):
        table = _extend_curve(run_id, name, table)
    if table is None or not is_consistent(table, summary) or table.num_rows > 2 * BUCKETS:
        table = read_curve(run_id, name, summary.count, summary.sum)
    kept[(run_id, name)] = table
    return table


def is_consistent(table: pa.Table, summary: MetricSummary) -> bool:
    """Whether the table's points are those of the summary, possibly followed by later ones."""
    count = pc.sum(table["count"]).as_py() or 0
    if count != summary.count:
        return bool(count > summary.count)
    finite = pc.subtract(table["count"], table["nonfinite"])
    total = pc.sum(pc.multiply(table["mean"], finite)).as_py()
    if total is None or summary.sum is None:
        return (total or 0) == (summary.sum or 0)
    return math.isclose(total, summary.sum, rel_tol=1e-9, abs_tol=1e-9)


def _extend_curve(run_id: str, name: str, table: pa.Table) -> pa.Table:
    last = pc.max(table["step"]).as_py()
    fresh = metric_points.curve(
        get_client(), run_id, name, buckets=BUCKETS, first=None if last is None else last + 1
    )
    return pa.concat_tables([table, fresh])
