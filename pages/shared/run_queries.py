"""What the screens of single runs read: curves, log, samples, alerts.

A live curve asks for its new points alone: what came before is kept in the session, as long as count and
sum still agree with the store's summary (a resume voids points, and then the curve is asked for anew).
"""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from engine.evaluation.training_curve import run_curve as task_metric_figures
from engine.evaluation.training_curve.run_curve import CourseKind
from engine.evaluation.verdicts import forgetting_tradeoff
from pages.shared import cached_queries
from pages.shared.session import client, kept_for
from store.core.errors import QueryError
from store.core.model_schemas import VersionLine
from store.core.schemas import JobLog, JobState
from store.data.schemas import Dataset
from store.evaluation import scored_rows
from store.evaluation.forgetting_schemas import CategoryMatrix, ForgettingCourse
from store.evaluation.verdict_schemas import (
    MatrixChange,
    MetricPoint,
    ProbeQuestion,
    RequestRow,
    WrittenRow,
    read_verdict,
)
from store.jobs import job_queue, metric_points
from store.jobs.schemas import MetricSummary
from store.registry import model_versions
from store.runs import run_outcomes, runs
from store.runs.schemas import Alert, Prediction, Run

BUCKETS = 600
KEPT = "live-curves"


@kept_for(cached_queries.CALM, most=32)
def registered(run_id: str) -> list[VersionLine]:
    """The versions of registered models that were made of it, newest first."""
    return model_versions.versions_of_run(client(), run_id)


def run(run_id: str) -> Run:
    """The run as it is now, its verdict with every part. Raises NotFoundError."""
    return runs_by_id((run_id,))[run_id]


def find(name: str) -> Run:
    """The run with this id or name, as it is now. Raises NotFoundError."""
    return run(cached_queries.run(name)["run_id"])


def runs_by_id(run_ids: tuple[str, ...]) -> dict[str, Run]:
    """The runs as they are now, in the order asked for. Raises NotFoundError."""
    return {run_id: _with_verdict(row) for run_id, row in cached_queries.runs_by_id(run_ids).items()}


def newest(search: str, statuses: tuple[str, ...], limit: int) -> list[Run]:
    """Runs that match, newest first."""
    return [_with_verdict(row) for row in cached_queries.runs(search, statuses, limit, 0)]


def dataset(dataset_id: str) -> Dataset:
    """The data set. Raises NotFoundError."""
    return cached_queries.dataset(dataset_id)


def datasets() -> list[Dataset]:
    """All of them."""
    return cached_queries.datasets()


def _with_verdict(row: Run) -> Run:
    """A row of the store, of whatever age, as a run."""
    return {**row, "verdict": read_verdict(row["verdict"])}


@kept_for(cached_queries.LIVE, most=64)
def summaries(run_id: str) -> dict[str, MetricSummary]:
    """metric name -> its summary row."""
    rows = metric_points.summaries(client(), [run_id])
    return {row["name"]: row for row in rows}


@kept_for(cached_queries.LIVE, most=64)
def alerts(job_id: str) -> list[Alert]:
    return runs.alerts(client(), job_id)


@kept_for(cached_queries.CALM, most=32)
def predictions(run_id: str) -> list[Prediction]:
    return runs.predictions(client(), run_id)


@kept_for(cached_queries.LIVE, most=4)
def mixed() -> list[str]:
    """Runs with scored shares of the way from their base, those first that were scored last."""
    return run_outcomes.mixed_runs(client())


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def questions(
    run_id: str, only: scored_rows.Changed, limit: int, offset: int
) -> tuple[int, list[ProbeQuestion]]:
    return scored_rows.probe_questions(client(), run_id, only=only, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def requests(run_id: str) -> list[RequestRow]:
    return scored_rows.probe_requests(client(), run_id)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def metric_course(run_id: str, kind: CourseKind, count: int, moment: int) -> list[MetricPoint]:
    """The task's metric at each validation with its interval; `count` of them there are. The kind "answers"
    is of those that were generated. Empty before the first is kept. moment: another one, another answer, as
    rows are written some time after their numbers."""
    try:
        if kind == "answers":
            validations = scored_rows.answer_sums(client(), run_id)
        else:
            validations = scored_rows.validation_sums(client(), run_id, kind)
    except QueryError:
        return []
    return task_metric_figures.metric_curve(kind, validations)


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def course(
    run_id: str, measured: int, ended: bool
) -> tuple[int, list[ForgettingCourse], CategoryMatrix | None]:
    """What was forgotten when: how many checkpoints there are, and `forgetting_tradeoff.course` and
    `matrix` of
    some of them; nothing without a base model to hold them against. `measured` points there are, and whether
    the run `ended`: another state of it, another answer."""
    steps, at, base = scored_rows.probe_curve(client(), run_id)
    if base is None or not at:
        return steps, [], None
    asked = {step: rows for step, rows in at.items() if "choices" in rows["probe"].to_pylist()}
    courses = forgetting_tradeoff.forgetting_curve(base, at)
    matrix = forgetting_tradeoff.category_matrix(base, asked) if asked else None
    return steps, courses, matrix


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def extraction_rows_page(run_id: str, part: str, limit: int, offset: int) -> tuple[int, list[WrittenRow]]:
    return scored_rows.extraction_page(client(), run_id, part, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def weights(run_id: str) -> list[MatrixChange]:
    return scored_rows.matrix_changes(client(), run_id)


@kept_for(cached_queries.LIVE, most=16)
def log(job_id: str, tail: int) -> JobLog:
    return client().log(job_id, tail=tail)


@st.cache_data(ttl=cached_queries.LIVE, max_entries=64, show_spinner=False)
def job_statuses(job_ids: tuple[str, ...]) -> dict[str, JobState]:
    return job_queue.statuses(client(), job_ids)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def shared_rows(first: str, second: str, split: str) -> pa.Table:
    return scored_rows.shared_losses(client(), first, second, split)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def shared_classes(first: str, second: str, split: str) -> pa.Table:
    return scored_rows.shared_predictions(client(), first, second, split)


@kept_for(600, most=512)
def curve(run_id: str, name: str, count: int, total: float | None) -> pa.Table:
    """The whole curve; `count` and `total` of its summary say which state of it this is."""
    return metric_points.curve(client(), run_id, name, buckets=BUCKETS)


def live_curve(run_id: str, name: str) -> pa.Table:
    """The curve of a run that may still go on: what the session has, and the points after it."""
    summary = summaries(run_id).get(name)
    if summary is None:
        return metric_points.curve(client(), run_id, name, buckets=BUCKETS)
    kept: dict[tuple[str, str], pa.Table] = st.session_state.setdefault(KEPT, {})
    for other in [key for key in kept if key[0] != run_id]:
        del kept[other]
    table = kept.get((run_id, name))
    if table is not None and not agrees(table, summary):
        table = _extended(run_id, name, table)
    if table is None or not agrees(table, summary) or table.num_rows > 2 * BUCKETS:
        table = curve(run_id, name, summary["count"], summary["sum"])
    kept[(run_id, name)] = table
    return table


def agrees(table: pa.Table, summary: MetricSummary) -> bool:
    """The points that the table stands for are those of the summary, or those and later ones."""
    count = pc.sum(table["count"]).as_py() or 0
    if count != summary["count"]:
        return bool(count > summary["count"])
    finite = pc.subtract(table["count"], table["nonfinite"])
    total = pc.sum(pc.multiply(table["mean"], finite)).as_py()
    if total is None or summary["sum"] is None:
        return (total or 0) == (summary["sum"] or 0)
    return math.isclose(total, summary["sum"], rel_tol=1e-9, abs_tol=1e-9)


def _extended(run_id: str, name: str, table: pa.Table) -> pa.Table:
    last = pc.max(table["step"]).as_py()
    fresh = metric_points.curve(
        client(), run_id, name, buckets=BUCKETS, first=None if last is None else last + 1
    )
    return pa.concat_tables([table, fresh])
