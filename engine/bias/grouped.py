"""Group figures of rows that evaluations have scored, by a column of their data set: no model is asked
anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.deal.columns import read_column
from engine.diagnostics.bias import groups as diagnosis
from engine.diagnostics.bias.groups import GroupRows
from engine.diagnostics.bias.measured import MeasuredBias
from engine.worker.job import WorkerJob
from store.config.judging.bias_config import BiasGroups
from store.contract.errors import ConfigError, NotFoundError
from store.contract.jobdir import JobDir
from store.documents.shipping.bias_details import ComparedGroups
from store.documents.tables.job_order import GroupedEvaluation

FIELD = "groups"
FIRST = ("eval/accuracy", "eval/exact_match", "eval/choice_accuracy")  # what is taken where none is named
MOST_GROUPS = 200
NO_GROUP = "the column is empty in the row"
NO_ANSWER = "the row has no answer or no label"
OTHER_ROWS = "the other evaluation did not score the row"


@dataclass(frozen=True)
class ScoredRows:
    """Of one evaluation: row_id, score, label, prediction (null where it has none)."""

    table: pa.Table
    metric: str


def measure(job: WorkerJob, asked: BiasGroups) -> tuple[list[MeasuredBias], ComparedGroups]:
    """The figures and tables of one column."""
    named: dict[str, GroupedEvaluation] = job.order["evaluations"]
    tuned_name, base_name = named[asked.evaluation], named.get(asked.against)
    tuned = _scored(job, tuned_name, asked.metric)
    base = _scored(job, base_name, tuned.metric) if base_name else None
    left_out: Counter[str] = Counter()
    table, other = _together(tuned, base, left_out)
    ids = table["row_id"].to_numpy()
    values = read_column(job.home, tuned_name["fingerprint"], asked.column).take(pa.array(ids))
    keep = _kept(table, other, values, bool(asked.positive), left_out)
    names = np.array([str(name) for name in values.filter(pa.array(keep)).to_pylist()])
    _check(asked, names)
    after = _rows(table, keep, names, asked.positive)
    before = _rows(other, keep, names, asked.positive) if other else None
    probe = f"{asked.column} in {tuned_name['name']}"
    document: ComparedGroups = {
        "evaluation_id": tuned_name["evaluation_id"],
        "evaluation": tuned_name["name"],
        "against_id": base_name["evaluation_id"] if base_name else None,
        "against": base_name["name"] if base_name else None,
        "base": diagnosis.table(asked.column, tuned.metric, asked.positive, before) if before else None,
        "tuned": diagnosis.table(asked.column, tuned.metric, asked.positive, after),
        "left_out": dict(left_out.most_common()),
    }
    return diagnosis.gaps(probe, before, after), document


def _scored(job: WorkerJob, evaluation: GroupedEvaluation, metric: str) -> ScoredRows:
    """Raises ConfigError (groups) for a metric that scores no rows, NotFoundError where the rows are gone."""
    folder = JobDir(job.home.jobs / evaluation["evaluation_id"])
    if not folder.scores.exists() or not folder.predictions.exists():
        raise NotFoundError(
            f"The rows of {evaluation['name']} are gone.", fix="Evaluate it again.", field=FIELD
        )
    scores = pq.read_table(folder.scores, columns=["row_id", "metric", "score"])
    scores = scores.filter(pc.is_valid(scores["score"]))
    by_row = pc.unique(scores["metric"]).to_pylist()
    wanted = metric or next((name for name in (*FIRST, *by_row) if name in by_row), "")
    if wanted not in by_row:
        there = f"It scores rows by {', '.join(by_row)}." if by_row else "None of its metrics scores rows."
        raise ConfigError(
            f"{evaluation['name']} has no score of rows by {wanted or 'any metric'}.", fix=there, field=FIELD
        )
    scores = scores.filter(pc.equal(scores["metric"], wanted)).select(["row_id", "score"])
    answers = pq.read_table(folder.predictions, columns=["row_id", "label", "prediction"])
    return ScoredRows(scores.join(answers, "row_id").combine_chunks().sort_by("row_id"), wanted)


def _together(
    tuned: ScoredRows, base: ScoredRows | None, left_out: Counter[str]
) -> tuple[pa.Table, pa.Table | None]:
    """The rows that both evaluations have scored."""
    if base is None:
        return tuned.table, None
    both = np.intersect1d(tuned.table["row_id"].to_numpy(), base.table["row_id"].to_numpy())
    if gone := len(tuned.table) - len(both):
        left_out[OTHER_ROWS] += gone
    if not len(both):
        raise ConfigError(
            "The two evaluations have no row in common.", fix="Take rows_of for one.", field=FIELD
        )
    first, second = (
        part.filter(pc.is_in(part["row_id"], pa.array(both))) for part in (tuned.table, base.table)
    )
    return first, second


def _kept(
    table: pa.Table, other: pa.Table | None, values: pa.Array, labelled: bool, left_out: Counter[str]
) -> np.ndarray:
    keep = values.is_valid().to_numpy(zero_copy_only=False)
    if empty := int((~keep).sum()):
        left_out[NO_GROUP] += empty
    if labelled:
        answered = np.ones(len(table), bool)
        for part in (table, other):
            if part is not None:
                both = pc.and_(pc.is_valid(part["label"]), pc.is_valid(part["prediction"]))
                answered &= both.to_numpy(zero_copy_only=False)
        if lacking := int((keep & ~answered).sum()):
            left_out[NO_ANSWER] += lacking
        keep &= answered
    return keep


def _check(asked: BiasGroups, names: np.ndarray) -> None:
    count = len(np.unique(names))
    if not count:
        raise ConfigError(f"No scored row has a value in {asked.column}.", fix="Choose another.", field=FIELD)
    if count > MOST_GROUPS:
        raise ConfigError(
            f"{asked.column} has {count:,} values; groups are of {MOST_GROUPS} at most.",
            fix="Choose a column with few values.",
            field=FIELD,
        )


def _rows(table: pa.Table, keep: np.ndarray, names: np.ndarray, positive: str) -> GroupRows:
    part = table.filter(pa.array(keep))
    score = np.asarray(part["score"].to_numpy(), float)
    is_share = bool(np.isin(score, (0.0, 1.0)).all())
    if not positive:
        return GroupRows(names, score, is_share)
    selected, right = (_is(part[column], positive) for column in ("prediction", "label"))
    return GroupRows(names, score, is_share, selected, right)


def _is(column: Any, positive: str) -> np.ndarray:
    return np.array([str(value).strip() == positive for value in column.to_pylist()], bool)
