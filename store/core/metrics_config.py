r"""Metrics of an evaluation with their options. Errors name the position and field.

`metrics` is a list of documents such as {"metric": "bleu", "tokenize": "intl"}, or plain names. A metric can
occur several times under different names: {"metric": "regex", "name": "has_date", "pattern": "\d{4}"} is
`eval/has_date` in the store.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import Field, field_validator

from store.core.config import Config
from store.core.json_schema import check_schema
from store.core.metric_options import Constraint, JudgeChoice, MetricChoice, check_pattern
from store.core.metric_table import METRICS
from store.core.model_fields import FieldDisplay
from store.core.schemas import JsonObject

TAKEN = {
    *METRICS,
    "loss",
    "token_accuracy",
    "reward_accuracy",
    "reward_margin",
    "chosen_logp",
    "rejected_logp",
}
MAX_LABELS = 10_000
HUB = "hub"  # obsolete metric
KNOWN = f"there are {', '.join(METRICS)}"


class ExactMatchChoice(MetricChoice):
    metric: Literal["exact_match"]
    normalise: bool = Field(False, description="Ignore case, punctuation and articles")


class BleuChoice(MetricChoice):
    metric: Literal["bleu"]
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = Field("13a", description="Tokenizer")
    lowercase: bool = False


class ChrfChoice(MetricChoice):
    metric: Literal["chrf"]
    word_order: Literal[0, 2] = Field(0, description="2 also counts words: chrF++")


class RougeChoice(MetricChoice):
    metric: Literal["rouge1", "rouge2", "rougeL"]
    use_stemmer: bool = Field(False, description="Stem English words")


class ClassChoice(MetricChoice):
    """Classification metric. `labels`: the label set; by default that of the rows."""

    metric: Literal[
        "accuracy",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
    ]
    labels: list[str] | None = Field(None, min_length=1, max_length=MAX_LABELS)
    ignore_case: bool = Field(True, description="Ignore case when comparing labels")


class ValidJsonChoice(MetricChoice):
    metric: Literal["valid_json"]
    fenced: bool = Field(True, description="Parse the content of a code fence if the answer is one")


class SchemaChoice(MetricChoice):
    metric: Literal["json_schema"]
    fenced: bool = True
    json_schema: JsonObject | bool = Field(description="JSON schema, draft 2020-12")

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: Any) -> Any:
        check_schema(value)
        try:
            Draft202012Validator.check_schema(value)
        except SchemaError as error:
            where = "/".join(str(part) for part in error.absolute_path) or "at its top"
            raise ValueError(f"it is not a JSON schema: {where}: {error.message[:200]}") from error
        if all(f'"{word}"' in json.dumps(value) for word in ("unevaluatedProperties", "patternProperties")):
            raise ValueError(
                "unevaluatedProperties with patternProperties can take unlimited time; use"
                " additionalProperties"
            )
        return value


class RegexChoice(MetricChoice):
    metric: Literal["regex"]
    pattern: str = Field(min_length=1, max_length=2_000, description="RE2")
    whole: bool = Field(False, description="The pattern must match the whole answer")

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        return check_pattern(value)


class ConstraintsChoice(MetricChoice):
    metric: Literal["constraints"]
    constraints: list[Constraint] = Field(min_length=1, max_length=50)


class CustomMetricChoice(MetricChoice):
    """The file `metrics/FILE.py` of the home folder, run in its own processes, which are ended with it."""

    metric: Literal["own"]
    file: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)
    better: Literal["higher", "lower"] = "higher"
    options: JsonObject = Field(default_factory=dict, description="Passed to the module's compute()")
    max_seconds: float = Field(
        600, gt=0, le=604_800, description="Time limit for all rows; then it is stopped"
    )
    max_memory_gib: float = Field(
        4, gt=0, le=4096, description="Memory limit including child processes; then it is stopped"
    )

    @property
    def key(self) -> str:
        return f"eval/{self.name or self.file.lower()}"


def load_stored_choice(choice: Any) -> Any:
    """Convert a stored choice for display. Before 0.3, hub modules could be metrics; as third-party code,
    they are shown as the file that such a metric has to be now.
    """
    if not isinstance(choice, Mapping) or choice.get("metric") != HUB:
        return choice
    own = re.sub(r"[^a-z0-9]+", "_", str(choice.get("hub_id", "")).split("/")[-1].lower()).strip("_") or HUB
    file = own if not own[0].isdigit() else f"_{own}"
    kept = {name: value for name, value in choice.items() if name in CustomMetricChoice.model_fields}
    return kept | {"metric": "own", "file": file, "name": choice.get("name") or own}


WITH_OPTIONS = (
    ExactMatchChoice
    | BleuChoice
    | ChrfChoice
    | RougeChoice
    | ClassChoice
    | ValidJsonChoice
    | SchemaChoice
    | RegexChoice
    | ConstraintsChoice
    | CustomMetricChoice
    | JudgeChoice
)


def _map_by_metric(kinds: Any) -> dict[str, type[MetricChoice]]:
    """Map each metric to its choice class."""
    return {
        name: kind for kind in get_args(kinds) for name in get_args(kind.model_fields["metric"].annotation)
    }


if TYPE_CHECKING:
    PlainName = str  # a name in the table
else:
    PlainName = Literal[tuple(name for name in METRICS if name not in _map_by_metric(WITH_OPTIONS))]


class PlainChoice(MetricChoice):
    """A metric without options: every metric that has no choice class of its own."""

    metric: PlainName


AnyChoice = Annotated[PlainChoice | WITH_OPTIONS, Field(discriminator="metric")]
CHOICES = _map_by_metric(get_args(AnyChoice)[0])


def list_metric_options(metric: str) -> list[str]:
    """Return the options of a metric, for forms and documentation; limits come last."""
    return [name for name in CHOICES[metric].model_fields if name not in MetricChoice.model_fields]


class MetricsConfig(Config):
    """The metrics of one evaluation."""

    metrics: list[AnyChoice] = Field(max_length=100)
    group_by: Annotated[str | None, FieldDisplay(empty="no groups")] = Field(
        None, description="Column whose equal values mark similar rows, which are resampled together"
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Confidence level of the intervals")

    @field_validator("metrics", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        choices = [{"metric": choice} if isinstance(choice, str) else choice for choice in value]
        for choice in choices:
            name = choice.get("metric") if isinstance(choice, dict) else None
            if name == HUB:
                raise ValueError(
                    "metrics from the hub are third-party code, which Tunebench does not run; put the file"
                    " into the folder `metrics` of the home folder and use {metric: own, file: NAME}"
                )
            if isinstance(name, str) and name not in METRICS:
                near = difflib.get_close_matches(name, METRICS, n=1)
                raise ValueError(f"there is no metric {name!r}; " + (f"is it {near[0]}?" if near else KNOWN))
        return choices

    @field_validator("metrics")
    @classmethod
    def _told_apart(cls, value: list[MetricChoice]) -> list[MetricChoice]:
        seen: dict[str, int] = {}
        for place, choice in enumerate(value):
            own = choice.key.removeprefix("eval/")
            if own != choice.metric and own in TAKEN:
                raise ValueError(
                    f"{choice.key}, at position {place}, is the name of another metric; choose another name"
                )
            if choice.key in seen:
                raise ValueError(
                    f"{choice.key} occurs twice, at positions {seen[choice.key]} and {place}; give one of"
                    " them another name"
                )
            seen[choice.key] = place
        return value


# The metric of responses that a run generates during training, as named in its config: a metric of the table
# that has a score per row and requires no options, or own/FILE for `metrics/FILE.py` of the home folder, for
# which higher scores are assumed to be better.

LIVE_AUTOMATIC, LIVE_NONE, LIVE_OWN = "", "none", "own/"
LIVE_DEFAULT = "token_f1"
LIVE_NEEDS = {"prediction", "reference", "prompt", "label"}


def list_live_metrics() -> list[str]:
    """Return the metrics of the table that can be measured during training."""
    return [name for name, metric in METRICS.items() if _is_live_metric(name) and metric.better == "higher"]


def _is_live_metric(name: str) -> bool:
    metric = METRICS[name]
    by_row = metric.kind == "rows" or name == "accuracy"
    plain = not any(CHOICES[name].model_fields[option].is_required() for option in list_metric_options(name))
    return by_row and plain and set(metric.needs) <= LIVE_NEEDS and name != "judge"


def check_live_metric(value: str) -> str:
    """Return the name. Raises ValueError if it can't be measured during training."""
    options = list_live_metrics()
    if value in (LIVE_AUTOMATIC, LIVE_NONE, *options):
        return value
    if value.startswith(LIVE_OWN):
        if not value.removeprefix(LIVE_OWN).isidentifier():
            raise ValueError("own/ is followed by the name of a file in the home's metrics, without .py")
        return value
    near = difflib.get_close_matches(value, options, n=1)
    there = f"is it {near[0]}?" if near else f"there are {', '.join(options)}, own/FILE and none"
    raise ValueError(f"no metric {value!r} can be measured while it trains; {there}")


def build_live_metrics(value: str) -> MetricsConfig:
    """Return the metrics config of an evaluation with this one metric."""
    choice = {"metric": "own", "file": value.removeprefix(LIVE_OWN)} if value.startswith(LIVE_OWN) else value
    return MetricsConfig.parse({"metrics": [choice]})
