"""An improvement: rows that came back from use, a version of the data with them, a run on it, and whether
that takes the place of what is in use. One chain, whose links are the ids of what each step made."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypedDict

from store.documents.data.gathered import GatheredRows as GatheredRows
from store.documents.shipping.gate import GateReport
from store.documents.shipping.improve_settings import AskedImprovement, AskedSchedule
from store.documents.tables.job import ErrorDocument

ImprovementState = Literal[
    "labelling",  # a rating round is open, whose labels or corrections are waited for
    "gathering",  # new rows are made out of its sources: deduplicated, and none that leaks
    "joining",  # they are added to the rows that the version in use was trained on
    "training",
    "registering",
    "measuring",  # old and new held-out rows, by the new version and by the one in use
    "deciding",  # a person's yes or no is waited for
    "promoted",
    "declined",
    "stopped",
    "waiting",  # so few new rows could be used that none was made; gone on with, it gathers them anew
    "failed",  # can be gone on with, from the step at which it failed
]
RESUMED: tuple[ImprovementState, ...] = ("failed", "waiting")  # nothing happens until somebody goes on
AT_WORK: tuple[ImprovementState, ...] = (
    *("labelling", "gathering", "joining", "training", "registering", "measuring", "deciding"),
)


class ImprovementFacts(TypedDict, total=False):
    """What each step made; there once its step has begun."""

    resumed_by: str  # who went on with it after it had failed, and answers for it since
    resumed_by_name: str
    old_dataset_id: str  # that the run in use was trained on; there from the beginning
    gather_job: str
    rows_dataset_id: str  # the new rows, a data set of their own
    rows: GatheredRows
    disputed: list[str]  # of the rows that judged earlier: keys of those that somebody has answered otherwise
    compared_runs: list[str]  # that trained what is compared, and on whose data: there while it is under way
    gathered_beside: str  # NAME@3, that had the alias when the rows were gathered; empty: no version had it
    join_job: str
    dataset_id: str  # of the version that is trained on
    run_id: str
    register_job: str
    version: str  # NAME@4, that the run became
    holder: str  # NAME@3, that has the alias and is measured beside it; empty: no version has it
    holder_was: str  # another one that had it before, where somebody has moved it meanwhile
    evaluation_jobs: list[str]  # that it waits for
    own_evaluation_jobs: list[str]  # of those: that it queued itself, and cancels where it is stopped
    gate: GateReport  # of the improvement: old and new rows


class Improvement(TypedDict):
    """A row of table `improvement`."""

    improvement_id: str
    model_id: str
    alias: str
    name: str
    config: AskedImprovement
    state: ImprovementState
    failed_at: ImprovementState | None  # of one that failed or waits: the step that it goes on with
    facts: ImprovementFacts
    trouble: ErrorDocument | None
    scheduled: bool  # begun by the schedule
    begun_by: str
    begun_by_name: str
    begun_at: datetime
    changed_at: datetime  # when its state last changed
    ended_at: datetime | None
    ended_by_name: str | None  # who said yes, no or stop
    note: str


class ImprovementSchedule(TypedDict):
    """A row of table `improvement_schedule`: when the next improvement of a model begins by itself."""

    model_id: str
    config: AskedSchedule
    set_by: str
    set_by_name: str
    set_at: datetime
    last_at: datetime | None  # when it was last looked whether there are rows enough
    last_rows: int | None  # that there were then
    trouble: ErrorDocument | None  # why the last one could not begin
