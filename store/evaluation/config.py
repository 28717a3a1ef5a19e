"""Config of an evaluation: the model, how it answers, the rows and the metrics.

Metrics are given as in `MetricsConfig`; if none is named, the task's metrics are measured. A run is evaluated
as its final model, as one of its checkpoints, or as its base model, which is the other half of most
comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from store.core import metrics_config
from store.core.config import Config, Line, ModelSource, NoRemoteCodeConfig, split_commas
from store.core.metric_table import METRICS
from store.core.metrics_config import AnyChoice, MetricsConfig
from store.core.model_fields import FieldDisplay
from store.core.schemas import ConfigDocument
from store.data.filters import Filter

Checkpoint = Literal["tuned", "best", "newest", "base"]
CHECKPOINTS: dict[Checkpoint, str] = {
    "tuned": "the tuned model",
    "best": "the best checkpoint",
    "newest": "the newest checkpoint",
    "base": "the base model",
}
SAMPLING = ("temperature", "top_p")


class ModelSelection(NoRemoteCodeConfig):
    """A model by name, or a run's final model, checkpoint or base model."""

    model: ModelSource = Field(
        "", max_length=500, description="Model by name, folder or hub id, instead of a run"
    )
    run: Line = Field("", max_length=120, validate_default=True, description="Id or name of a run")
    checkpoint: Checkpoint = Field(
        "tuned", description="For a run: the final model, its best or newest checkpoint, or the base model"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bfloat16 where fast; for a run its training dtype"
    )
    chat_template: str = Field("", max_length=20_000, description="Default: the model's own")

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
    """Generation settings for answers."""

    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Random seed of the row sample and of sampled answers"
    )
    max_new_tokens: int = Field(64, ge=1, le=4096, description="Maximum new tokens per answer")
    do_sample: bool = Field(False, description="Sample answers; otherwise greedy decoding")
    temperature: Annotated[float, FieldDisplay(low=0.05, high=10, step=0.1)] = Field(
        1.0, gt=0, le=100, description="Requires do_sample"
    )
    top_p: Annotated[float, FieldDisplay(low=0.01, step=0.05)] = Field(
        1.0, gt=0, le=1, description="Requires do_sample"
    )
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Batch size")

    @field_validator(*SAMPLING)
    @classmethod
    def _drawn(cls, value: float, validation: ValidationInfo) -> float:
        if value != 1 and not validation.data.get("do_sample"):
            raise ValueError("it is read with do_sample alone; set do_sample to true")
        return value


Part = Literal["train", "validation", "test", "all"]


class EvaluateConfig(AnswerSettings, ModelSelection, MetricsConfig):
    """Config of an evaluation."""

    name: Line = Field("", max_length=80, description="Default: generated")
    notes: str = Field("", max_length=10_000, description="Free text")

    rows_of: Line = Field(
        "",
        max_length=120,
        description="Use exactly the rows of this evaluation (id or name), with its part, filter and number",
    )
    dataset: Line = Field(
        "", max_length=120, validate_default=True, description="Name or id; default: the run's data set"
    )
    part: Part = Field("test", description="Part of the run's split, or of the data set's; all: every row")
    where: Filter | None = Field(None, description="Only rows that match this filter; all if null")
    max_rows: int | None = Field(500, ge=1, description="Size of the random sample; all if null")
    max_length: int | None = Field(
        None,
        ge=8,
        le=1_048_576,
        description="Maximum tokens of a row for the loss; default: the model's context length",
    )

    metrics: list[AnyChoice] = Field(
        default_factory=list, max_length=100, description="Default: the metrics of the task"
    )
    choice_examples: int = Field(
        0,
        ge=0,
        le=32,
        description="Multiple choice: number of answered training rows before each question",
    )
    list_choices: bool = Field(
        True,
        description="Multiple choice: list the choices in the prompt, as in training, or only score them",
    )
    probes: bool = Field(
        False,
        title="Include general questions and prose",
        description="General knowledge that the model should keep, whatever its training data",
    )
    tasks: Annotated[list[str], FieldDisplay(separator=",", empty="none, or task, task")] = Field(
        default_factory=list,
        max_length=50,
        description="Tasks of lm-evaluation-harness, if installed; own ones from the home folder's `tasks`",
    )
    task_rows: Annotated[int | None, FieldDisplay(empty="all")] = Field(
        None, ge=1, description="Number of items of each task, the first ones; all if null"
    )
    num_fewshot: int | None = Field(
        None, ge=0, le=64, description="Few-shot examples of the tasks; default: each task's own"
    )

    @field_validator("tasks", mode="before")
    @classmethod
    def _by_commas(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("dataset")
    @classmethod
    def _named(cls, value: str, validation: ValidationInfo) -> str:
        if not value and validation.data.get("model") and not validation.data.get("rows_of"):
            raise ValueError("a model has no data set; name one")
        return value

    @classmethod
    def of_past(cls, document: Any) -> Self:
        """Like `parse`, but for stored configs; metrics that no longer exist are accepted."""
        if isinstance(document, Mapping) and isinstance(metrics := document.get("metrics"), list):
            document = {
                **document,
                "metrics": [metrics_config.load_stored_choice(choice) for choice in metrics],
            }
        return super().of_past(document)

    @property
    def generates(self) -> bool:
        """Whether any metric needs answers."""
        return any("prediction" in METRICS[choice.metric].needs for choice in self.metrics)

    @property
    def chooses(self) -> bool:
        """Whether any metric needs the scores of choices."""
        return any("choices" in METRICS[choice.metric].needs for choice in self.metrics)

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent, without omitted fields."""
        return self.model_dump(exclude_none=True) | {"max_rows": self.max_rows}
