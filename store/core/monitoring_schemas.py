"""The monitor of an endpoint: what is watched of its requests, how far each test is, what it raises, what
a judge and people say of answers, and two versions side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from store.core.figure_schemas import Estimate
from store.core.rating_schemas import RoundDetails
from store.core.schemas import ConfigDocument

WatchedName = Literal[
    "input_length",
    "input_language",
    "input_distance",
    "input_topic",
    "output_length",
    "output_refusal",
    "output_repetition",
    "output_label",
    "confidence",
    "output_perplexity",
]

OTHER = "other"  # of a category all names that have no test of their own


@dataclass(kw_only=True)
class MartingaleState:
    """One conformal test martingale: what was seen, by bin, and the capital of each bet."""

    bins: list[int]  # those with a value, rising
    counts: list[int]  # of reference and past
    reference_bins: list[int]
    reference_counts: list[int]
    shares: list[float]  # of the capital, by bet; they sum to 1
    log_wealth: float  # logarithm of the capital, which began with 1
    tested: int  # values that were bet on


@dataclass(kw_only=True)
class DayFigures:
    """The values of one day, by column: of a number its bin, of a category 0 or 1 for each of its names."""

    day: int  # since 1970, UTC
    place: int  # of its first request
    n: int
    sums: list[int]
    squares: list[int]


@dataclass(kw_only=True)
class DayTest:
    """Whole days against the same weekdays of the first week, which an alarm waits for."""

    first_day: int | None  # of which only a part was seen
    open: DayFigures | None  # the day that goes on
    reference: list[DayFigures]  # one of each weekday
    recent: list[DayFigures]  # at most the last seven after them


@dataclass(kw_only=True)
class TestState:
    """A watched value: how far it is. A category has one test for each of its names, and their mean
    counts."""

    name: WatchedName
    categories: list[str]  # of a category those that have a test of their own; the last stands for all others
    bets: list[MartingaleState]
    wanted: int  # values that make its reference
    reference: int  # of them that are there
    tested: int  # values after them
    log_wealth: float
    largest: float  # log_wealth at most, since the test began
    lowest: float  # log_wealth at least; it rises from there where something has changed
    lowest_place: int | None  # of the last request, before an alarm, at which it was near that
    lowest_at: float | None  # Unix time of that request, s
    alarm_place: int | None  # of the request at which it first went over the threshold
    alarm_at: float | None
    seed: int  # of how ties are broken
    days: DayTest | None = None  # where the reference is of requests, whose hours and weekdays differ


PaceName = Literal["slower", "failing"]


@dataclass(kw_only=True)
class TimeModel:
    """How long an answer of a length took in the reference, so that half of its answers took longer: seconds,
    and per_prompt and per_completion of each token read and written. No longer or shorter ones than `ranges`
    were in it."""

    seconds: float
    per_prompt: float
    per_completion: float
    ranges: list[list[float]]  # fewest and most tokens, read and written
    limit: float  # an answer that took so many times as long is slow


@dataclass(kw_only=True)
class CurrentMinute:
    """The minute that goes on; it counts once it is over."""

    minute: int  # since 1970
    place: int  # of its first request
    last_place: int
    n: int
    over: int  # requests that were slow, or failed
    bins: dict[str, int]  # of times beside the expected ones -> answers


@dataclass(kw_only=True)
class CusumState:
    """What came since the time from which on a change is most likely (Page's cumulative sum)."""

    score: float
    minute: int | None  # null: nothing speaks for a change
    place: int | None
    n: int
    over: int
    bins: dict[str, int]  # of times beside the expected ones -> answers


@dataclass(kw_only=True)
class PaceTest:
    """Whether answers are slower, or more requests fail, than in the reference."""

    name: PaceName
    warm_up: int  # first requests that are still left out, as a model that was just loaded is slow
    begins_at: float | None  # Unix time of the first request of its reference, s
    ends_at: float | None = None  # of the window that its reference comes from, s
    wanted: int  # requests that make its reference
    gathered: list[list[float]]  # of them: seconds, tokens read and written; or 1 where one failed
    reference: int  # of them that are there
    usual: float  # of the reference: seconds that half of its answers exceeded, or the share that failed
    times: TimeModel | None
    allowed: float  # share of a minute's requests that may be over
    shares: list[float]  # of the capital, by bet
    log_wealth: float
    largest: float
    minutes: int  # that were bet on
    tested: int  # requests in them
    unlike: int  # answers of lengths that the reference hasn't, which are not compared
    open: CurrentMinute | None
    since: CusumState
    alarm_place: int | None
    alarm_at: float | None  # Unix time, s


@dataclass(kw_only=True)
class PaceWatch:
    """Both tests, none before their first request, and the place up to which they have seen requests, or from
    which they begin."""

    place: int
    tests: list[PaceTest]


class ServedBase(TypedDict):
    """Where the base of a version is to be looked for: one of the three is set."""

    model: str  # registered version NAME@3, model of the home folder, or path
    run: str  # id
    why: str  # that there is none


class ServedBases(TypedDict):
    """`bases.json` of a look that measures perplexity."""

    live: str  # the version whose base measures the reference's rows that no version answered
    bases: dict[str, ServedBase]  # by version


@dataclass(kw_only=True)
class BaseMeasurement:
    """How many answers of a look were measured under a base, and what that took."""

    measured: int
    left_out: int  # not drawn
    cut: int  # of the measured: longer than the base's context
    reasons: dict[str, int]  # why others have no value
    seconds: float  # of one answer
    loading: float  # seconds until the bases were there


AlertKind = Literal["drift", "quality", "errors", "latency"]
AlertOutcome = Literal["same_reference", "new_normal"]


@dataclass(kw_only=True)
class ReferenceValue:
    """What the reference says of one watched value."""

    n: int  # rows that the test begins with
    bins: list[int]  # of a number: those with a value, rising
    names: list[str]  # of a category
    counts: list[int]  # of each of them
    why: str  # that it isn't watched, or is watched against the first requests; empty where neither


@dataclass(kw_only=True)
class ReferenceFacts:
    """What new requests are held against."""

    source: str  # in words: "the first 300 requests"
    rows: int
    fitted: int  # rows that distances and topics are measured from; not among those that tests begin with
    topics: list[str]  # names
    values: dict[WatchedName, ReferenceValue]
    fit: str  # file in the endpoint's folder `monitor`; empty where no text was kept


@dataclass(kw_only=True)
class Monitor:
    """A row of `monitor`."""

    endpoint_id: str
    config: ConfigDocument  # store.monitoring.config.MonitorConfig
    revision: int
    next_place: int
    measured_place: int
    reference: ReferenceFacts | None
    states: list[TestState]
    changed_by_name: str
    changed_at: datetime
    base_look: BaseMeasurement | None  # the last one; null: perplexity was never watched
    pace: PaceWatch | None  # null: no request was seen yet


@dataclass(kw_only=True)
class MonitorAlert:
    """A row of `monitor_alert`."""

    alert_id: str
    endpoint_id: str
    kind: AlertKind
    subject: str  # of drift the watched value; "slower", "failing": beside the reference; else what of it
    reason: str
    advice: str
    first_place: int | None
    last_place: int | None
    since: datetime
    raised_at: datetime
    acknowledged_by: str | None
    acknowledged_by_name: str | None
    acknowledged_at: datetime | None
    outcome: AlertOutcome | None
    note: str | None


class WatchSpec(TypedDict):
    """What a measuring of requests begins with; the requests lie in `requests.parquet` of the job's
    folder."""

    states: list[TestState]
    fit: str  # path of the file, beneath the home folder; empty where there is none
    log_threshold: float
    alpha: float  # of each watched value, a month: for what whole days say


class WatchResult(TypedDict):
    """What a measuring leaves: `signals.parquet`, of a reference `fit.npz` too, and this."""

    states: list[TestState]
    reference: ReferenceFacts | None  # of a measuring of the reference alone
    requests: int
    base_look: BaseMeasurement | None  # where perplexity is watched


@dataclass(kw_only=True)
class WebhookSettings:
    """Where alerts go; the secret is never read back."""

    webhook_id: str
    url: str
    set_by_name: str
    set_at: datetime


@dataclass(kw_only=True)
class WebhookDelivery:
    """One message to a webhook and what became of it."""

    delivery_id: str
    webhook_id: str
    alert_id: str | None
    body: str
    state: Literal["waiting", "sent", "given_up"]
    attempts: int
    next_at: datetime
    status: int | None
    trouble: str | None
    queued_at: datetime
    ended_at: datetime | None


class RequestWindow(TypedDict):
    """Requests of a window."""

    requests: int  # that were answered live or by a candidate
    left_out: int  # of them, whose text is not kept


class RequestJudging(RequestWindow):
    """What the job `judge_requests` leaves, beside `judgements.parquet`."""

    sample: int  # different answers of the random sample
    rated: int  # answers that people rated, judged beside
    judged: int  # of both, those that the judge gave a verdict on
    reasons: dict[str, int]  # why it gave none, and how many
    calls: int
    cached: int
    seconds: float


@dataclass(kw_only=True)
class JudgedAnswer:
    """One different answer, by the judge and by people."""

    version: str
    grouped_by: str | None
    at_random: bool  # of the judge's random sample; else it is there as people rated it
    passed: bool | None  # by the judge
    in_frame: bool  # of the requests that the round drew from which corrects the judge
    people: float | None  # the share of its raters that passed it


@dataclass(kw_only=True)
class RequestRoundSummary:
    """A round, pass or fail, that may correct a judge."""

    round_id: str
    name: str
    config: ConfigDocument  # RoundConfig
    details: RoundDetails
    drawn_at: datetime


@dataclass(kw_only=True)
class CorrectionRound:
    """The round whose random items correct a judge, on the requests that it and the judge's window share."""

    round_id: str
    name: str
    start: datetime
    end: datetime
    version: str  # whose answers alone it asked about; empty for all
    notices: list[str]


OutcomeKind = Literal["labels", "thumbs", "errors"]  # what makes an answer good: right, liked, given at all


@dataclass(kw_only=True)
class ArmSummary:
    """One of the two versions. share: of good answers, the mean of its callers; null: of pairs, or none."""

    callers: int
    answers: int
    share: float | None


@dataclass(kw_only=True)
class SignificantDifference:
    """The first look at which it could be told from luck, of those that said the same for sure since. The
    last look may be sure no more."""

    verdict: Literal["better", "worse"]  # of the other version
    answers: int
    at: float  # Unix time, s


@dataclass(kw_only=True)
class ArmComparison:
    """One look at one kind of outcome."""

    look: int  # how many looks at these versions have spent alpha, also at other shares
    few: bool | None = None  # so few callers that nothing could be told; this look spent nothing
    answers: int
    next_look: int  # answers at which is looked again
    at: float  # Unix time, s
    live: ArmSummary
    other: ArmSummary
    left_out: int  # answers that the other one gave in its place, or to a caller of both
    difference: Estimate  # of the shares, the other less live; holds at every look
    p: float
    alpha: float  # that this look spent
    sure: SignificantDifference | None


@dataclass(kw_only=True)
class SideBySide:
    """A row of `list_paired_versions`."""

    endpoint_id: str
    model: str
    live: str
    other: str
    role: Literal["candidate", "shadow"]
    share: float
    noticed_at: datetime
    since: datetime | None
    ended_at: datetime | None
    looks: dict[OutcomeKind, ArmComparison]
