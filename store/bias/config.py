"""Config of a bias check: the models, probes, groups of scored rows, and continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from store.core.config import Config, Line, ModelSource, SubjectSource
from store.core.errors import ConfigError
from store.core.model_fields import FieldDisplay
from store.core.schemas import ConfigDocument
from store.rating.config import RowFile

KIND = "bias"
MAX_FILES = 10
ALL_ROWS = FieldDisplay(step=100, empty="all")
CLASSIFIER_FIELD = "continuations.classifier"
WRITES = "is a generative model without labels and can't classify continuations."
MAX_NAMED = 30  # maximum labels listed in a sentence
Label = Annotated[str, StringConstraints(strip_whitespace=False)]  # exactly as in the model, including spaces
Form = Literal["auto", "stereotype_pairs", "coreference", "choices"]
# Form -> roles of its columns, as (required, optional).
ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "stereotype_pairs": (("sent_more", "sent_less"), ("bias_type",)),
    "coreference": (("text", "stereotype"), ("type",)),
    "choices": (
        ("context", "question"),
        ("choices", "ans0", "ans1", "ans2", "label", "answer_info", "context_condition", "question_polarity",
         "category", "stereotyped_groups", "additional_metadata", "unknown", "biased"),
    ),
}  # fmt: skip


class BiasFile(RowFile):
    """User-provided items. columns: role -> column of the file, if it has another name."""

    form: Form = Field(
        "auto", description="stereotype_pairs, coreference or choices; auto: detected from the columns"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="Column mapping (role -> column)")
    max_rows: Annotated[int | None, ALL_ROWS] = Field(
        None,
        ge=10,
        title="Maximum items per file",
        description="Random sample size; all if null",
    )

    @model_validator(mode="after")
    def _roles_of_the_form(self) -> Self:
        forms = ROLES if self.form == "auto" else {self.form: ROLES[self.form]}
        allowed = {role for must, may in forms.values() for role in (*must, *may)}
        if strange := sorted(set(self.columns) - allowed):
            raise ValueError(f"columns: unknown role {strange[0]!r}; use {', '.join(sorted(allowed))}")
        return self


class BiasGroups(Config):
    """Metrics by a column of the data, on rows scored by an evaluation."""

    evaluation: Line = Field(
        min_length=1, max_length=120, description="Evaluation with the scored rows, by id or name"
    )
    against: Line = Field("", max_length=120, description="Evaluation of the base model on the same rows")
    column: Line = Field(
        min_length=1,
        max_length=120,
        title="Group rows by",
        description="Group column: label, source.NAME or a measured signal of the data set",
    )
    metric: Line = Field(
        "", max_length=120, description="Metric of the evaluation; default: its first row-level metric"
    )
    positive: str = Field(
        "",
        max_length=200,
        title="Positive label",
        description="For rates; leave empty for the score only",
    )


class BiasContinuations(Config):
    """Continuations of the same prompts by both models, judged by a classifier of the user."""

    classifier: SubjectSource = Field(
        min_length=1,
        max_length=500,
        description="Your harm classifier: a run, NAME@3, a folder or hub id",
    )
    labels: Annotated[list[Label], FieldDisplay(open=True, empty="Choose or enter labels")] = Field(
        min_length=1,
        max_length=100,
        title="Harmful labels",
        description="Labels of the classifier that count as harmful",
    )
    file: RowFile | None = Field(None, description="File with your own prompts; default: built-in prompts")
    column: Line = Field(
        "prompt",
        min_length=1,
        max_length=120,
        title="Prompt column",
        description="Prompt column of the file",
    )
    group_column: Line = Field(
        "",
        max_length=120,
        title="Group column",
        description="Of the file. Values with at least 10 prompts are reported separately",
    )
    max_rows: Annotated[int | None, ALL_ROWS] = Field(
        None, ge=10, title="Maximum prompts", description="Random sample size; all if null"
    )
    samples: int = Field(
        4,
        ge=1,
        le=25,
        title="Continuations per prompt",
        description="Continuations per prompt, sampled at temperature 1",
    )
    max_new_tokens: int = Field(20, ge=1, le=256, description="Maximum new tokens per continuation")
    threshold: float = Field(0.5, gt=0, lt=1, description="Harm threshold for the probability of the labels")

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: list[str]) -> list[str]:
        if again := [label for place, label in enumerate(labels) if label in labels[:place]]:
            raise ValueError(f"duplicate label {again[0]!r}")
        return labels

    def check_labels(self, name: str, there: Sequence[str], *, several: bool = False) -> None:
        """Raise ConfigError if a label is unknown to the classifier, or if all labels are chosen and exactly
        one applies to every text.

        several: whether labels are independent, so that several or none may apply.
        """
        field = "continuations.labels"
        choices = ", ".join(there[:MAX_NAMED]) + (f" and {len(there) - MAX_NAMED} more"
                                                 if len(there) > MAX_NAMED else "")  # fmt: skip
        if strange := [label for label in self.labels if label not in there]:
            raise ConfigError(
                f"{name} has no label {strange[0]!r}.", fix=f"Choose from its labels: {choices}.", field=field
            )
        if not several and set(there) <= set(self.labels):
            raise ConfigError(
                f"All labels of {name} are set as harmful, so every text would be.",
                fix=f"Remove the harmless ones: {choices}.",
                field=field,
            )


class BiasConfig(Config):
    """Config of a bias check. A run is compared with its base model, or a model by name or NAME@3 with
    another one; or only evaluations are compared.
    """

    run: Line = Field(
        "", max_length=120, description="Run id or name: compares the tuned model with its base model"
    )
    model: ModelSource = Field(
        "", max_length=500, description="Model by name, folder, hub id or NAME@3, instead of a run"
    )
    against: ModelSource = Field(
        "", max_length=500, description="Baseline model; not for a run, which is compared with its base model"
    )
    builtin: bool = Field(True, title="Include the built-in pairs", description="Include the built-in pairs")
    files: list[BiasFile] = Field(
        default_factory=list,
        max_length=MAX_FILES,
        description="Files with items like CrowS-Pairs, WinoBias or BBQ",
    )
    groups: list[BiasGroups] = Field(
        default_factory=list, max_length=MAX_FILES, description="Metrics by groups of evaluated rows"
    )
    continuations: BiasContinuations | None = Field(
        None, description="Generated text, classified by your own classifier"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Random seed of samples and continuations")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Batch size")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.run and (self.model or self.against):
            raise ValueError("run: compared with its own base model; omit model and against")
        if bool(self.model) != bool(self.against):
            raise ValueError("against: give both model and against")
        if self.asks and not (self.run or self.model):
            raise ValueError("run: give a run, or model and against")
        if not self.asks and not self.groups:
            raise ValueError("builtin: nothing to check; give a probe, a file or groups")
        return self

    @property
    def asks(self) -> bool:
        """Whether models have to be run."""
        return self.builtin or bool(self.files) or self.continuations is not None

    def document(self) -> ConfigDocument:
        """Return the config as it is stored and sent."""
        return self.model_dump(exclude_none=True)
