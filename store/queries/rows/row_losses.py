"""The losses of single held-out rows, read from the Parquet file that each finished run leaves.

The files lie in the job folders, `home/jobs/RUN/row_losses.parquet`, where `/sql` may read them; the home
folder is the setting `home`. Two runs can be compared on the rows that both held out: rows of the same
data set, by row id, of the same part of the split in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from store.config.data.filters import Filter
from store.contract.errors import NotFoundError
from store.contract.home import Home
from store.contract.jobdir import JobDir
from store.db.named_query import named_query
from store.queries.data import explore

if TYPE_CHECKING:
    from store.db.database import Queryable


EVERY_RUN = "*"
_ID = re.compile(r"[\w-]{1,200}")


def path(db: Queryable, run_id: str) -> Path:
    """Where the run's row losses are, or would be. Raises NotFoundError for what is no id of a run, and
    before the engine's first start."""
    rows = db.query("SELECT value FROM setting WHERE name = 'home'").to_pylist()
    if not rows:
        raise NotFoundError("The store has no setting 'home'.", fix="Start the engine: tunebench up")
    if run_id != EVERY_RUN and not _ID.fullmatch(run_id):
        raise NotFoundError(f"There is no run {run_id[:100]!r}.")
    return JobDir(Home(rows[0]["value"]).jobs / run_id).row_losses


@named_query
def shared(db: Queryable, first: str, second: str, split: str) -> pa.Table:
    """The rows of `split` that both runs held out, in order of row id.

    Columns: row_id, tokens (of the first run), same_tokens (whether both count the same), first_loss and
    second_loss (tuned, summed nats). The caller makes sure that both runs are of the same rows of data.
    Over a Client, QueryError where a file is missing.
    """
    return db.query(_SHARED, [str(path(db, first)), str(path(db, second)), split])


@named_query
def of_runs(db: Queryable, run_ids: Sequence[str]) -> pa.Table:
    """The held-out rows of those of these runs whose file is there: run_id, split, row_id, tokens and
    tuned_loss (summed nats), in order of run and row. Over a Client, QueryError where no run has a file."""
    return db.query(_OF_RUNS, [str(path(db, EVERY_RUN)), list(run_ids)])


@named_query
def sliced(db: Queryable, run_id: str, split: str, rows: explore.DatasetTable, where: Filter) -> pa.Table:
    """The held-out rows of `split` that the filter means: row_id, tokens, base_loss and tuned_loss (summed
    nats), in order of row id. `rows` are those that the run was trained on. Raises ConfigError."""
    relation, files = rows.relation(rows.needed(where))
    condition, params = rows.condition(where)
    sql = (
        "SELECT l.row_id, l.tokens, l.base_loss, l.tuned_loss FROM read_parquet(?) l"
        f" JOIN (SELECT row_id FROM ({relation}) WHERE {condition}) s ON s.row_id = l.row_id"
        " WHERE l.split = ? ORDER BY l.row_id"
    )
    return db.query(sql, [str(path(db, run_id)), *files, *params, split])


_OF_RUNS = """
    SELECT parse_filename(parse_dirpath(filename)) AS run_id, split, row_id, tokens, tuned_loss
    FROM read_parquet($1, filename = true)
    WHERE list_contains($2::VARCHAR[], parse_filename(parse_dirpath(filename))) ORDER BY run_id, row_id
"""
_SHARED = """
    SELECT a.row_id, a.tokens, a.tokens = b.tokens AS same_tokens,
           a.tuned_loss AS first_loss, b.tuned_loss AS second_loss
    FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
    WHERE a.split = $3 AND b.split = $3
    ORDER BY a.row_id
"""
