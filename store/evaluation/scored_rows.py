"""Single rows and items of runs, read from the Parquet files in their job folders.

Covers losses, the task's metric, predicted classes, probes, and rows recalled from training. Over a client,
QueryError if a file is missing.

Losses of held-out rows are in `home/jobs/RUN/row_losses.parquet`, where `/sql` may read them; the home folder
is the setting `home`. Two runs can be compared on the rows that both held out: rows of the same data set, by
row id, in the same part of the split in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from store.core.errors import NotFoundError, QueryError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.data import exploration
from store.data.filters import Filter
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.evaluation.verdict_schemas import (
    ClassPrediction,
    ExtractionRow,
    MatrixChange,
    ProbeQuestion,
    RefusalRow,
)
from store.jobs.schemas import ValidationSums

if TYPE_CHECKING:
    from store.db.database import Queryable


EVERY_RUN = "*"
_ID = re.compile(r"[\w-]{1,200}")


def get_loss_path(db: Queryable, run_id: str) -> Path:
    """Return the path of the run's row losses, whether or not the file exists.

    Raises NotFoundError for an invalid run id, and before the engine's first start.
    """
    rows = db.query("SELECT value FROM setting WHERE name = 'home'").to_pylist()
    if not rows:
        raise NotFoundError("The store has no setting 'home'.", fix="Start the engine: tunebench up")
    if run_id != EVERY_RUN and not _ID.fullmatch(run_id):
        raise NotFoundError(f"There is no run {run_id[:100]!r}.")
    return JobDir(Home(rows[0]["value"]).jobs / run_id).row_losses


@named_query
def shared_losses(db: Queryable, first: str, second: str, split: str) -> pa.Table:
    """Return the rows of `split` that both runs held out, sorted by row id.

    Columns: row_id, tokens (of the first run), same_tokens (whether both have the same count), first_loss and
    second_loss (tuned, summed nats). The caller ensures that both runs use the same data. Over a Client,
    QueryError if a file is missing.
    """
    return db.query(_SHARED_LOSSES, [str(get_loss_path(db, first)), str(get_loss_path(db, second)), split])


@named_query
def losses_of_runs(db: Queryable, run_ids: Sequence[str]) -> pa.Table:
    """Return the held-out rows of those of the runs that have a file, sorted by run and row.

    Columns: run_id, split, row_id, tokens and tuned_loss (summed nats). Over a Client, QueryError if no run
    has a file.
    """
    return db.query(_LOSSES_OF_RUNS, [str(get_loss_path(db, EVERY_RUN)), list(run_ids)])


@named_query
def sliced_losses(
    db: Queryable, run_id: str, split: str, rows: exploration.DatasetTable, where: Filter
) -> pa.Table:
    """Return the held-out rows of `split` that match the filter, sorted by row id.

    Columns: row_id, tokens, base_loss and tuned_loss (summed nats). `rows`: the data set that the run was
    trained on. Raises ConfigError.
    """
    relation, files = rows.relation(rows.needed(where))
    condition, params = rows.condition(where)
    sql = (
        "SELECT l.row_id, l.tokens, l.base_loss, l.tuned_loss FROM read_parquet(?) l"
        f" JOIN (SELECT row_id FROM ({relation}) WHERE {condition}) s ON s.row_id = l.row_id"
        " WHERE l.split = ? ORDER BY l.row_id"
    )
    return db.query(sql, [str(get_loss_path(db, run_id)), *files, *params, split])


_LOSSES_OF_RUNS = """
    SELECT parse_filename(parse_dirpath(filename)) AS run_id, split, row_id, tokens, tuned_loss
    FROM read_parquet($1, filename = true)
    WHERE list_contains($2::VARCHAR[], parse_filename(parse_dirpath(filename))) ORDER BY run_id, row_id
"""
_SHARED_LOSSES = """
    SELECT a.row_id, a.tokens, a.tokens = b.tokens AS same_tokens,
           a.tuned_loss AS first_loss, b.tuned_loss AS second_loss
    FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
    WHERE a.split = $3 AND b.split = $3
    ORDER BY a.row_id
"""


# The task's metric at each validation of a run, as sums over rows, from which intervals per step are
# computed.
#
# Read from the Parquet files that a run writes during training: `eval_rows.parquet` (correct tokens of every
# validation row) and `live_answers.parquet` (scores of generated answers).

SumKind = Literal["tokens", "label", "accuracy", "pairs"]
_X: dict[SumKind, str] = {
    "tokens": "correct",
    "label": "(correct = tokens)::INTEGER",
    "accuracy": "correct",
    "pairs": "correct",
}


@named_query
def validation_sums(db: Queryable, run_id: str, kind: SumKind) -> list[ValidationSums]:
    """Return sums per step for a kind of `engine.evaluation.training_curve.run_curve`.

    Over a Client, QueryError if the run hasn't stored a validation yet.
    """
    weight = "tokens" if kind == "tokens" else "1"
    only = "WHERE step > 0" if kind == "pairs" else ""
    source = f"SELECT step, {_X[kind]} AS x, {weight} AS w FROM read_parquet(?) {only}"
    return read_records(
        db.query(_SUMS.format(source), [str(_get_folder(db, run_id).validations)]), ValidationSums
    )


@named_query
def answer_sums(db: Queryable, run_id: str) -> list[ValidationSums]:
    """Return sums per step, like `validation_sums`, over the generated answers that could be scored."""
    source = "SELECT step, score AS x, 1 AS w FROM read_parquet(?) WHERE isfinite(score)"
    return read_records(
        db.query(_SUMS.format(source), [str(_get_folder(db, run_id).live_answers)]), ValidationSums
    )


def _get_folder(db: Queryable, run_id: str) -> JobDir:
    return JobDir(get_loss_path(db, run_id).parent)


_SUMS = """
    SELECT step, count(*) AS n, sum(x)::DOUBLE AS x, sum(w)::DOUBLE AS w, sum(x * x)::DOUBLE AS xx,
           sum(x * w)::DOUBLE AS xw, sum(w * w)::DOUBLE AS ww
    FROM ({}) GROUP BY step ORDER BY step
"""


ONLY_PREDICTIONS = {"": "true", "wrong": "label <> predicted", "right": "label = predicted"}


def get_predictions_path(db: Queryable, run_id: str) -> Path:
    """Return the path of the run's predictions, whether or not the file exists."""
    return get_loss_path(db, run_id).with_name("class_predictions.parquet")


@dataclass(frozen=True)
class PredictionFilter:
    """Filter for predictions.

    only: "", "wrong" or "right"; label, predicted: only these classes, if given.
    """

    only: str = ""
    label: str = ""
    predicted: str = ""


@named_query
def prediction_page(
    db: Queryable, run_id: str, wanted: PredictionFilter, *, limit: int = 10, offset: int = 0
) -> tuple[int, list[ClassPrediction]]:
    """Return the number of rows and a page of them.

    The most confident mistakes come first, then correct predictions from the least confident on. Over a
    Client, QueryError if the file is missing.
    """
    where = f"{ONLY_PREDICTIONS[wanted.only]} AND (? = '' OR label = ?) AND (? = '' OR predicted = ?)"
    classes = [wanted.label, wanted.label, wanted.predicted, wanted.predicted]
    params = [str(get_predictions_path(db, run_id)), *classes]
    total = int(read_scalar(db.query(f"SELECT count(*) FROM read_parquet(?) WHERE {where}", params)))
    sql = (
        f"SELECT * FROM read_parquet(?) WHERE {where} ORDER BY label = predicted,"
        " CASE WHEN label = predicted THEN probability ELSE -probability END, row_id LIMIT ? OFFSET ?"
    )
    return total, read_records(db.query(sql, [*params, limit, offset]), ClassPrediction)


@named_query
def shared_predictions(db: Queryable, first: str, second: str, split: str) -> pa.Table:
    """Return row_id, first_right and second_right of the rows of `split` that both runs classified, by row
    id.

    The caller ensures that both runs use the same data.
    """
    return db.query(
        _SHARED_PREDICTIONS,
        [str(get_predictions_path(db, first)), str(get_predictions_path(db, second)), split],
    )


_SHARED_PREDICTIONS = """
    SELECT a.row_id, a.label = a.predicted AS first_right, b.label = b.predicted AS second_right
    FROM read_parquet($1) a JOIN read_parquet($2) b ON a.row_id = b.row_id
    WHERE a.split = $3 AND b.split = $3
    ORDER BY a.row_id
"""


ProbeChange = Literal["", "lost", "won", "wrong"]
ONLY_QUESTIONS: dict[ProbeChange, str] = {
    "": "true",
    "lost": "b.correct > t.correct",
    "won": "b.correct < t.correct",
    "wrong": "b.correct + t.correct = 0",
}


@named_query
def probe_questions(
    db: Queryable, run_id: str, *, only: ProbeChange = "", limit: int = 10, offset: int = 0
) -> tuple[int, list[ProbeQuestion]]:
    """Return the number of choice items and a page of them, sorted by the rise in the right option's loss.

    only: "", "lost" (right before, wrong after), "won" or "wrong" (both times). Over a Client, QueryError if
    a file is missing.
    """
    folder = get_loss_path(db, run_id).parent
    params = [str(folder / name) for name in ("probes.parquet", "probe_items.parquet")]
    source = _QUESTIONS + f" WHERE {ONLY_QUESTIONS[only]}"
    total = int(read_scalar(db.query(f"SELECT count(*) FROM ({source})", params)))
    page = db.query(f"{source} ORDER BY rise DESC, item LIMIT $3 OFFSET $4", [*params, limit, offset])
    return total, read_records(page, ProbeQuestion)


@named_query
def probes_of_runs(db: Queryable, run_ids: Sequence[str], probe: str) -> pa.Table:
    """Return the tuned models' results on the items of a probe for those of the runs that have a file.

    Columns: run_id, item, tokens, loss_sum (nats) and correct, sorted by run and item. Over a Client,
    QueryError if no run has a file.
    """
    files = str(get_loss_path(db, "*").with_name("probes.parquet"))
    return db.query(_PROBES_OF_RUNS, [files, list(run_ids), probe])


@named_query
def matrix_changes(db: Queryable, run_id: str) -> list[MatrixChange]:
    """Return the change of each weight matrix, by layer and module.

    Over a Client, QueryError if the file is missing.
    """
    path = get_loss_path(db, run_id).with_name("weights.parquet")
    sql = "SELECT * FROM read_parquet(?) ORDER BY layer NULLS LAST, module"
    return read_records(db.query(sql, [str(path)]), MatrixChange)


@named_query
def probe_requests(db: Queryable, run_id: str) -> list[RefusalRow]:
    """Return requests that a model should refuse and similar harmless ones, in pairs.

    Over a Client, QueryError if the file is missing.
    """
    path = get_loss_path(db, run_id).with_name("requests.parquet")
    sql = "SELECT * FROM read_parquet(?) ORDER BY pair, harmful DESC"
    return read_records(db.query(sql, [str(path)]), RefusalRow)


@dataclass(kw_only=True)
class _Step:
    step: int


@named_query
def probe_curve(
    db: Queryable, run_id: str, *, most: int = 16
) -> tuple[int, dict[int, pa.Table], pa.Table | None]:
    """Return probe results during training: number of steps, rows by step, and rows of the base model.

    Rows cover all probes except training rows and at most `most` steps, including the first and the last one.
    The base model's rows are those of step 0 if available, else those of the finished run; None before it
    finishes.
    """
    folder = get_loss_path(db, run_id).parent
    live = str(folder / "live_probes.parquet")
    try:
        steps = [row.step for row in read_records(db.query(_STEPS, [live]), _Step)]
    except QueryError:  # nothing measured yet
        return 0, {}, None
    chosen = trained = [step for step in steps if step > 0]
    if len(trained) > most:
        chosen = [trained[round(i * (len(trained) - 1) / (most - 1))] for i in range(most)]
    rows = db.query(_LIVE, [live, [0, *chosen]])
    at = {step: rows.filter(pc.equal(rows["step"], step)) for step in [0, *chosen]}
    base: pa.Table | None = at.pop(0)
    if base is not None and not base.num_rows:
        try:
            base = db.query(_BASE, [str(folder / "probes.parquet")])
        except QueryError:
            base = None
    return len(trained), at, base


_STEPS = """
    SELECT DISTINCT step FROM read_parquet(?) WHERE probe <> 'train_rows' ORDER BY step
"""
_LIVE = """
    SELECT * FROM read_parquet($1)
    WHERE probe <> 'train_rows' AND list_contains($2::BIGINT[], step) ORDER BY step
"""
_BASE = "SELECT * FROM read_parquet(?) WHERE model = 'base' AND probe <> 'train_rows'"
_PROBES_OF_RUNS = """
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


@named_query
def extraction_page(
    db: Queryable, run_id: str, part: str, *, limit: int = 10, offset: int = 0
) -> tuple[int, list[ExtractionRow]]:
    """Return the number of rows of `part` (train or held_out) and a page of them.

    The most striking rows come first: reproduced by the tuned but not by the base model. Over a Client,
    QueryError if the file is missing.
    """
    path = str(get_loss_path(db, run_id).with_name("recalled.parquet"))
    total = int(read_scalar(db.query("SELECT count(*) FROM read_parquet(?) WHERE part = ?", [path, part])))
    page = db.query(
        "SELECT * FROM read_parquet(?) WHERE part = ?"
        " ORDER BY tuned_similarity >= 0.9 DESC, tuned_similarity - base_similarity DESC, row_id"
        " LIMIT ? OFFSET ?",
        [path, part, limit, offset],
    )
    return total, read_records(page, ExtractionRow)
