"""What a run's base and tuned model made of each item of its probes, read from the Parquet files in its job
folder: `probes.parquet` (docs/architecture.md) and, for what was asked, `probe_items.parquet`; and how far
its weights moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from store.contract.errors import QueryError
from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.runs.evidence_rows import MatrixChange, ProbeQuestion, RequestRow
from store.queries.rows import row_losses

if TYPE_CHECKING:
    from store.db.database import Queryable

Changed = Literal["", "lost", "won", "wrong"]
ONLY: dict[Changed, str] = {
    "": "true",
    "lost": "b.correct > t.correct",
    "won": "b.correct < t.correct",
    "wrong": "b.correct + t.correct = 0",
}


@named_query
def questions(
    db: Queryable, run_id: str, *, only: Changed = "", limit: int = 10, offset: int = 0
) -> tuple[int, list[ProbeQuestion]]:
    """How many of the choice items there are, and some of them: those first whose right option lost most.

    only: "", "lost" (right before, wrong after), "won" or "wrong" (both times). Over a Client, QueryError
    where a file is missing.
    """
    folder = row_losses.path(db, run_id).parent
    params = [str(folder / name) for name in ("probes.parquet", "probe_items.parquet")]
    source = _QUESTIONS + f" WHERE {ONLY[only]}"
    total = int(scalar(db.query(f"SELECT count(*) FROM ({source})", params)))
    page = db.query(f"{source} ORDER BY rise DESC, item LIMIT $3 OFFSET $4", [*params, limit, offset])
    return total, records(page, ProbeQuestion)


@named_query
def of_runs(db: Queryable, run_ids: Sequence[str], probe: str) -> pa.Table:
    """What the tuned models of those of these runs whose file is there made of the items of a probe: run_id,
    item, tokens, loss_sum (nats) and correct, in order of run and item. Over a Client, QueryError where no
    run has a file."""
    files = str(row_losses.path(db, "*").with_name("probes.parquet"))
    return db.query(_OF_RUNS, [files, list(run_ids), probe])


@named_query
def weights(db: Queryable, run_id: str) -> list[MatrixChange]:
    """How far each matrix moved, by layer and module. Over a Client, QueryError where the file is missing."""
    path = row_losses.path(db, run_id).with_name("weights.parquet")
    sql = "SELECT * FROM read_parquet(?) ORDER BY layer NULLS LAST, module"
    return records(db.query(sql, [str(path)]), MatrixChange)


@named_query
def requests(db: Queryable, run_id: str) -> list[RequestRow]:
    """What a model should refuse, and harmless requests like it, each pair together. Over a Client,
    QueryError where the file is missing."""
    path = row_losses.path(db, run_id).with_name("requests.parquet")
    sql = "SELECT * FROM read_parquet(?) ORDER BY pair, harmful DESC"
    return records(db.query(sql, [str(path)]), RequestRow)


class _Step(TypedDict):
    step: int


@named_query
def course(db: Queryable, run_id: str, *, most: int = 16) -> tuple[int, dict[int, pa.Table], pa.Table | None]:
    """What was measured while it trained: at how many steps, the rows of at most so many of them (of all
    probes but training rows, the first and the last step among them), and those of the base model.

    The base model's are those of step 0, where they are there, or else of the finished run: None before."""
    folder = row_losses.path(db, run_id).parent
    live = str(folder / "live_probes.parquet")
    try:
        steps = [row["step"] for row in records(db.query(_STEPS, [live]), _Step)]
    except QueryError:  # nothing was measured yet
        return 0, {}, None
    chosen = _thinned([step for step in steps if step > 0], most)
    rows = db.query(_LIVE, [live, [0, *chosen]])
    at = {step: rows.filter(pc.equal(rows["step"], step)) for step in [0, *chosen]}
    base: pa.Table | None = at.pop(0)
    if base is not None and not base.num_rows:
        try:
            base = db.query(_BASE, [str(folder / "probes.parquet")])
        except QueryError:
            base = None
    return sum(step > 0 for step in steps), at, base


def _thinned(steps: list[int], most: int) -> list[int]:
    if len(steps) <= most:
        return steps
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


_STEPS = """
    SELECT DISTINCT step FROM read_parquet(?) WHERE probe <> 'train_rows' ORDER BY step
"""
_LIVE = """
    SELECT * FROM read_parquet($1)
    WHERE probe <> 'train_rows' AND list_contains($2::BIGINT[], step) ORDER BY step
"""
_BASE = "SELECT * FROM read_parquet(?) WHERE model = 'base' AND probe <> 'train_rows'"
_OF_RUNS = """
    SELECT parse_filename(parse_dirpath(filename)) AS run_id, item, tokens, loss_sum, correct
    FROM read_parquet($1, filename = true)
    WHERE list_contains($2::VARCHAR[], parse_filename(parse_dirpath(filename)))
        AND model = 'tuned' AND probe = $3
    ORDER BY run_id, item
"""
_QUESTIONS = """
    SELECT i.probe, i.item, i.category, i.text, i.options, i."right", b.chosen AS base, t.chosen AS tuned,
           t.loss_sum - b.loss_sum AS rise
    FROM read_parquet($1) b
    JOIN read_parquet($1) t
        ON b.model = 'base' AND t.model = 'tuned' AND t.probe = b.probe AND t.item = b.item
    JOIN read_parquet($2) i ON i.probe = b.probe AND i.item = b.item AND len(i.options) > 0
"""
