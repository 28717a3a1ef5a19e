"""What an evaluation is asked: which model, on which rows, how it answers, and by which metrics.

The metrics stand in it as in `MetricsConfig`; where none is named, the task's are measured. A run is
evaluated as it ended, as one of its checkpoints, or as the base model it began with, which is the other half
of most comparisons.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from store.catalog.metric_table import METRICS
from store.config.metrics_config import AnyChoice, MetricsConfig
from store.contract.document import Line, by_commas

Checkpoint = Literal["tuned", "best", "newest", "base"]
Part = Literal["train", "validation", "test", "all"]
CHECKPOINTS: dict[Checkpoint, str] = {
    "tuned": "the tuned model",
    "best": "the best checkpoint",
    "newest": "the newest checkpoint",
    "base": "the base model",
}
SAMPLING = ("temperature", "top_p")


class EvaluateConfig(MetricsConfig):
    """One evaluation."""

    name: Line = Field("", max_length=80, description="Made up where left out")
    notes: str = Field("", max_length=10_000)

    model: Line = Field("", max_length=500, description="A model by name, folder or hub id; or else a run")
    run: Line = Field("", max_length=120, validate_default=True, description="Id or name of a run")
    checkpoint: Checkpoint = Field(
        "tuned", description="Of a run: as it ended, its best or newest checkpoint, or what it began with"
    )
    trust_remote_code: bool = Field(False, description="Run code that comes with the model")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where fast; of a run what it was trained with"
    )
    chat_template: str = Field("", max_length=20_000, description="The model's own where left out")

    rows_of: Line = Field(
        "",
        max_length=120,
        description="The very rows of that evaluation, by id or name; part and number are its",
    )
    dataset: Line = Field(
        "", max_length=120, validate_default=True, description="Name or id; the run's own where left out"
    )
    part: Part = Field("test", description="Of the run's own split, or of the data set's; all: every row")
    max_rows: int | None = Field(500, ge=1, description="A random sample of so many; all where null")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the sample of rows, and of sampled answers")
    max_length: int | None = Field(
        None, ge=8, le=1_048_576, description="Tokens of a row whose loss is taken; the model's positions"
    )

    max_new_tokens: int = Field(64, ge=1, le=4096)
    do_sample: bool = Field(False, description="Draw answers at random; otherwise the likeliest tokens")
    temperature: float = Field(1.0, gt=0, le=100, description="With do_sample")
    top_p: float = Field(1.0, gt=0, le=1, description="With do_sample")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096)

    metrics: list[AnyChoice] = Field(
        default_factory=list, max_length=100, description="The task's where left out"
    )
    choice_examples: int = Field(
        0,
        ge=0,
        le=32,
        description="Of multiple choice: answered rows of the training part before each question",
    )
    list_choices: bool = Field(
        True,
        description="Of multiple choice: the choices stand in the prompt, as in training, or are only scored",
    )
    probes: bool = Field(False, description="General questions and prose too")
    tasks: list[str] = Field(
        default_factory=list,
        max_length=50,
        description="Of lm-evaluation-harness, where it is installed: own ones from the home folder's tasks",
    )
    task_rows: int | None = Field(
        None, ge=1, description="Of each task so many items, its first; all if null"
    )
    num_fewshot: int | None = Field(None, ge=0, le=64, description="Of tasks; each one's own where left out")

    @field_validator("tasks", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return by_commas(value)

    @field_validator("run")
    @classmethod
    def _of_one(cls, value: str, info: ValidationInfo) -> str:
        model = info.data.get("model", "")
        if value and model:
            raise ValueError(f"model is {model!r} as well; give one of the two")
        if not value and not model:
            raise ValueError("give a run, or a model")
        return value

    @field_validator("checkpoint")
    @classmethod
    def _of_run(cls, value: Checkpoint, info: ValidationInfo) -> Checkpoint:
        if value != "tuned" and not info.data.get("run"):
            raise ValueError("only a run has checkpoints; leave it out for a model")
        return value

    @field_validator("dataset")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("model") and not info.data.get("rows_of"):
            raise ValueError("a model has no data set of its own; name one")
        return value

    @field_validator(*SAMPLING)
    @classmethod
    def _drawn(cls, value: float, info: ValidationInfo) -> float:
        if value != 1 and not info.data.get("do_sample"):
            raise ValueError("it is read with do_sample alone; set do_sample to true")
        return value

    @property
    def generates(self) -> bool:
        """Whether some metric looks at answers."""
        return any("prediction" in METRICS[choice.metric].needs for choice in self.metrics)

    @property
    def chooses(self) -> bool:
        """Whether some metric looks at the scores of choices."""
        return any("choices" in METRICS[choice.metric].needs for choice in self.metrics)

    def document(self) -> dict[str, Any]:
        """As it is stored and sent: without what is left out."""
        return self.model_dump(exclude_none=True) | {"max_rows": self.max_rows}
