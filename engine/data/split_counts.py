"""The query `split`: number of rows in each part of a data set for given split settings."""

from __future__ import annotations

from pydantic import Field

from engine.data.split import leakage, leakage_warnings
from engine.data.split.dataset_split import assign_rows_unchecked, describe_later_rows
from engine.data.split.partition import check_parts, describe_deviations
from engine.worker.job import WorkerJob
from store.core.config import Config
from store.core.errors import ConfigError
from store.core.row_schemas import FieldIssue, SplitCounts
from store.data.config import Fingerprint
from store.training.split import Split


class SplitQuery(Config):
    """A data set and how to split its rows."""

    fingerprint: Fingerprint
    split: Split = Field(default_factory=lambda: Split.parse({}))


def run(job: WorkerJob) -> SplitCounts:
    """Return row counts, groups kept together and leaking rows.

    `problems` includes the reason why a launch with this split would be refused, if any. Raises ConfigError
    if the column to split by is missing or holds no times.
    """
    ask = SplitQuery.parse(job.config)
    dealt = assign_rows_unchecked(job.home, ask.fingerprint, ask.split)
    rows = dealt.counts()
    problems: list[FieldIssue] = []
    try:
        check_parts(rows, ask.split)
    except ConfigError as error:
        problems.append({"level": "error", "field": error.field, "message": error.message, "fix": error.fix})
    for sentence in describe_deviations(rows, ask.split):
        problems.append({"level": "info", "field": "split_by", "message": sentence, "fix": ""})
    if later := describe_later_rows(dealt.later):
        problems.append({"level": "warning", "field": "split_by", "message": later, "fix": ""})
    ids = dealt.ids()
    held = rows["validation"] + rows["test"]
    for leak in leakage_warnings.find_warnings(
        leakage.find_leaks(job.home, ask.fingerprint, ids), held, ask.split.split_by, "split_by"
    ):
        problems.append(
            {"level": "warning", "field": "split_by", "message": leak.message, "fix": leak.fix or ""}
        )
    leaking = leakage.find_leaking_rows(job.home, ask.fingerprint, ids)
    return {
        "rows": {"train": rows["train"], "validation": rows["validation"], "test": rows["test"]},
        "kept_together": dealt.together,
        "kept": list(dealt.kept),
        "leaking": leaking[: leakage.MAX_LISTED].tolist(),
        "leaking_rows": len(leaking),
        "problems": problems,
    }
