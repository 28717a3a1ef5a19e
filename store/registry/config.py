"""What is asked of registered models: to register one, to move an alias; and the gate of an alias, a list
of checks that a version has to pass.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from store.core.config import Config, FolderSource, Line, ModelSource
from store.core.errors import ConfigError
from store.core.metric_table import METRICS
from store.data.filters import Filter
from store.evaluation.config import Part
from store.registry.version_folders import check_alias, check_model_name

KIND = "register"
ALIASES = ("candidate", "staging", "production")  # those that every model may have; people add their own


def _check_model_name(value: str) -> str:
    try:
        return check_model_name(value)
    except ConfigError as error:
        raise ValueError(f"{error.message.rstrip('.')}; {error.fix[:1].lower()}{error.fix[1:]}") from error


def _check_alias_name(value: str) -> str:
    try:
        return check_alias(value)
    except ConfigError as error:
        raise ValueError(f"{error.message.rstrip('.')}; {error.fix[:1].lower()}{error.fix[1:]}") from error


ModelName = Annotated[Line, Field(max_length=200), AfterValidator(_check_model_name)]
AliasName = Annotated[Line, Field(max_length=200), AfterValidator(_check_alias_name)]


class RegisterConfig(Config):
    """A new version of a registered model: what a run left, or a folder as it is."""

    name: ModelName = Field(description="Of the registered model; it is made where there is none yet")
    run: Line = Field("", max_length=120, description="Id or name of a run; or else a folder")
    checkpoint: Literal["tuned", "best", "newest"] = Field(
        "tuned", description="Of a run: as it ended, or its best or newest checkpoint"
    )
    path: FolderSource = Field(
        "", max_length=2_000, description="Folder with safetensors: a whole model or an adapter"
    )
    base: ModelSource = Field(
        "", max_length=500, description="Of an adapter's folder: the model it belongs to"
    )
    notes: str = Field("", max_length=10_000, description="What there is to know of the version")

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if bool(self.run) == bool(self.path):
            raise ValueError("run: give a run or the path of a folder, one of the two")
        if self.path and self.checkpoint != "tuned":
            raise ValueError("checkpoint: only a run has checkpoints; leave it out")
        if self.run and self.base:
            raise ValueError("base: a run knows its own base; leave it out")
        return self


class DescribeModel(Config):
    """What a model is meant for, as a person writes it; it stands in its cards. seen: what was there."""

    model: ModelName
    description: str = Field(max_length=10_000)
    seen: str | None = None


class AliasReference(Config):
    """An alias of a registered model. seen: the number that it stood at when the person looked, null for
    none; left out it is not looked at."""

    model: ModelName
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Why; it stays in the log")
    seen: AliasSnapshot | None = None


class AliasSnapshot(Config):
    """Where a person saw an alias."""

    version: int | None


class Promote(Config):
    """Give a version an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")
    reason: str = Field(min_length=1, max_length=2_000, description="Why; it stays in the log")
    override: bool = Field(False, description="Though the gate is not passed: for admins, the reason is kept")
    seen: AliasSnapshot | None = None


class GateReference(Config):
    """A version at the gate of an alias."""

    version: Line = Field(min_length=1, max_length=200, description="NAME@NUMBER or NAME@ALIAS")
    alias: AliasName = Field("production", description="production, staging, candidate or your own")


# The gate of a model's alias, as a form and as YAML: a list of checks, all of which a version has to pass.
#
# That all must pass only makes it harder: a version that is truly beyond a limit passes the gate at most as
# often as it passes that one check, so no limit is corrected for the number of checks.


class OnRows(Config):
    """Rows that a check is judged on: the golden set."""

    dataset: Line = Field(min_length=1, max_length=120, description="Name or id of the golden set")
    part: Part = "test"
    where: Filter | None = Field(None, description="Those of its rows that this filter means")
    max_rows: int | None = Field(500, ge=1, description="A random sample of so many; all where null")


def _check_in_table(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"there is no metric {metric}; `tunebench metrics` lists them")
    return metric


class NotWorseThan(OnRows):
    """Paired with the version that holds the alias, on the same rows."""

    check: Literal["not_worse_than"] = "not_worse_than"
    metric: Line = Field(max_length=80, description="By which both are measured")
    margin: float = Field(0.02, ge=0, allow_inf_nan=False, description="How much worse is still as good")

    _metric = field_validator("metric")(_check_in_table)


class BetterOnTask(Config):
    """Over its base model: by the verdict of the run that it came from, or on a data set."""

    check: Literal["better_on_task"] = "better_on_task"
    dataset: Line = Field("", max_length=120, description="The verdict of its run where left out")
    part: Part = "test"
    where: Filter | None = None
    max_rows: int | None = Field(500, ge=1)
    metric: Line = Field("", max_length=80, description="With a data set: by which both are measured")
    least: float = Field(0.0, ge=0, allow_inf_nan=False, description="The gain has to be surely above this")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.dataset) != bool(self.metric):
            raise ValueError("metric: give a data set and a metric, or neither")
        if self.metric:
            _check_in_table(self.metric)
        return self


class QuestionAbove(Config):
    """By the verdict of its run: what of the gain a row's own prompt adds, as the shape of the answers is
    learned by anything."""

    check: Literal["question_above"] = "question_above"
    least: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="The gain from the question has to be surely above this"
    )


class ForgettingUnder(Config):
    """What its run measured before and after: general texts and questions."""

    check: Literal["forgetting_under"] = "forgetting_under"
    nats: float = Field(0.2, gt=0, allow_inf_nan=False, description="Rise of the loss on texts, nats a token")
    share: float = Field(0.05, gt=0, le=1, description="Fall of the share of questions that are right")


class BiasUnder(Config):
    """The newest bias check of the version."""

    check: Literal["bias_under"] = "bias_under"
    limit: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Rise of any share, 0.05 for 5 points; figures in other units keep their own limit, as"
        " all do where it is null",
    )


class CalibrationUnder(OnRows):
    """Of classifiers: gap between how sure it is and how often it is right."""

    check: Literal["calibration_under"] = "calibration_under"
    limit: float = Field(0.1, gt=0, le=1, description="Calibration error (ECE)")


class ParityPassed(Config):
    """Its exports answer as it does."""

    check: Literal["parity_passed"] = "parity_passed"
    form: Line = Field("", max_length=40, description="Which form; every one that was made where left out")
    warned: bool = Field(False, description="A form with warnings passes too")


class HumanRatings(Config):
    """From rating rounds in which the version and the one that holds the alias were compared."""

    check: Literal["human_ratings"] = "human_ratings"
    least: int = Field(50, ge=1, le=1_000_000, description="Ratings that there have to be")
    margin: float = Field(0.1, ge=0, lt=0.5, description="How far under a half its share may surely not be")


class LatencyUnder(Config):
    """Seconds an answer takes, over evaluations with answers on one kind of machine."""

    check: Literal["latency_under"] = "latency_under"
    seconds: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="An answer, as the median of six evaluations or more"
    )


GateCheck = Annotated[
    NotWorseThan
    | BetterOnTask
    | QuestionAbove
    | ForgettingUnder
    | BiasUnder
    | CalibrationUnder
    | ParityPassed
    | HumanRatings
    | LatencyUnder,
    Field(discriminator="check"),
]
KINDS: dict[str, type[Config]] = {
    "not_worse_than": NotWorseThan,
    "better_on_task": BetterOnTask,
    "question_above": QuestionAbove,
    "forgetting_under": ForgettingUnder,
    "bias_under": BiasUnder,
    "calibration_under": CalibrationUnder,
    "parity_passed": ParityPassed,
    "human_ratings": HumanRatings,
    "latency_under": LatencyUnder,
}
TITLES: dict[str, str] = {
    "not_worse_than": "Not worse on the golden set",
    "better_on_task": "Better on its task",
    "question_above": "Gain from the question",
    "forgetting_under": "Forgetting under a limit",
    "bias_under": "Bias under a limit",
    "calibration_under": "Calibrated",
    "parity_passed": "Exports answer alike",
    "human_ratings": "People don't prefer the other",
    "latency_under": "Fast enough",
}


class GateConfig(Config):
    """What a version has to pass; without a check everything passes."""

    checks: list[GateCheck] = Field(default_factory=list, max_length=40)

    def document(self) -> dict[str, Any]:
        """As it is stored and sent."""
        return self.model_dump()


class SetGate(Config):
    """The gate of an alias, from now on."""

    model: ModelName = Field(description="A registered model")
    alias: AliasName = Field("production", description="Which versions can take once they pass")
    gate: GateConfig = Field(description="What has to be passed")
