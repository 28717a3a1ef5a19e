"""Which logged requests of an endpoint people are to look at, and what makes one tell more than another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Self

from pydantic import Field, field_validator, model_validator

from store.contract.document import Config, Line


class TellingWeights(Config):
    """How much each reason counts beside the others; 0 leaves one out."""

    uncertainty: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    drift: float = Field(0.5, ge=0, le=100, allow_inf_nan=False)
    disagreement: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if not self.uncertainty + self.drift + self.disagreement:
            raise ValueError("one of uncertainty, drift and disagreement must be above 0")
        return self


class ChosenRequests(Config):
    """Requests that were answered and whose texts were kept, narrowed to those that are meant."""

    endpoint: Line = Field(min_length=1, max_length=120, description="Name or id")
    start: datetime | None = Field(None, description="Requests from then on, UTC; all where null")
    end: datetime | None = None
    alert: Line = Field("", max_length=80, description="Only the requests behind this alert")
    group: Line = Field("", max_length=200, description="Only requests of this group")
    version: Line = Field("", max_length=200, description="Only answers of this version, a shadow's too")
    random_share: float = Field(
        0.3, ge=0, le=1, description="Of the telling ones: so many are a plain random draw, which can judge"
    )
    weights: TellingWeights = Field(default_factory=TellingWeights)

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        """Without a zone, as the store keeps time."""
        return moment.astimezone(UTC).replace(tzinfo=None) if moment and moment.tzinfo else moment
