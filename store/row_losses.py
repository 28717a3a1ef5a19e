"""The losses of single held-out rows, read from the Parquet file that each finished run leaves.

The files lie in the job folders, `home/jobs/RUN/row_losses.parquet`, where `/sql` may read them; the home
folder is the setting `home`. Two runs can be compared on the rows that both held out: rows of the same
data set, by row id, of the same part of the split in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from store.errors import NotFoundError
from store.home import Home
from store.jobdir import JobDir

if TYPE_CHECKING:
    from store.database import Queryable


def path(db: Queryable, run_id: str) -> Path:
    """Where the run's row losses are, or would be. Raises NotFoundError before the engine's first start."""
    rows = db.query("SELECT value FROM setting WHERE name = 'home'").to_pylist()
    if not rows:
        raise NotFoundError("The store has no setting 'home'.", fix="Start the engine: tunebench up")
    return JobDir(Home(rows[0]["value"]).jobs / run_id).row_losses


def shared(db: Queryable, first: str, second: str, split: str) -> pa.Table:
    """The rows of `split` that both runs held out, in order of row id.

    Columns: row_id, tokens (of the first run), same_tokens (whether both count the same), first_loss and
    second_loss (tuned, summed nats). The caller makes sure that both runs are of the same rows of data.
    Over a Client, QueryError where a file is missing.
    """
    return db.query(_SHARED, [str(path(db, first)), str(path(db, second)), split])


_SHARED = """
    SELECT a.row_id, a.tokens, a.tokens = b.tokens AS same_tokens,
           a.tuned_loss AS first_loss, b.tuned_loss AS second_loss
    FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
    WHERE a.split = $3 AND b.split = $3
    ORDER BY a.row_id
"""
