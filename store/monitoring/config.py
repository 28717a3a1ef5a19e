"""Settings of a monitor, and what a judge is asked about logged requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from store.core.config import Config, Line
from store.core.features import load_store_features, resolve_name
from store.core.metric_options import JudgeChoice
from store.core.model_fields import FieldDisplay, get_display
from store.core.monitoring_schemas import AlertOutcome, WatchedName
from store.core.schemas import ConfigDocument
from store.evaluation.config import EvaluateConfig

KIND = "judge_requests"
INSTRUCTION = "The answer is correct, complete, and does what was asked."
NO_LIMIT = "no limit"  # the text of an empty limit


class JudgeRequests(Config):
    """The body of `judge_requests`. In addition to the random sample, the judge grades every response of the
    window that was rated pass or fail in a round of randomly drawn requests; these ratings correct it."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")
    hours: float = Field(24 * 7, gt=0, le=24 * 366, description="Length of the window of requests, up to now")
    rows: int = Field(
        200, ge=20, le=5_000, description="Maximum number of unique responses in the random sample"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of the sample")
    judge: JudgeChoice = Field(description="Base URL and model; `criteria` define when a response passes")

    @field_validator("judge", mode="before")
    @classmethod
    def _pass_or_fail(cls, value: Any) -> Any:
        """Scores are 0 (fail) and 1 (pass), without a reference."""
        if not isinstance(value, dict):
            return value
        return {"criteria": INSTRUCTION} | value | {
            "metric": "judge", "lowest": 0, "highest": 1, "with_reference": False
        }  # fmt: skip


class RequestJudgingConfig(JudgeRequests):
    """As queued, with the start and end of the window, UTC."""

    start: datetime
    end: datetime


EVERY_WATCHED_NAME: tuple[WatchedName, ...] = get_args(WatchedName)
EXPENSIVE: WatchedName = "output_perplexity"  # loads a model, so it is opt-in
WATCHED_NAMES = tuple(name for name in EVERY_WATCHED_NAME if name != EXPENSIVE)
ReferenceSource = Literal["first", "window", "dataset", "evaluation"]


class GoldenSchedule(Config):
    """An evaluation that runs on a schedule."""

    evaluate: EvaluateConfig = Field(description="The evaluation, as in the command `evaluate`")
    every_hours: float = Field(24, ge=1, le=24 * 366, title="Repeat every (hours)")


def find_check_config(feature: str) -> type[Config] | None:
    """The type of check that a feature can schedule; None if the feature is not installed."""
    declared = load_store_features().get(feature)
    config: type[Config] | None = resolve_name(declared.scheduled_check) if declared else None
    return config


@dataclass(frozen=True)
class CheckOf:
    """Marks a field as the check of a feature; the field is validated as that feature's type."""

    feature: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(find_check_config(self.feature) or source)


class BiasSchedule(Config):
    """A bias check that runs on a schedule. An alias (NAME@production) is resolved at each run; name the
    version to compare with by its number, so that the baseline stays the same."""

    check: Annotated[Config, CheckOf("bias")] = Field(
        title="Scheduled bias check", description="The check, as in the command `check_bias`"
    )
    every_hours: float = Field(168, ge=1, le=24 * 366, title="Repeat bias check every (hours)")


class MonitorSettings(Config):
    """Settings of a monitor. Default: all values but perplexity, compared with the first requests."""

    reference: Annotated[
        ReferenceSource,
        FieldDisplay(
            choices={
                "first": "First requests",
                "dataset": "Held-out rows of a data set",
                "evaluation": "Rows and responses of an evaluation",
                "window": "Requests in a time window",
            }
        ),
    ] = Field(
        "first",
        title="Reference",
        description="What new requests are compared with: the first requests, those in a time window,"
        " held-out rows of a data set, or rows and responses of an evaluation",
    )
    reference_rows: Annotated[int, FieldDisplay(step=50)] = Field(
        300, ge=60, le=5_000, title="Maximum rows", description="Maximum number of rows in the reference"
    )
    window_start: datetime | None = Field(None, title="From (UTC)", description="For reference `window`, UTC")
    window_end: datetime | None = Field(None, title="To (UTC)", description="For reference `window`, UTC")
    dataset: Line = Field(
        "", max_length=120, title="Data set", description="For reference `dataset`: name or id"
    )
    evaluation: Line = Field(
        "", max_length=120, title="Evaluation", description="For reference `evaluation`: name or id"
    )

    watched: list[WatchedName] = Field(
        default_factory=lambda: list(WATCHED_NAMES),
        min_length=1,
        title="Monitored values",
        description="They share alpha; output_perplexity is off by default because it loads a model",
    )
    alpha: Annotated[float, FieldDisplay(scale=100, low=0.1)] = Field(
        0.05,
        gt=0,
        le=0.5,
        title="False alert rate (%)",
        description="Chance that any monitored value ever raises a false alert",
    )
    one_of_caller_and_hour: bool = Field(
        False,
        title="One request per caller and hour",
        description="For drift, count only the first request of each caller in each hour",
    )

    most_errors: Annotated[float | None, FieldDisplay(scale=100, low=0.1, high=99, empty=NO_LIMIT)] = Field(
        0.05,
        gt=0,
        lt=1,
        title="Maximum error rate (%)",
        description="Raise an alert above this share of failed requests",
    )
    most_p95_seconds: Annotated[float | None, FieldDisplay(low=0.01, empty=NO_LIMIT)] = Field(
        None,
        gt=0,
        le=86_400,
        title="Maximum p95 latency (s)",
        description="Raise an alert if the 95th percentile of latency exceeds this",
    )
    least_thumbs_up: Annotated[float | None, FieldDisplay(scale=100, low=1, high=99, empty=NO_LIMIT)] = Field(
        None,
        gt=0,
        lt=1,
        title="Minimum thumbs up (%)",
        description="Raise an alert below this share of thumbs up",
    )
    golden: GoldenSchedule | None = Field(None, description="Scheduled evaluation; null for none")
    bias: BiasSchedule | None = Field(None, description="Scheduled bias check; null for none")

    keep_days: int = Field(
        30,
        ge=1,
        le=3_650,
        title="Request retention (days)",
        description="Texts and single requests are deleted afterwards; figures by minute are kept",
    )
    price_of_prompt: float | None = Field(
        None,
        ge=0,
        le=1e6,
        title="Price per million input tokens",
        description="Price of a million prompt tokens",
    )
    price_of_completion: float | None = Field(
        None,
        ge=0,
        le=1e6,
        title="Price per million output tokens",
        description="Price of a million completion tokens",
    )
    currency: str = Field("EUR", min_length=1, max_length=8, description="Currency of both prices")

    @field_validator("watched")
    @classmethod
    def _once(cls, names: list[WatchedName]) -> list[WatchedName]:
        return [name for name in EVERY_WATCHED_NAME if name in names]

    @field_validator("bias", mode="before")
    @classmethod
    def _checked_here(cls, schedule: Any) -> Any:
        if schedule is not None and find_check_config("bias") is None:
            raise ValueError("bias checks are not installed; remove the schedule")
        return schedule

    @field_validator("window_start", "window_end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Naive UTC, as times are stored."""
        return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment

    @model_validator(mode="after")
    def _whole(self) -> MonitorSettings:
        needed = {"dataset": self.dataset, "evaluation": self.evaluation}
        if not needed.get(self.reference, "-"):
            raise ValueError(f"{self.reference} is required if reference is {self.reference}")
        if self.reference == "window":
            if self.window_start is None or self.window_end is None:
                raise ValueError("window_start and window_end are required if reference is window")
            if self.window_start >= self.window_end:
                raise ValueError("window_start must be before window_end")
        return self

    def document(self) -> ConfigDocument:
        """As stored: only values that differ from the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)


# Fields that raise an alert when exceeded; empty means no limit.
LIMITS = tuple(
    name
    for name, described in MonitorSettings.model_fields.items()
    if get_display(described).empty == NO_LIMIT
)


class MonitorConfig(MonitorSettings):
    """The body of `set_monitor`; omitted fields get their defaults."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")

    @property
    def settings(self) -> MonitorSettings:
        return MonitorSettings.parse(self.model_dump(exclude={"endpoint"}))


class AlertAcknowledgement(Config):
    """The body of `acknowledge_alert`. outcome: the reference of new requests, for alerts that have one."""

    alert: Line = Field(min_length=1, max_length=80, description="Alert id")
    outcome: AlertOutcome = Field(
        "same_reference",
        description="new_normal: new requests become the reference; same_reference: it stays",
    )
    note: str = Field("", max_length=2_000, description="Findings or action taken")


class Webhook(Config):
    """The body of `set_webhook`; an empty URL removes the webhook."""

    url: str = Field("", max_length=2_000, description="http or https URL; alerts are sent as JSON")
    secret: str = Field("", max_length=200, description="Key that signs messages (HMAC-SHA256)")


class WatchConfig(Config):
    """One check: of the requests from `first` up to `end`, or of the reference."""

    endpoint_id: str
    revision: int
    first: int = Field(0, ge=0)
    end: int = Field(0, ge=0)
    reference: bool = False
    source: ReferenceSource = "first"
    source_id: str = ""
    source_name: str = ""
    rows: int = 300
    watched: list[WatchedName] = Field(default_factory=list)
    seed: int = 0
