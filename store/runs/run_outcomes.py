"""Outcomes across all runs: gains and costs, interpolations, and alerts from verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.core.schemas import Job
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.runs.schemas import MeasuredMix, RunAlerts, RunCosts, SavedVariant

if TYPE_CHECKING:
    from store.db.database import Queryable


COST_FIGURES = ("gain", "prose", "answers", "kl")


@named_query
def costs(db: Queryable) -> list[RunCosts]:
    """Return gain and costs of each finished run, oldest first.

    One statement reads each verdict once and returns only the requested figures (a verdict also contains the
    evidence for single steps and categories). A missing figure is null, so that charts can count omitted
    runs.
    """
    return read_records(db.query(_COSTS), RunCosts, COST_FIGURES)


def _build_figure_sql(kind: str, probe: str, name: str) -> str:
    """Return SQL for a figure of one probe from the probe documents of a kind."""
    probes, figures = (f"json_extract({kind}, '$[*].{key}')" for key in ("probe", name))
    return f"nullif(({figures})[list_position({probes}, '\"{probe}\"'::JSON)], 'null')"


# All paths of one json_extract are found in a single pass over the document.
_COSTS = f"""
    WITH picked AS (
        SELECT r.run_id, r.number, r.name, r.method, r.model, r.dataset_id, r.dataset_name,
               r.data_fingerprint, r.created_at,
               json_extract_string(
                   r.config, ['$.task', '$.learning_rate', '$.num_train_epochs', '$.init_from', '$.parent']
               ) AS settings, TRY_CAST(r.facts ->> 'alpha' AS DOUBLE) AS alpha,
               json_extract(
                   r.verdict,
                   ['$.gain', '$.forgetting.state', '$.forgetting.texts', '$.forgetting.choices',
                    '$.forgetting.divergence']
               ) AS parts
        FROM run r JOIN job j ON j.job_id = r.run_id
        WHERE j.status = 'finished'
    )
    SELECT run_id, number, name, method, model, dataset_id, dataset_name, data_fingerprint,
           coalesce(settings[1], 'sft') AS task, TRY_CAST(settings[2] AS DOUBLE) AS learning_rate,
           TRY_CAST(settings[3] AS DOUBLE) AS num_train_epochs, coalesce(settings[4], '') AS init_from,
           coalesce(settings[5], '') AS parent, alpha,
           parts[2] ->> '$' AS state, nullif(parts[1], 'null') AS gain,
           {_build_figure_sql("parts[3]", "prose", "change")} AS prose,
           {_build_figure_sql("parts[4]", "choices", "change")} AS answers,
           {_build_figure_sql("parts[5]", "own_samples", "kl")} AS kl
    FROM picked ORDER BY created_at, run_id
"""


SHARE_FIGURES = ("gain", "prose", "answers", "kl")


@named_query
def measured_shares(db: Queryable, run_id: str = "") -> list[MeasuredMix]:
    """Return the newest measurement of every α, of one run or of all, sorted by run and α."""
    of_run = "AND config ->> 'run_id' = ?" if run_id else ""
    sql = f"""
        WITH found AS (
            SELECT config ->> 'run_id' AS run_id, job_id, created_at,
                   unnest(json_extract(result, '$.points[*]')) AS point
            FROM job
            WHERE kind = 'interpolate' AND status = 'finished' {of_run}
        )
        SELECT run_id, job_id, TRY_CAST(point ->> '$.alpha' AS DOUBLE) AS alpha, point ->> '$.state' AS state,
               TRY_CAST(point ->> '$.seconds' AS DOUBLE) AS seconds,
               nullif(point -> '$.gain', 'null') AS gain, nullif(point -> '$.text.change', 'null') AS prose,
               nullif(point -> '$.choices.change', 'null') AS answers, nullif(point -> '$.kl', 'null') AS kl,
               nullif(point -> '$.named', 'null') AS named
        FROM found
        QUALIFY row_number() OVER (PARTITION BY run_id, alpha ORDER BY created_at DESC, job_id DESC) = 1
        ORDER BY run_id, alpha
    """
    return read_records(db.query(sql, [run_id] if run_id else []), MeasuredMix, (*SHARE_FIGURES, "named"))


@named_query
def mixed_runs(db: Queryable) -> list[str]:
    """Return existing runs with measured interpolations, most recently measured first."""
    sql = """
        SELECT j.config ->> 'run_id' AS run_id FROM job j JOIN run r ON r.run_id = j.config ->> 'run_id'
        WHERE j.kind = 'interpolate' AND j.status = 'finished'
        GROUP BY ALL ORDER BY max(j.created_at) DESC, run_id
    """
    return [str(run_id) for run_id in db.query(sql)["run_id"].to_pylist()]


@named_query
def unfinished_interpolations(db: Queryable, run_id: str) -> list[Job]:
    """Return a run's queued, running or unsuccessful interpolations created since its newest finished one."""
    sql = """
        SELECT * FROM job WHERE kind = 'interpolate' AND config ->> 'run_id' = ? AND status <> 'finished'
        AND created_at > coalesce((SELECT max(created_at) FROM job WHERE kind = 'interpolate'
            AND config ->> 'run_id' = ? AND status = 'finished'), TIMESTAMP '1970-01-01')
        ORDER BY created_at, job_id
    """
    return read_records(db.query(sql, [run_id, run_id]), Job, ("config", "error", "result"))


@named_query
def kept_variants(db: Queryable, run_id: str) -> dict[float, SavedVariant]:
    """Return runs interpolated between this run and its base, the newest of each α."""
    sql = """
        SELECT run_id, number, name, status, TRY_CAST(facts ->> 'alpha' AS DOUBLE) AS alpha
        FROM run_overview WHERE facts ->> 'mixed_from' = ? ORDER BY created_at, run_id
    """
    return {row.alpha: row for row in read_records(db.query(sql, [run_id]), SavedVariant)}


# Alerts from verdicts: significant findings about a run and their step, across all runs for the overview.
#
# A worker raises each kind once per run, as soon as it is significant; other messages of a job have no kind
# and are read with the job (`store.runs.runs.alerts`).

KINDS = {  # most severe first
    "diverged": "Diverged",
    "memorising": "Memorizes its rows",
    "forgetting_red": "Forgot much",
    "overfitting": "Overfits",
    "forgetting_amber": "Forgot some",
    "parting": "Loss and metric diverge",
    "stopped": "Stopped because of forgetting",
}


@named_query
def alerts_by_run(db: Queryable, *, limit: int = 4) -> list[RunAlerts]:
    """Return runs with alerts from their verdicts, by most recent alert first."""
    return read_records(db.query(_BY_RUN, [limit]), RunAlerts)


@named_query
def count_alerted_runs(db: Queryable) -> int:
    """Return how many runs `alerts_by_run` would return without a limit."""
    return int(read_scalar(db.query(f"SELECT count(DISTINCT run_id) FROM ({_ALL})")))


_ALL = """
    SELECT r.run_id, r.number, r.name, j.status, a.kind, a.step, a.message, a.raised_at
    FROM alert a JOIN run r ON r.run_id = a.job_id JOIN job j ON j.job_id = a.job_id
    WHERE a.kind IS NOT NULL
"""
_BY_RUN = f"""
    SELECT run_id, number, name, status, max(raised_at) AS raised_at,
           list({{'kind': kind, 'step': step, 'message': message}} ORDER BY raised_at, kind) AS alerts
    FROM ({_ALL}) GROUP BY ALL ORDER BY max(raised_at) DESC, run_id DESC LIMIT ?
"""
