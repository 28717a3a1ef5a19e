"""Store queries of the screens, cached briefly so that reruns and sessions share them.

Arguments are hashable, so that the last result can also be used while the engine is unreachable.
"""

from __future__ import annotations

import json

import streamlit as st

from pages.shared.session import cached, get_client
from store.core.documents import Document
from store.core.model_schemas import Model
from store.core.schemas import Job, LostCommits, MachineReading
from store.core.training_schemas import Preview
from store.data import datasets as dataset_queries
from store.data import saved_recipes
from store.data.schemas import CanonicalRow, Dataset, Inspection, SkippedRow, SliceRow
from store.jobs import job_queue as job_queries
from store.people import settings
from store.runs import run_outcomes as alert_queries
from store.runs import runs as run_queries
from store.runs.schemas import Run, RunAlerts, RunChoice

LIVE = 1  # TTL in seconds for anything that may be running
MINUTE = 60  # for cost estimates, which depend on the load of the machine
CALM = 5  # for anything that changes only by commands (which clear the cache)


@cached(LIVE, max_entries=64)
def list_runs(
    search: str, statuses: tuple[str, ...], limit: int, offset: int, created_by: str = ""
) -> list[Run]:
    return run_queries.list_runs(
        get_client(), search=search, statuses=statuses, created_by=created_by, limit=limit, offset=offset
    )


@cached(LIVE, max_entries=64)
def list_run_choices(search: str, statuses: tuple[str, ...], limit: int) -> list[RunChoice]:
    """Runs for a selector, newest first."""
    return run_queries.list_run_choices(get_client(), search=search, statuses=statuses, limit=limit)


@cached(LIVE, max_entries=64)
def count_runs(search: str, statuses: tuple[str, ...], created_by: str = "") -> int:
    return run_queries.count_runs(get_client(), search=search, statuses=statuses, created_by=created_by)


@cached(LIVE, max_entries=4)
def count_runs_by_status() -> dict[str, int]:
    return run_queries.status_counts(get_client())


@cached(CALM, max_entries=64)
def read_run(run_id: str) -> Run:
    return run_queries.get_run(get_client(), run_id)


@cached(LIVE, max_entries=64)
def read_runs_by_id(run_ids: tuple[str, ...]) -> dict[str, Run]:
    runs_there = run_queries.get_runs(get_client(), list(run_ids))
    return {run.run_id: run for run in runs_there}


@cached(LIVE, max_entries=1)
def read_lost_commits() -> LostCommits | None:
    return settings.lost_commits(get_client())


@cached(LIVE, max_entries=4)
def list_queue(limit: int | None = None) -> list[Job]:
    return job_queries.queue(get_client(), limit=limit)


@cached(LIVE, max_entries=1)
def count_queue() -> int:
    return job_queries.queue_length(get_client())


@cached(LIVE, max_entries=64)
def read_job(job_id: str) -> Job:
    return job_queries.get_job(get_client(), job_id)


@cached(LIVE, max_entries=4)
def list_warned_runs(limit: int) -> tuple[int, list[RunAlerts]]:
    """The number of runs with alerts, and those with the newest alerts."""
    return alert_queries.count_alerted_runs(get_client()), alert_queries.alerts_by_run(
        get_client(), limit=limit
    )


@cached(LIVE, max_entries=4)
def read_machine() -> MachineReading:
    return get_client().machine()


@cached(CALM, max_entries=4)
def list_models() -> list[Model]:
    return get_client().models()


@cached(CALM, max_entries=4)
def list_datasets() -> list[Dataset]:
    return dataset_queries.list_datasets(get_client())


@cached(CALM, max_entries=64)
def read_dataset(dataset: str) -> Dataset:
    return dataset_queries.get_dataset(get_client(), dataset)


@cached(CALM, max_entries=64)
def list_slices(dataset_id: str, person_id: str) -> list[SliceRow]:
    """A person's own slices and the shared ones, by name."""
    return saved_recipes.slices(get_client(), dataset_id, person_id)


@cached(60, max_entries=64)
def read_dataset_row(dataset_id: str, row_id: int) -> list[CanonicalRow]:
    return dataset_queries.get_rows(get_client(), read_dataset(dataset_id), [row_id])


@cached(60, max_entries=64)
def list_skipped_rows(dataset_id: str, limit: int, offset: int) -> list[SkippedRow]:
    return dataset_queries.skipped(get_client(), read_dataset(dataset_id), limit=limit, offset=offset)


@cached(60, max_entries=64)
def find_skipped_row(dataset_id: str, line: int) -> SkippedRow | None:
    """The row that was skipped at this line of the source file, or None."""
    rows = dataset_queries.skipped(get_client(), read_dataset(dataset_id), limit=1, from_line=line)
    return rows[0] if rows and rows[0].line == line else None


@st.cache_data(ttl=20, max_entries=64, show_spinner=False)
def inspect_source(body: str) -> Inspection:
    """Result of the sync job `inspect`; cached briefly, because the file may be corrected and inspected
    again.
    """
    return get_client().ask("inspect", json.loads(body), Inspection)


@cached(MINUTE, max_entries=64)
def read_preview(body: str) -> Preview:
    """Result of the sync job `preview` for a question given as JSON."""
    return get_client().ask("preview", json.loads(body), Preview)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def query_engine(name: str, body: str, _answer: type[Document]) -> Document:
    """Result of a sync job for `body` (JSON text, so that equal questions share a cache entry)."""
    return get_client().ask(name, json.loads(body), _answer)
