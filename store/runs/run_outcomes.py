"""What came of runs across all of them: gains and costs, interpolations on the way from the base model,
and verdicts as alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.core.schemas import Job
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.runs.schemas import MeasuredMix, RunAlerts, RunCosts, SavedVariant

if TYPE_CHECKING:
    from store.db.database import Queryable

# What every finished run gained and what it cost: of all verdicts what a chart of many runs needs.
#
# One statement reads each verdict once and leaves in the store all that is not asked for (a verdict holds the
# evidence of single steps and categories too). A figure that a run lacks is null, so that whoever draws can
# count what is left out.

COST_FIGURES = ("gain", "prose", "answers", "kl")


@named_query
def costs(db: Queryable) -> list[RunCosts]:
    """Of each finished run, oldest first."""
    return read_records(db.query(_COSTS), RunCosts, COST_FIGURES)


def _build_figure_sql(kind: str, probe: str, name: str) -> str:
    """SQL of a figure of the document of one probe, of the documents of that kind."""
    probes, figures = (f"json_extract({kind}, '$[*].{key}')" for key in ("probe", name))
    return f"nullif(({figures})[list_position({probes}, '\"{probe}\"'::JSON)], 'null')"


# The paths of one json_extract are found in one pass over the document.
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
    """Every α that was measured, of one run or of all, along the way."""
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
    """Runs with scored shares, those first that were scored last; deleted ones are left out."""
    sql = """
        SELECT j.config ->> 'run_id' AS run_id FROM job j JOIN run r ON r.run_id = j.config ->> 'run_id'
        WHERE j.kind = 'interpolate' AND j.status = 'finished'
        GROUP BY ALL ORDER BY max(j.created_at) DESC, run_id
    """
    return [str(run_id) for run_id in db.query(sql)["run_id"].to_pylist()]


@named_query
def unfinished_interpolations(db: Queryable, run_id: str) -> list[Job]:
    """Interpolations of a run that wait, work, or ended without a result since the newest that has one."""
    sql = """
        SELECT * FROM job WHERE kind = 'interpolate' AND config ->> 'run_id' = ? AND status <> 'finished'
        AND created_at > coalesce((SELECT max(created_at) FROM job WHERE kind = 'interpolate'
            AND config ->> 'run_id' = ? AND status = 'finished'), TIMESTAMP '1970-01-01')
        ORDER BY created_at, job_id
    """
    return read_records(db.query(sql, [run_id, run_id]), Job, ("config", "error", "result"))


@named_query
def kept_variants(db: Queryable, run_id: str) -> dict[float, SavedVariant]:
    """Runs that were mixed from this one and its base, the newest of each α."""
    sql = """
        SELECT run_id, number, name, status, TRY_CAST(facts ->> 'alpha' AS DOUBLE) AS alpha
        FROM run_overview WHERE facts ->> 'mixed_from' = ? ORDER BY created_at, run_id
    """
    return {row.alpha: row for row in read_records(db.query(sql, [run_id]), SavedVariant)}


# Verdicts as alerts: what became sure of a run, at which step, found across all runs for the overview.
#
# A worker raises each kind once in a run, as soon as it is sure; what else a job tells its user has no kind
# and is read with the job (`store.runs.runs.alerts`).

KINDS = {  # in the order of what weighs most
    "diverged": "Diverged",
    "memorising": "Memorises its rows",
    "forgetting_red": "Forgot much",
    "overfitting": "Overfits",
    "forgetting_amber": "Forgot some",
    "parting": "Loss and metric part",
    "stopped": "Stopped for what it forgot",
}


@named_query
def alerts_by_run(db: Queryable, *, limit: int = 4) -> list[RunAlerts]:
    """The runs with a verdict as alert, those first that raised one last."""
    return read_records(db.query(_BY_RUN, [limit]), RunAlerts)


@named_query
def count_alerted_runs(db: Queryable) -> int:
    """How many runs `find_run_subject` would give without a limit."""
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
