"""New rows out of what came back from use: what the job `gather_rows` is brought, and what it leaves."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from store.documents.data.import_result import RowsResult
from store.documents.data.row import Message
from store.documents.data.split import SplitBy


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


class JudgingAgain(TypedDict):
    """Rows that were put aside to judge earlier improvements of the model, and judge this one too."""

    rows: int
    times: dict[str, int]  # improvements that they have judged, "0" where those came to no answer -> rows
    random: int  # of all: drawn at random of what was asked then
    left_out: dict[str, int]  # reason -> rows that judge no more


class RowRepeating(TypedDict):
    """A new row that was left out as it repeats a row that judges. The texts stay in the data sets."""

    line: int  # of the skipped rows of the new data set
    reason: str
    fingerprint: str  # of the data set of the row that judges
    row_id: int  # of that row


class Slipping(TypedDict):
    """What may have been learned of the old rows that judge, from repeats that nobody recognised."""

    judging: int  # old rows that judge
    short: int  # of them: their answer has under twelve words
    recognised: int  # new rows that were left out as they repeat one of these
    most: int  # of these rows: were learned from repeats that slipped through, at most, with 95% certainty
    allowed: int  # of these: a check allows for so many, with which it keeps its level


class GatheredRows(TypedDict):
    """The new rows: how many there were, what became of them, and why others are none."""

    asked: int  # that the sources have
    train: int
    held_out: int  # of them, which judge alone
    left_out: dict[str, int]  # reason -> rows
    held_out_random: bool  # they were drawn at random of what was asked; else of what people chose to correct
    again: NotRequired[JudgingAgain]  # beside these
    only_train: int  # of those that train: they ask what, or nearly what, an old training row asks
    corrects: int  # of these: they answer it otherwise, and the old row gives way
    repeats: NotRequired[int]  # of those left out: they repeat a row that judges
    repeating: NotRequired[list[RowRepeating]]  # these, 200 at most
    slipping: NotRequired[Slipping | None]  # null: answers are labels, and there is no bound
    redacted: NotRequired[int]  # of all that are used: they hold a placeholder such as [EMAIL]


class GatherResult(RowsResult):
    """Result of the job `gather_rows`: a data set of the new rows, each with its part."""

    split_by: SplitBy
    rows: GatheredRows
    disputed: NotRequired[
        list[str]
    ]  # keys of rows that judged earlier and somebody has answered otherwise since


class GatheredTooFew(TypedDict):
    """Result of the job `gather_rows` where too few new rows can be used: no data set is made of them."""

    rows: GatheredRows
    too_few: str  # how many there are and why others are none, a sentence
    fix: str  # what to do
