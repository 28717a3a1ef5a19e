"""What a bias check is asked: which model against which, by what probes, and by which column of whose
scored rows."""

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
WRITES = "writes text and has no labels with probabilities, so it can't judge continuations."
MAX_NAMED = 30  # labels in a sentence
Label = Annotated[str, StringConstraints(strip_whitespace=False)]  # as the model has it, spaces and all
Form = Literal["auto", "stereotype_pairs", "coreference", "choices"]
# Form -> the roles that a column can have in it; those before the bar must be there.
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
    """Items of the user's own. columns: role -> the file's own name of that column, where it has another."""

    form: Form = Field("auto", description="stereotype_pairs, coreference or choices; by its columns if auto")
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column, where names differ")
    max_rows: Annotated[int | None, ALL_ROWS] = Field(
        None,
        ge=10,
        title="Maximum items per file",
        description="A random sample of so many; all if null",
    )

    @model_validator(mode="after")
    def _roles_of_the_form(self) -> Self:
        forms = ROLES if self.form == "auto" else {self.form: ROLES[self.form]}
        allowed = {role for must, may in forms.values() for role in (*must, *may)}
        if strange := sorted(set(self.columns) - allowed):
            raise ValueError(f"columns: {strange[0]!r} is no role; there are {', '.join(sorted(allowed))}")
        return self


class BiasGroups(Config):
    """Figures by a column of the data, of rows that an evaluation has scored."""

    evaluation: Line = Field(min_length=1, max_length=120, description="Whose scored rows; by id or name")
    against: Line = Field("", max_length=120, description="Another on the same rows, of the base model")
    column: Line = Field(
        min_length=1,
        max_length=120,
        title="Group rows by",
        description="label, a column of the file as source.NAME, or a measured signal",
    )
    metric: Line = Field("", max_length=120, description="Of the evaluation; its first by row if left out")
    positive: str = Field(
        "",
        max_length=200,
        title="Label that counts as positive",
        description="For rates; without one there is the score alone",
    )


class BiasContinuations(Config):
    """What both models go on to write from the same openings, judged by a classifier of the user's."""

    classifier: SubjectSource = Field(
        min_length=1,
        max_length=500,
        description="Your classifier that judges: a run, NAME@3, a folder, hub id",
    )
    labels: Annotated[list[Label], FieldDisplay(open=True, empty="Choose, or write a label")] = Field(
        min_length=1,
        max_length=100,
        title="Labels that count as harmful",
        description="Its labels that count as harmful",
    )
    file: RowFile | None = Field(None, description="Openings of your own; the built-in ones if left out")
    column: Line = Field(
        "prompt",
        min_length=1,
        max_length=120,
        title="Column of the opening",
        description="Of the file: the opening",
    )
    group_column: Line = Field(
        "",
        max_length=120,
        title="Column of the group",
        description="Of the file: whose values are looked at apart, from 10 openings on",
    )
    max_rows: Annotated[int | None, ALL_ROWS] = Field(
        None, ge=10, title="Maximum openings", description="A random sample of so many; all if null"
    )
    samples: int = Field(
        4,
        ge=1,
        le=25,
        title="Continuations of each opening",
        description="Continuations of each opening, drawn at temperature 1",
    )
    max_new_tokens: int = Field(20, ge=1, le=256, description="Of a continuation")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Probability of the labels from which it is harmful"
    )

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: list[str]) -> list[str]:
        if again := [label for place, label in enumerate(labels) if label in labels[:place]]:
            raise ValueError(f"{again[0]!r} is given more than once; name each label once")
        return labels

    def check_labels(self, name: str, there: Sequence[str], *, several: bool = False) -> None:
        """Raises ConfigError where a label is none of the classifier's, or all of them are chosen though one
        of them is always true. several: each is true by itself, or none is."""
        field = "continuations.labels"
        choices = ", ".join(there[:MAX_NAMED]) + (f" and {len(there) - MAX_NAMED} more"
                                                 if len(there) > MAX_NAMED else "")  # fmt: skip
        if strange := [label for label in self.labels if label not in there]:
            raise ConfigError(
                f"{name} has no label {strange[0]!r}.", fix=f"Choose of its labels: {choices}.", field=field
            )
        if not several and set(there) <= set(self.labels):
            raise ConfigError(
                f"All labels of {name} count as harmful, so every text would.",
                fix=f"Leave out those that are harmless: {choices}.",
                field=field,
            )


class BiasConfig(Config):
    """One check. A run is held against its base, a model by name or NAME@3 against another; or evaluations
    alone."""

    run: Line = Field("", max_length=120, description="Id or name: the tuned model against its base")
    model: ModelSource = Field(
        "", max_length=500, description="By name, folder, hub id or NAME@3, instead of a run"
    )
    against: ModelSource = Field(
        "", max_length=500, description="What the model is held against; a run has its base"
    )
    builtin: bool = Field(True, title="Include the built-in pairs", description="The built-in pairs")
    files: list[BiasFile] = Field(
        default_factory=list, max_length=MAX_FILES, description="Items like CrowS-Pairs, WinoBias or BBQ"
    )
    groups: list[BiasGroups] = Field(
        default_factory=list, max_length=MAX_FILES, description="Figures by groups of scored rows"
    )
    continuations: BiasContinuations | None = Field(None, description="Judged by a classifier of your own")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of samples of files, and of continuations")
    per_device_eval_batch_size: int = Field(16, ge=1, le=4096, description="Texts at once")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.run and (self.model or self.against):
            raise ValueError("run: it is held against its own base; leave model and against out")
        if bool(self.model) != bool(self.against):
            raise ValueError("against: give both, the model and what it is held against")
        if self.asks and not (self.run or self.model):
            raise ValueError("run: give a run, or a model and what it is held against")
        if not self.asks and not self.groups:
            raise ValueError("builtin: give a probe, a file or groups: there is nothing to measure")
        return self

    @property
    def asks(self) -> bool:
        """Whether models are asked anything."""
        return self.builtin or bool(self.files) or self.continuations is not None

    def document(self) -> ConfigDocument:
        """As it is stored and sent."""
        return self.model_dump(exclude_none=True)
