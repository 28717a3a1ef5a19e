"""Config of an improvement of a registered model: the sources of new rows and the requirements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from store.core.config import Config, Line
from store.core.metric_table import METRICS
from store.core.model_fields import FieldDisplay
from store.data.filters import Filter
from store.registry.config import AliasName, ModelName

MAX_MARGIN = 0.2  # for a metric that is a share: worse versions should not be promoted unseen
MAX_LEAKAGE = 0.2  # undetected share of reworded repeats of held-out rows; bench/detection/reworded.py
MAX_LEAKAGE_SHORT = 0.75  # for repeats whose answer has fewer than `SHORT_ANSWER` words
SHORT_ANSWER = 12  # words; half of the repeats with shorter answers are hard to recognize
MAX_JUDGED = 4  # improvements that a held-out row is used for; bench/truths/monitoring/reuse.py
MIN_ROWS = 20  # minimum usable new rows, which are split into training and held-out rows


class FeedbackRowSource(Config):
    """Requests to an endpoint that were corrected or labeled."""

    source: Literal["feedback"] = "feedback"
    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")
    start: datetime | None = Field(None, description="Only feedback since this time, UTC; all if null")
    end: datetime | None = None
    alert: Line = Field("", max_length=80, description="Only requests behind this alert")
    group: Line = Field("", max_length=200, description="Only requests of this group")
    model: Line = Field(
        "",
        max_length=64,
        description="Only requests for names that a version of this model has answered; an improvement "
        "always uses its own model",
    )

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Convert to naive UTC, as the store keeps time."""
        return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment


class RoundRowSource(Config):
    """Corrections, labels or preferences from a rating round; an open round is waited for."""

    source: Literal["round"] = "round"
    round: Line = Field(min_length=1, max_length=120, description="Id or name")


class DatasetRowSource(Config):
    """Rows of a data set with answers, all or those of a slice."""

    source: Literal["dataset"] = "dataset"
    dataset: Line = Field(min_length=1, max_length=120, description="Name or id")
    where: Filter | None = Field(None, description="Only rows that match this filter")


RowSource = Annotated[FeedbackRowSource | RoundRowSource | DatasetRowSource, Field(discriminator="source")]


class ImproveSettings(Config):
    """Settings common to manual and scheduled improvements."""

    model: ModelName = Field(description="Registered model")
    alias: AliasName = Field(
        "production", title="Version to improve", description="Alias whose version is improved and replaced"
    )
    rows: list[RowSource] = Field(
        min_length=1, max_length=8, title="sources of new rows", description="Sources of new rows"
    )
    run: Line = Field(
        "",
        max_length=120,
        title="Config from run",
        description="Run whose config is launched; the version's run if omitted",
    )
    held_out: Annotated[float, FieldDisplay(scale=100, step=5, slider=True)] = Field(
        0.3,
        ge=0.1,
        le=0.5,
        title="Held-out new rows (%)",
        description="Share of new rows held out for evaluation; never trained on",
    )
    metric: Line = Field(
        "", max_length=80, description="Metric for both versions; the task's default if omitted"
    )
    margin: float = Field(
        0.02,
        ge=0,
        allow_inf_nan=False,
        title="Allowed decrease",
        description="Allowed decrease, on old and new rows",
    )

    @field_validator("metric")
    @classmethod
    def _in_table(cls, metric: str) -> str:
        if metric and metric not in METRICS:
            raise ValueError(f"there is no metric {metric}; `tunebench metrics` lists them")
        return metric

    def document(self) -> Mapping[str, Any]:
        """Return the config as it is stored and sent, with times as text."""
        return self.model_dump(mode="json")


class GatherConfig(Config):
    """Config of the job `gather_rows`."""

    improvement: str
    name: Line = Field(min_length=1, max_length=80, description="Name of the data set of new rows")
    dataset: str = Field(min_length=1, description="Id of the data set that the run was trained on")
    run: str = Field(min_length=1, description="Id of the run whose split is kept")
    rows: list[RowSource]
    held_out: float = Field(ge=0.1, le=0.5)
    seed: int = 0
    in_use_run: str = Field("", description="Id of the run that made the version in use, if different")
    in_use_unknown: str = Field(
        "", max_length=400, description="Why the training data of the version in use is unknown"
    )


class ImproveConfig(ImproveSettings):
    """Body of `begin_improvement`."""

    name: Annotated[Line, FieldDisplay(empty="Default: model name and date")] = Field(
        "", max_length=80, description="Model name and date if omitted"
    )


class ImproveSchedule(ImproveSettings):
    """Body of `schedule_improvement`: an improvement begins once there are enough new rows. Promotion always
    requires a person.
    """

    every_hours: float = Field(
        24, ge=1, le=24 * 366, title="Check every (hours)", description="Hours between checks"
    )
    least_rows: int = Field(
        100,
        ge=MIN_ROWS,
        le=1_000_000,
        title="Minimum new rows",
        description="Minimum number of new rows since the last improvement",
    )

    @model_validator(mode="after")
    def _of_feedback(self) -> Self:
        if any(rows.source != "feedback" for rows in self.rows):
            raise ValueError("rows: a schedule can only use feedback on answers")
        return self


class ImprovementReference(Config):
    """Reference to an improvement by id or name."""

    improvement: Line = Field(min_length=1, max_length=120)


class DecideImprovement(ImprovementReference):
    """Promote or decline the new version. override: an admin promotes although the checks did not pass."""

    promote: bool
    reason: str = Field("", max_length=2_000)
    override: bool = False


class UnscheduleImprovement(Config):
    model: ModelName
