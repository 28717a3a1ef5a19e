"""An improvement of a registered model: what it is asked for, new rows out of what came back from use, and
its row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.row_schemas import Message, RowsResult, SplitMethod
from store.core.schemas import ConfigDocument, ErrorDocument
from store.registry.schemas import GateReport


class RowCandidate(TypedDict):
    """What somebody said of one request, a line of `candidates.jsonl` in the job's folder."""

    source: int  # the place of its source in the improvement's `rows`
    request: str  # id of the request, or of the item of a round; several people may speak of one
    person: str | None  # who said it; null: nobody knows
    kind: Literal["correction", "label", "preference", "none"]  # none: it is no row, for the reason `answer`
    prompt: list[Message] | None  # all turns before the answer; null: not kept, or gone by now
    answer: str | None  # the answer as it should be, or the label; null: gone by now
    rejected: str | None  # what the model answered, or the answer that was not preferred
    asked_at: float | None  # when the model was asked, Unix time; null: nobody knows
    random: bool  # the request was drawn at random of all


@dataclass(kw_only=True)
class ReusedJudgingRows:
    """Rows that were put aside to judge earlier improvements of the model, and judge this one too."""

    rows: int
    times: dict[str, int]  # improvements that they have judged, "0" where those came to no answer -> rows
    random: int  # of all: drawn at random of what was asked then
    left_out: dict[str, int]  # reason -> rows that judge no more


@dataclass(kw_only=True)
class RepeatedRow:
    """A new row that was left out as it repeats a row that judges. The texts stay in the data sets."""

    line: int  # of the skipped rows of the new data set
    reason: str
    fingerprint: str  # of the data set of the row that judges
    row_id: int  # of that row


@dataclass(kw_only=True)
class LeakageEstimate:
    """What may have been learned of the old rows that judge, from repeats that nobody recognised."""

    judging: int  # old rows that judge
    short: int  # of them: their answer has under twelve words
    recognised: int  # new rows that were left out as they repeat one of these
    most: int  # of these rows: were learned from repeats that slipped through, at most, with 95% certainty
    allowed: int  # of these: a check allows for so many, with which it keeps its level


@dataclass(kw_only=True)
class GatheredRows:
    """The new rows: how many there were, what became of them, and why others are none."""

    asked: int  # that the sources have
    train: int
    held_out: int  # of them, which judge alone
    left_out: dict[str, int]  # reason -> rows
    held_out_random: bool  # they were drawn at random of what was asked; else of what people chose to correct
    again: ReusedJudgingRows | None = None  # beside these
    only_train: int  # of those that train: they ask what, or nearly what, an old training row asks
    corrects: int  # of these: they answer it otherwise, and the old row gives way
    repeats: int | None = None  # of those left out: they repeat a row that judges
    repeating: list[RepeatedRow] | None = None  # these, 200 at most
    slipping: LeakageEstimate | Literal["uncounted"] | None = "uncounted"  # null: no bound, as of labels
    redacted: int | None = None  # of all that are used: they hold a placeholder such as [EMAIL]


class GatherResult(RowsResult):
    """Result of the job `gather_rows`: a data set of the new rows, each with its part."""

    split_by: SplitMethod
    rows: GatheredRows
    disputed: NotRequired[
        list[str]
    ]  # keys of rows that judged earlier and somebody has answered otherwise since


class TooFewRowsResult(TypedDict):
    """Result of the job `gather_rows` where too few new rows can be used: no data set is made of them."""

    rows: GatheredRows
    too_few: str  # how many there are and why others are none, a sentence
    fix: str  # what to do


class RowSourceDocument(TypedDict):
    """A source of new rows: feedback on an endpoint, a rating round, or rows of a data set."""

    source: Literal["feedback", "round", "dataset"]
    endpoint: NotRequired[str]  # id; of feedback, as the four that follow
    start: NotRequired[str | None]  # UTC
    end: NotRequired[str | None]
    alert: NotRequired[str]  # id
    group: NotRequired[str]
    model: NotRequired[str]  # whose answers the feedback is of
    round: NotRequired[str]  # id
    dataset: NotRequired[str]  # id
    where: NotRequired[ConfigDocument | None]  # store.data.filters.Filter


class ImprovementSettings(TypedDict):
    """What an improvement rests on beside its rows."""

    model: str
    alias: str
    run: str  # id of the run whose config is launched; empty while it is that of the version in use
    held_out: float
    metric: str  # empty: that of the task
    margin: float


class ImprovementRequest(ImprovementSettings):
    """Body of `begin_improvement`, and the column `config` of an improvement, with ids in place of names."""

    rows: list[RowSourceDocument]
    name: str


class ImprovementScheduleRequest(ImprovementSettings):
    """Body of `schedule_improvement`, and the column `config` of a schedule."""

    rows: list[RowSourceDocument]
    every_hours: float
    least_rows: int


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


@dataclass(kw_only=True)
class Improvement:
    """A row of table `improvement`."""

    improvement_id: str
    model_id: str
    alias: str
    name: str
    config: ImprovementRequest
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


@dataclass(kw_only=True)
class ImprovementSchedule:
    """A row of table `improvement_schedule`: when the next improvement of a model begins by itself."""

    model_id: str
    config: ImprovementScheduleRequest
    set_by: str
    set_by_name: str
    set_at: datetime
    last_at: datetime | None  # when it was last looked whether there are rows enough
    last_rows: int | None  # that there were then
    trouble: ErrorDocument | None  # why the last one could not begin
