"""Which model answers, and how: what an evaluation and the prompts of a rating round have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from store.contract.document import Config, Line
from store.contract.named_sources import ModelSource
from store.contract.no_code_config import RunsNoCode

Checkpoint = Literal["tuned", "best", "newest", "base"]
CHECKPOINTS: dict[Checkpoint, str] = {
    "tuned": "the tuned model",
    "best": "the best checkpoint",
    "newest": "the newest checkpoint",
    "base": "the base model",
}
SAMPLING = ("temperature", "top_p")


class ChosenModel(RunsNoCode):
    """A model by name, or what a run left, was on its way to, or began with."""

    model: ModelSource = Field(
        "", max_length=500, description="A model by name, folder or hub id; or else a run"
    )
    run: Line = Field("", max_length=120, validate_default=True, description="Id or name of a run")
    checkpoint: Checkpoint = Field(
        "tuned", description="Of a run: as it ended, its best or newest checkpoint, or what it began with"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where fast; of a run what it was trained with"
    )
    chat_template: str = Field("", max_length=20_000, description="The model's own where left out")

    @field_validator("run")
    @classmethod
    def _of_one(cls, value: str, validation: ValidationInfo) -> str:
        model = validation.data.get("model", "")
        if value and model:
            raise ValueError(f"model is {model!r} as well; give one of the two")
        if not value and not model:
            raise ValueError("give a run, or a model")
        return value

    @field_validator("checkpoint")
    @classmethod
    def _of_run(cls, value: Checkpoint, validation: ValidationInfo) -> Checkpoint:
        if value != "tuned" and not validation.data.get("run"):
            raise ValueError("only a run has checkpoints; leave it out for a model")
        return value


class AnswerSettings(Config):
    """How answers are written."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the sample of rows, and of sampled answers")
    max_new_tokens: int = Field(64, ge=1, le=4096, description="Of each answer, at most")
    do_sample: bool = Field(False, description="Draw answers at random; otherwise the likeliest tokens")
    temperature: float = Field(1.0, gt=0, le=100, description="With do_sample")
    top_p: float = Field(1.0, gt=0, le=1, description="With do_sample")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Rows at once")

    @field_validator(*SAMPLING)
    @classmethod
    def _drawn(cls, value: float, validation: ValidationInfo) -> float:
        if value != 1 and not validation.data.get("do_sample"):
            raise ValueError("it is read with do_sample alone; set do_sample to true")
        return value
