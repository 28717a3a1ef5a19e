"""What a judge is asked of logged requests: was the answer good enough?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from store.config.measuring.judge_config import JudgeChoice
from store.contract.document import Config, Line

KIND = "judge_requests"
INSTRUCTION = "The answer is correct, complete, and does what was asked."


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


class JudgingOfRequests(JudgeRequests):
    """As it is queued: with the window's ends, UTC."""

    start: datetime
    end: datetime
