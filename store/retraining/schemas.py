"""Improvements of registered models: requests, new rows gathered from use, and table rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.row_schemas import Message, RowsResult, SplitMethod
from store.core.schemas import ConfigDocument, ErrorDocument
from store.registry.schemas import GateReport
from store.retraining.config import ImproveConfig


class RowCandidate(TypedDict):
    """Feedback of a person on one request, a line of `candidates.jsonl` in the job's folder."""

    source: int  # index of its source in the improvement's `rows`
    request: str  # id of the request or round item; several people may give feedback on one
    person: str | None  # person who gave it; null if unknown
    kind: Literal["correction", "label", "preference", "none"]  # none: not usable, for the reason in `answer`
    prompt: list[Message] | None  # all turns before the answer; null if not stored or deleted
    answer: str | None  # the corrected or preferred answer, or the label; null if deleted
    rejected: str | None  # the model's answer, or the rejected answer
    asked_at: float | None  # time of the request, Unix time; null if unknown
    random: bool  # whether the request was sampled at random from all


@dataclass(kw_only=True)
class ReusedJudgingRows:
    """Rows held out for earlier improvements of the model and reused for this one."""

    rows: int
    times: dict[str, int]  # number of improvements evaluated on them, "0" if these had no result -> rows
    random: int  # rows that were sampled at random from requests
    left_out: dict[str, int]  # reason -> rows no longer held out


@dataclass(kw_only=True)
class RepeatedRow:
    """A new row excluded because it repeats a held-out row. The texts stay in the data sets."""

    line: int  # line among the skipped rows of the new data set
    reason: str
    fingerprint: str  # data set of the held-out row
    row_id: int  # row id of the held-out row


@dataclass(kw_only=True)
class LeakageEstimate:
    """Estimate of old held-out rows that may have been learned from undetected repeats."""

    judging: int  # old held-out rows
    short: int  # of these, rows whose answer has fewer than twelve words
    recognised: int  # new rows excluded because they repeat one of these
    most: int  # upper 95% bound of these rows learned from undetected repeats
    allowed: int  # of these, the number that a check allows for to keep its level


@dataclass(kw_only=True)
class GatheredRows:
    """Counts of the new rows, how they are used, and why others are excluded."""

    asked: int  # rows in the sources
    train: int
    held_out: int  # new rows used only for evaluation
    left_out: dict[str, int]  # reason -> rows
    held_out_random: bool  # sampled at random from requests, not from those people chose to correct
    again: ReusedJudgingRows | None = None  # reused held-out rows, in addition
    only_train: int  # training rows whose prompt (nearly) equals that of an old training row
    corrects: int  # of these, rows with a different answer, which replace the old row
    repeats: int | None = None  # excluded rows that repeat a held-out row
    repeating: list[RepeatedRow] | None = None  # these rows, at most 200
    slipping: LeakageEstimate | Literal["uncounted"] | None = "uncounted"  # null: no bound, as for labels
    redacted: int | None = None  # used rows that contain a placeholder such as [EMAIL]


class GatherResult(RowsResult):
    """Result of the job `gather_rows`: a data set of the new rows, each with its part."""

    split_by: SplitMethod
    rows: GatheredRows
    disputed: NotRequired[list[str]]  # keys of earlier held-out rows that have conflicting answers since


class TooFewRowsResult(TypedDict):
    """Result of the job `gather_rows` with too few usable new rows, which creates no data set."""

    rows: GatheredRows
    too_few: str  # sentence on the number of rows and why others are excluded
    fix: str  # what to do


ImprovementState = Literal[
    "labelling",  # waiting for the labels or corrections of an open rating round
    "gathering",  # new rows are built from the sources, without duplicates and leaks
    "joining",  # new rows are added to the training data of the version in use
    "training",
    "registering",
    "measuring",  # new version and version in use are evaluated on old and new held-out rows
    "deciding",  # waiting for a person's decision
    "promoted",
    "declined",
    "stopped",
    "waiting",  # too few usable new rows to create a data set; resuming gathers them again
    "failed",  # can be resumed from the step that failed
]
RESUMED: tuple[ImprovementState, ...] = ("failed", "waiting")  # idle until somebody resumes
AT_WORK: tuple[ImprovementState, ...] = (
    *("labelling", "gathering", "joining", "training", "registering", "measuring", "deciding"),
)


class ImprovementFacts(TypedDict, total=False):
    """Results of each step, present once the step has begun."""

    resumed_by: str  # person who resumed it after a failure and is responsible for it since
    resumed_by_name: str
    old_dataset_id: str  # data set that the run in use was trained on; set from the start
    gather_job: str
    rows_dataset_id: str  # the data set of new rows
    rows: GatheredRows
    disputed: list[str]  # keys of earlier held-out rows that have conflicting answers since
    compared_runs: list[str]  # runs of the compared versions and their data; set while in progress
    gathered_beside: str  # NAME@3, holder of the alias when the rows were gathered; empty if there was none
    join_job: str
    dataset_id: str  # data set that the new version is trained on
    run_id: str
    register_job: str
    version: str  # NAME@4, registered from the run
    holder: str  # NAME@3, present holder of the alias, which it is compared with; empty if there is none
    holder_was: str  # previous holder, if the alias was moved in the meantime
    evaluation_jobs: list[str]  # jobs that it waits for
    own_evaluation_jobs: list[str]  # of these, jobs that it queued itself and cancels if it is stopped
    gate: GateReport  # gate of the improvement, on old and new rows


@dataclass(kw_only=True)
class Improvement:
    """A row of table `improvement`."""

    improvement_id: str
    model_id: str
    alias: str
    name: str
    config: ImproveConfig  # with ids in place of names
    state: ImprovementState
    failed_at: ImprovementState | None  # if failed or waiting, the step that it resumes with
    facts: ImprovementFacts
    trouble: ErrorDocument | None
    scheduled: bool  # whether it was started by the schedule
    begun_by: str
    begun_by_name: str
    begun_at: datetime
    changed_at: datetime  # time of the last change of state
    ended_at: datetime | None
    ended_by_name: str | None  # person who promoted, declined or stopped it
    note: str


@dataclass(kw_only=True)
class ImprovementSchedule:
    """A row of table `improvement_schedule`: when the next improvement of a model begins automatically."""

    model_id: str
    config: ConfigDocument  # store.retraining.config.ImproveSchedule, with ids in place of names
    set_by: str
    set_by_name: str
    set_at: datetime
    last_at: datetime | None  # time of the last check for enough rows
    last_rows: int | None  # rows found by that check
    trouble: ErrorDocument | None  # why the last improvement could not begin
