"""What the monitor of an endpoint watches and when it warns, and what a judge is asked of logged requests."""

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
NO_LIMIT = "no limit"  # what an empty field of a limit says


class JudgeRequests(Config):
    """The body of `judge_requests`. Beside the random sample the judge is asked of every answer of the window
    that people rated, pass or fail, in a round of requests drawn at random: by these it is corrected."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")
    hours: float = Field(24 * 7, gt=0, le=24 * 366, description="How far back the window of requests reaches")
    rows: int = Field(200, ge=20, le=5_000, description="Different answers in the random sample, at most")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the sample")
    judge: JudgeChoice = Field(description="Address and model; `criteria` say when an answer passes")

    @field_validator("judge", mode="before")
    @classmethod
    def _pass_or_fail(cls, value: Any) -> Any:
        """0 is fail, 1 is pass; there is no reference."""
        if not isinstance(value, dict):
            return value
        return {"criteria": INSTRUCTION} | value | {
            "metric": "judge", "lowest": 0, "highest": 1, "with_reference": False
        }  # fmt: skip


class RequestJudgingConfig(JudgeRequests):
    """As it is queued: with the window's ends, UTC."""

    start: datetime
    end: datetime


EVERY_WATCHED_NAME: tuple[WatchedName, ...] = get_args(WatchedName)
EXPENSIVE: WatchedName = "output_perplexity"  # a model is loaded for it: watched only where it is asked for
WATCHED_NAMES = tuple(name for name in EVERY_WATCHED_NAME if name != EXPENSIVE)
ReferenceSource = Literal["first", "window", "dataset", "evaluation"]


class GoldenSchedule(Config):
    """An evaluation that is asked for again and again."""

    evaluate: EvaluateConfig = Field(description="What is evaluated, as the command `evaluate` takes it")
    every_hours: float = Field(24, ge=1, le=24 * 366, title="Every (hours)")


def find_check_config(feature: str) -> type[Config] | None:
    """What a schedule can ask of a feature; None where it is not there."""
    declared = load_store_features().get(feature)
    config: type[Config] | None = resolve_name(declared.scheduled_check) if declared else None
    return config


@dataclass(frozen=True)
class CheckOf:
    """Marks a field by the feature that makes the check: the field is validated as what that is asked."""

    feature: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(find_check_config(self.feature) or source)


class BiasSchedule(Config):
    """A bias check that is asked for again and again. A version by alias (NAME@production) is what the alias
    is then; name what it is held against by its number, so that the reference stays."""

    check: Annotated[Config, CheckOf("bias")] = Field(
        title="Scheduled bias check",
        description="What is checked, as the command `check_bias` takes it. A version that is named by an"
        " alias (NAME@production) is what the alias is each time",
    )
    every_hours: float = Field(168, ge=1, le=24 * 366, title="Bias every (hours)")


class MonitorSettings(Config):
    """What is watched. Whoever sets nothing watches all but perplexity against the first requests."""

    reference: Annotated[
        ReferenceSource,
        FieldDisplay(
            choices={
                "first": "Its first requests",
                "dataset": "Held-out rows of a data set",
                "evaluation": "Rows and answers of an evaluation",
                "window": "Requests of a window",
            }
        ),
    ] = Field(
        "first",
        title="Compare with",
        description="The first requests; those of a window; held-out rows of a data set; or the rows"
        " and answers of an evaluation",
    )
    reference_rows: Annotated[int, FieldDisplay(step=50)] = Field(
        300, ge=60, le=5_000, title="Maximum rows", description="Rows of the reference at most"
    )
    window_start: datetime | None = Field(
        None, title="From (UTC)", description="Of the reference `window`, UTC"
    )
    window_end: datetime | None = Field(None, title="To (UTC)", description="Of the reference `window`, UTC")
    dataset: Line = Field(
        "", max_length=120, title="Data set", description="Of the reference `dataset`: name or id"
    )
    evaluation: Line = Field(
        "", max_length=120, title="Evaluation", description="Of the reference `evaluation`: name or id"
    )

    watched: list[WatchedName] = Field(
        default_factory=lambda: list(WATCHED_NAMES),
        min_length=1,
        description="They share alpha; output_perplexity is left out unless named, as it loads a model",
    )
    alpha: Annotated[float, FieldDisplay(scale=100, low=0.1)] = Field(
        0.05,
        gt=0,
        le=0.5,
        title="False alarm rate (%)",
        description="The chance that any watched value ever raises a false alarm",
    )
    one_of_caller_and_hour: bool = Field(
        False,
        title="One request per caller and hour",
        description="Of the requests of a caller within an hour the first alone counts for drift",
    )

    most_errors: Annotated[float | None, FieldDisplay(scale=100, low=0.1, high=99, empty=NO_LIMIT)] = Field(
        0.05,
        gt=0,
        lt=1,
        title="Maximum failed requests (%)",
        description="Share of requests that may fail",
    )
    most_p95_seconds: Annotated[float | None, FieldDisplay(low=0.01, empty=NO_LIMIT)] = Field(
        None,
        gt=0,
        le=86_400,
        title="95th percentile latency limit (s)",
        description="95 of 100 answers take less",
    )
    least_thumbs_up: Annotated[float | None, FieldDisplay(scale=100, low=1, high=99, empty=NO_LIMIT)] = Field(
        None,
        gt=0,
        lt=1,
        title="Minimum thumbs up (%)",
        description="Share of thumbs that is up, at least",
    )
    golden: GoldenSchedule | None = Field(None, description="An evaluation, again and again; null for none")
    bias: BiasSchedule | None = Field(None, description="A bias check, again and again; null for none")

    keep_days: int = Field(
        30,
        ge=1,
        le=3_650,
        title="Keep texts (days)",
        description="Then texts and single requests are deleted; figures by minute are kept",
    )
    price_of_prompt: float | None = Field(
        None,
        ge=0,
        le=1e6,
        title="Price per million input tokens",
        description="Of a million tokens that are read",
    )
    price_of_completion: float | None = Field(
        None,
        ge=0,
        le=1e6,
        title="Price per million output tokens",
        description="Of a million that are written",
    )
    currency: str = Field("EUR", min_length=1, max_length=8, description="Of both prices")

    @field_validator("watched")
    @classmethod
    def _once(cls, names: list[WatchedName]) -> list[WatchedName]:
        return [name for name in EVERY_WATCHED_NAME if name in names]

    @field_validator("bias", mode="before")
    @classmethod
    def _checked_here(cls, schedule: Any) -> Any:
        if schedule is not None and find_check_config("bias") is None:
            raise ValueError("this Tunebench has no bias checks; leave the schedule out")
        return schedule

    @field_validator("window_start", "window_end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Without a zone, as the store keeps time."""
        return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment

    @model_validator(mode="after")
    def _whole(self) -> MonitorSettings:
        needed = {"dataset": self.dataset, "evaluation": self.evaluation}
        if not needed.get(self.reference, "-"):
            raise ValueError(f"reference is {self.reference}, and {self.reference} is empty: name one")
        if self.reference == "window":
            if self.window_start is None or self.window_end is None:
                raise ValueError("reference is window, which needs window_start and window_end")
            if self.window_start >= self.window_end:
                raise ValueError("window_start is not before window_end")
        return self

    def document(self) -> ConfigDocument:
        """As it is stored: what differs from how it comes."""
        return self.model_dump(mode="json", exclude_defaults=True)


# Fields that warn when passed: whose empty value is no limit.
LIMITS = tuple(
    name
    for name, described in MonitorSettings.model_fields.items()
    if get_display(described).empty == NO_LIMIT
)


class MonitorConfig(MonitorSettings):
    """The body of `set_monitor`; what is left out is as it comes."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")

    @property
    def settings(self) -> MonitorSettings:
        return MonitorSettings.parse(self.model_dump(exclude={"endpoint"}))


class AlertAcknowledgement(Config):
    """The body of `acknowledge_alert`. outcome: of drift, what new requests are held against from now on."""

    alert: Line = Field(min_length=1, max_length=80, description="Id of an alert")
    outcome: AlertOutcome = Field(
        "same_reference",
        description="new_normal: the requests from now on are the reference; else it stays",
    )
    note: str = Field("", max_length=2_000, description="Findings or action taken")


class Webhook(Config):
    """The body of `set_webhook`; an empty URL takes it away."""

    url: str = Field("", max_length=2_000, description="http or https; alerts are sent there as JSON")
    secret: str = Field("", max_length=200, description="Signs what is sent (HMAC-SHA256)")


class WatchConfig(Config):
    """One measuring: of the requests from `first` up to `end`, or of the reference."""

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
