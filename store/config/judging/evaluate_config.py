"""What an evaluation is asked: which model, on which rows, how it answers, and by which metrics.

The metrics stand in it as in `MetricsConfig`; where none is named, the task's are measured. A run is
evaluated as it ended, as one of its checkpoints, or as the base model it began with, which is the other half
of most comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from store.catalog.metric_table import METRICS
from store.config.data.filters import Filter
from store.config.judging.answering import AnswerSettings, ChosenModel
from store.config.measuring import metrics_config
from store.config.measuring.metrics_config import AnyChoice, MetricsConfig
from store.contract.document import Line, by_commas

Part = Literal["train", "validation", "test", "all"]


class EvaluateConfig(AnswerSettings, ChosenModel, MetricsConfig):
    """One evaluation."""

    name: Line = Field("", max_length=80, description="Made up where left out")
    notes: str = Field("", max_length=10_000, description="Whatever there is to say of it")

    rows_of: Line = Field(
        "",
        max_length=120,
        description="The very rows of that evaluation, by id or name; part, filter and number are its",
    )
    dataset: Line = Field(
        "", max_length=120, validate_default=True, description="Name or id; the run's own where left out"
    )
    part: Part = Field("test", description="Of the run's own split, or of the data set's; all: every row")
    where: Filter | None = Field(None, description="Those of them alone that this filter means; all if null")
    max_rows: int | None = Field(500, ge=1, description="A random sample of so many; all where null")
    max_length: int | None = Field(
        None, ge=8, le=1_048_576, description="Tokens of a row whose loss is taken; the model's positions"
    )

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

    @field_validator("dataset")
    @classmethod
    def _named(cls, value: str, validation: ValidationInfo) -> str:
        if not value and validation.data.get("model") and not validation.data.get("rows_of"):
            raise ValueError("a model has no data set of its own; name one")
        return value

    @classmethod
    def of_past(cls, document: Any) -> Self:
        """Like `parse`, for what was kept and is looked at; metrics that are none any more are shown too."""
        if isinstance(document, Mapping) and isinstance(metrics := document.get("metrics"), list):
            document = {**document, "metrics": [metrics_config.of_past(choice) for choice in metrics]}
        return super().of_past(document)

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
