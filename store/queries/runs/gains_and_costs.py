"""What every finished run gained and what it cost: of all verdicts what a chart of many runs needs.

One statement reads each verdict once and leaves in the store all that is not asked for (a verdict holds the
evidence of single steps and categories too). A figure that a run lacks is null, so that whoever draws can
count what is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.db.named_query import named_query
from store.db.records import records
from store.documents.tables.run import RunCosts

if TYPE_CHECKING:
    from store.db.database import Queryable

FIGURES = ("gain", "prose", "answers", "kl")


@named_query
def costs(db: Queryable) -> list[RunCosts]:
    """Of each finished run, oldest first."""
    return records(db.query(_COSTS), RunCosts, FIGURES)


def _figure(kind: str, probe: str, name: str) -> str:
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
           {_figure("parts[3]", "prose", "change")} AS prose,
           {_figure("parts[4]", "choices", "change")} AS answers,
           {_figure("parts[5]", "own_samples", "kl")} AS kl
    FROM picked ORDER BY created_at, run_id
"""
