"""Types of monitors: settings and test states, alerts, judge runs, and version comparisons."""

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

OTHER = "other"  # all names of a category without a test of their own


@dataclass(kw_only=True)
class MartingaleState:
    """One conformal test martingale: counts by bin, and the capital of each bet."""

    bins: list[int]  # with a value, ascending
    counts: list[int]  # of reference and past values
    reference_bins: list[int]
    reference_counts: list[int]
    shares: list[float]  # of the capital, by bet; they sum to 1
    log_wealth: float  # logarithm of the capital, which starts at 1
    tested: int  # values tested


@dataclass(kw_only=True)
class DayFigures:
    """Values of one day by column: the bin for a number, 0 or 1 for each name of a category."""

    day: int  # since 1970, UTC
    place: int  # of its first request
    n: int
    sums: list[int]
    squares: list[int]


@dataclass(kw_only=True)
class DayTest:
    """Full days compared with the same weekdays of the first week, which an alert needs."""

    first_day: int | None  # seen only in part
    open: DayFigures | None  # the current day
    reference: list[DayFigures]  # one per weekday
    recent: list[DayFigures]  # up to seven days after them


@dataclass(kw_only=True)
class TestState:
    """The test of a monitored value. A category has one test per name, and their mean counts."""

    name: WatchedName
    categories: list[str]  # names of a category with their own test; the last one stands for all others
    bets: list[MartingaleState]
    wanted: int  # values required for the reference
    reference: int  # collected so far
    tested: int  # values after the reference
    log_wealth: float
    largest: float  # maximum of log_wealth since the start
    lowest: float  # minimum of log_wealth, from where it rises after a change
    lowest_place: int | None  # of the last request before an alert that was near the minimum
    lowest_at: float | None  # Unix time of that request, s
    alarm_place: int | None  # of the request that first crossed the threshold
    alarm_at: float | None
    seed: int  # for breaking ties
    days: DayTest | None = None  # if the reference consists of requests


PaceName = Literal["slower", "failing"]


@dataclass(kw_only=True)
class TimeModel:
    """Median response time in the reference by length: seconds, plus per_prompt and per_completion for each
    token. `ranges` are the lengths that it covers."""

    seconds: float
    per_prompt: float
    per_completion: float
    ranges: list[list[float]]  # minimum and maximum of prompt and completion tokens
    limit: float  # a response that takes more times as long is slow


@dataclass(kw_only=True)
class CurrentMinute:
    """The current minute; it counts once it is complete."""

    minute: int  # since 1970
    place: int  # of its first request
    last_place: int
    n: int
    over: int  # slow or failed requests
    bins: dict[str, int]  # of time relative to expected -> responses


@dataclass(kw_only=True)
class CusumState:
    """Counts since the most likely change point (Page's cumulative sum)."""

    score: float
    minute: int | None  # null: no evidence of a change
    place: int | None
    n: int
    over: int
    bins: dict[str, int]  # of time relative to expected -> responses


@dataclass(kw_only=True)
class PaceTest:
    """Tests whether latency or the error rate is higher than in the reference."""

    name: PaceName
    warm_up: int  # first requests still to be excluded, because a newly loaded model is slow
    begins_at: float | None  # Unix time of the first reference request, s
    ends_at: float | None = None  # end of the reference window, s
    wanted: int  # requests required for the reference
    gathered: list[list[float]]  # seconds, prompt and completion tokens of each; or 1 if failed
    reference: int  # collected so far
    usual: float  # in the reference: median seconds, or the error rate
    times: TimeModel | None
    allowed: float  # share of a minute's requests that may be slow or failed
    shares: list[float]  # of the capital, by bet
    log_wealth: float
    largest: float
    minutes: int  # tested
    tested: int  # requests in these minutes
    unlike: int  # responses of lengths outside the reference, excluded
    open: CurrentMinute | None
    since: CusumState
    alarm_place: int | None
    alarm_at: float | None  # Unix time, s


@dataclass(kw_only=True)
class PaceWatch:
    """Both tests, none before the first request, and the place from which requests are still to be tested."""

    place: int
    tests: list[PaceTest]


class ServedBase(TypedDict):
    """Where to find the base model of a version; exactly one of the three is set."""

    model: str  # registered version NAME@3, model in the home folder, or path
    run: str  # id
    why: str  # why there is none


class ServedBases(TypedDict):
    """`bases.json` of a check that scores perplexity."""

    live: str  # its base model scores reference rows that no version answered
    bases: dict[str, ServedBase]  # by version


@dataclass(kw_only=True)
class BaseMeasurement:
    """Responses scored under a base model in one check, and the time it took."""

    measured: int
    left_out: int  # not sampled
    cut: int  # of the scored: truncated to the context length
    reasons: dict[str, int]  # why others are not scored
    seconds: float  # per response
    loading: float  # seconds to load base models


AlertKind = Literal["drift", "quality", "errors", "latency"]
AlertOutcome = Literal["same_reference", "new_normal"]


@dataclass(kw_only=True)
class ReferenceValue:
    """The reference of one monitored value."""

    n: int  # rows that the test starts with
    bins: list[int]  # for a number: with a value, ascending
    names: list[str]  # for a category
    counts: list[int]  # by bin or name
    why: str  # why it is not monitored or is compared with the first requests; otherwise empty


@dataclass(kw_only=True)
class ReferenceFacts:
    """What new requests are compared with."""

    source: str  # as text: "the first 300 requests"
    rows: int
    fitted: int  # rows that distances and topics are fitted on; tests of these start with the others
    topics: list[str]  # names
    values: dict[WatchedName, ReferenceValue]
    fit: str  # file in the endpoint's folder `monitor`; empty without stored texts


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
    base_look: BaseMeasurement | None  # the last one; null: perplexity was never monitored
    pace: PaceWatch | None  # null: no requests yet


@dataclass(kw_only=True)
class MonitorAlert:
    """A row of `monitor_alert`."""

    alert_id: str
    endpoint_id: str
    kind: AlertKind
    subject: str  # for drift the monitored value; "slower", "failing"; or another topic
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
    """The input of a check; requests are in `requests.parquet` of the job's folder."""

    states: list[TestState]
    fit: str  # path relative to the home folder; empty if there is none
    log_threshold: float
    alpha: float  # of each monitored value, per month, for full days


class WatchResult(TypedDict):
    """The result of a check, in addition to `signals.parquet` and, for a reference, `fit.npz`."""

    states: list[TestState]
    reference: ReferenceFacts | None  # only for a check of the reference
    requests: int
    base_look: BaseMeasurement | None  # if perplexity is monitored


@dataclass(kw_only=True)
class WebhookSettings:
    """The alert webhook; the secret is never read back."""

    webhook_id: str
    url: str
    set_by_name: str
    set_at: datetime


@dataclass(kw_only=True)
class WebhookDelivery:
    """A webhook message and its delivery."""

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

    requests: int  # answered by the live version or a candidate
    left_out: int  # of these, without stored text


class RequestJudging(RequestWindow):
    """The result of `judge_requests`, in addition to `judgements.parquet`."""

    sample: int  # unique responses in the random sample
    rated: int  # rated responses, judged too
    judged: int  # of both, with a verdict
    reasons: dict[str, int]  # why there is no verdict -> responses
    calls: int
    cached: int
    seconds: float


@dataclass(kw_only=True)
class JudgedAnswer:
    """One unique response, graded by the judge and by raters."""

    version: str
    grouped_by: str | None
    at_random: bool  # in the random sample; otherwise included because it was rated
    passed: bool | None  # by the judge
    in_frame: bool  # among requests that the correcting round drew from
    people: float | None  # share of raters who passed it


@dataclass(kw_only=True)
class RequestRoundSummary:
    """A pass/fail round that may correct a judge."""

    round_id: str
    name: str
    config: ConfigDocument  # RoundConfig
    details: RoundDetails
    drawn_at: datetime


@dataclass(kw_only=True)
class CorrectionRound:
    """The round whose random items correct a judge, for requests in both windows."""

    round_id: str
    name: str
    start: datetime
    end: datetime
    version: str  # only its responses were rated; empty for all
    notices: list[str]


OutcomeKind = Literal["labels", "thumbs", "errors"]  # a good response is correct, liked, or successful


@dataclass(kw_only=True)
class ArmSummary:
    """One of the two versions. share: mean share of good responses of its callers; null for pairs or without
    callers."""

    callers: int
    answers: int
    share: float | None


@dataclass(kw_only=True)
class SignificantDifference:
    """The first look with a significant difference in the current direction. The last look may no longer be
    significant."""

    verdict: Literal["better", "worse"]  # of the other version
    answers: int
    at: float  # Unix time, s


@dataclass(kw_only=True)
class ArmComparison:
    """One look at one kind of outcome."""

    look: int  # looks at these versions that spent alpha, also at other shares
    few: bool | None = None  # too few callers for significance; this look spent nothing
    answers: int
    next_look: int  # responses at the next look
    at: float  # Unix time, s
    live: ArmSummary
    other: ArmSummary
    left_out: int  # responses of the other version in its place, or to a caller of both
    difference: Estimate  # of shares, other minus live; valid for all looks together
    p: float
    alpha: float  # spent by this look
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
