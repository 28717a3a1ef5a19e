"""Columns of the table of runs: what can be shown, sorted and filtered, and the SQL that reads each.

A column is named by where its values come from: a field of the run (`status`), a setting
(`config.learning_rate`), a fact of the run (`facts.peak_memory_gib`), a logged metric with its aggregation
(`metrics.eval/loss.min`), a figure of the verdict (`figures.gain`), or a metric of the newest evaluation of
the final model on a data set (`evaluations.DATASET_ID.METRIC`). Figures and evaluations are estimates: they
have an interval and n.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Union, get_args, get_origin

from store.core.errors import ConfigError
from store.core.metric_table import METRICS
from store.db.named_query import named_query
from store.training.train_config import TrainConfig

if TYPE_CHECKING:
    from store.db.database import Queryable

ColumnKind = Literal["text", "number", "time", "tags", "estimate"]
ColumnGroup = Literal["Run", "Setting", "Measured", "Figure of the verdict", "Metric", "Evaluation"]
Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, kw_only=True)
class RunColumn:
    """A column of the table of runs.

    unit: of its numbers; better: which of them are, if any; is_change: whether 0 stands for no change.
    """

    name: str
    title: str
    group: ColumnGroup
    kind: ColumnKind
    unit: str = ""
    better: Better = ""
    is_change: bool = False


class ColumnSource(NamedTuple):
    """How a column is read over `run_overview r`.

    value: SQL of its value, or of an estimate as JSON; in it, `{part}` stands for what is at `path` of the
    JSON column `document`. join: SQL to be joined, with `?` for params.
    """

    kind: ColumnKind
    value: str
    join: str = ""
    params: tuple[str, ...] = ()
    document: str = ""
    path: str = ""


class _Field(NamedTuple):
    title: str
    kind: ColumnKind
    value: str
    unit: str = ""
    better: Better = ""


_SECONDS = "epoch(coalesce(r.ended_at, (now() AT TIME ZONE 'UTC')) - r.started_at)::DOUBLE"
FIELDS: dict[str, _Field] = {
    "name": _Field("Name", "text", "r.name"),
    "status": _Field("Status", "text", "r.status"),
    "method": _Field("Method", "text", "r.method"),
    "model": _Field("Model", "text", "r.model"),
    "dataset_name": _Field("Data set", "text", "r.dataset_name"),
    "created_at": _Field("Launched", "time", "r.created_at"),
    "duration": _Field("Duration", "number", _SECONDS, "seconds"),
    "tags": _Field("Tags", "tags", "r.tags"),
    "notes": _Field("Notes", "text", "r.notes"),
    "created_by": _Field(
        "Launched by", "text", "(SELECT p.name FROM person p WHERE p.person_id = r.created_by)"
    ),
    "best_eval_loss": _Field("Best validation loss", "number", "r.best_eval_loss", "nats", "lower"),
    "base_eval_loss": _Field("Validation loss of the base model", "number", "r.base_eval_loss", "nats"),
    "last_step": _Field("Steps", "number", "r.last_step::DOUBLE"),
}
_FACTS: dict[str, _Field] = {
    "peak_memory_gib": _Field("Peak memory", "number", "", "GiB", "lower"),
    "run_seconds": _Field("Run time without interruptions", "number", "", "seconds", "lower"),
    "energy_wh": _Field("Energy", "number", "", "Wh", "lower"),
    "trainable_parameters": _Field("Trainable parameters", "number", "", "parameters"),
    "total_parameters": _Field("Parameters", "number", "", "parameters"),
    "tokens_per_epoch": _Field("Tokens per epoch", "number", "", "tokens"),
    "device_name": _Field("Device", "text", ""),
}


class _Figure(NamedTuple):
    """A figure of the verdict. path: of the estimate, or of the list that has it for `probe`."""

    title: str
    path: str
    unit: str
    better: Better
    probe: str = ""
    part: str = ""
    is_change: bool = True


_STATES = {"verdict": ("Verdict", "$.state"), "forgetting": ("Forgetting", "$.forgetting.state")}
_FIGURES: dict[str, _Figure] = {
    "gain": _Figure("Gain over the base model", "$.gain", "nats", "higher"),
    "gain.question": _Figure("Gain from the question", "$.parts.question", "nats", "higher"),
    "gain.shape": _Figure("Gain after any prompt", "$.parts.shape", "nats", "higher"),
    "accuracy_gain": _Figure("Change of the share that is right", "$.accuracy_gain", "share", "higher"),
    "classes.accuracy": _Figure(
        "Accuracy", "$.classification.models.tuned.accuracy", "share", "higher", is_change=False
    ),
    "classes.f1_macro": _Figure(
        "Macro F1", "$.classification.models.tuned.f1_macro", "share", "higher", is_change=False
    ),
    "preference.accuracy": _Figure(
        "Pairs that gained", "$.preference.reward_accuracy", "share", "higher", is_change=False
    ),
    "preference.margin": _Figure("Mean margin of pairs", "$.preference.reward_margin", "rewards", "higher"),
    "text.prose": _Figure(
        "Loss on general prose, change", "$.forgetting.texts", "nats a token", "lower", "prose", "change"
    ),
    "choices.choices": _Figure(
        "Accuracy on general questions, change", "$.forgetting.choices", "share", "higher", "choices",
        "change",
    ),
    "kl.own_samples": _Figure(
        "KL divergence from the base model", "$.forgetting.divergence", "nats a token", "lower",
        "own_samples", "kl", is_change=False,
    ),
}  # fmt: skip
_AGGREGATIONS: dict[str, tuple[str, str]] = {
    "last": ("last", "last_value"),
    "min": ("minimum", "min"),
    "max": ("maximum", "max"),
    "mean": ("mean", "sum / nullif({0}.count - {0}.nonfinite, 0)"),
}
_TEXT = "({part} ->> '$')"
_OWN_FIELDS = ("name", "notes", "model", "method")  # settings that are fields of the run too


@named_query
def run_columns(db: Queryable) -> list[RunColumn]:
    """Return every column that the table can show of the present runs, by group."""
    logged = db.query("SELECT DISTINCT name FROM metric_summary ORDER BY name")["name"].to_pylist()
    return [
        *_iterate_fixed_columns(),
        *(
            RunColumn(name=f"metrics.{name}.{key}", title=f"{name} {title}", group="Metric", kind="number")
            for name in logged
            for key, (title, _) in _AGGREGATIONS.items()
        ),
        *_list_evaluation_columns(db),
    ]


def _iterate_fixed_columns() -> Iterable[RunColumn]:
    for name, (title, kind, _, unit, better) in FIELDS.items():
        yield RunColumn(name=name, title=title, group="Run", kind=kind, unit=unit, better=better)
    for key, (title, _) in _STATES.items():
        yield RunColumn(name=key, title=title, group="Figure of the verdict", kind="text")
    for key, figure in _FIGURES.items():
        yield RunColumn(
            name=f"figures.{key}",
            title=figure.title,
            group="Figure of the verdict",
            kind="estimate",
            unit=figure.unit,
            better=figure.better,
            is_change=figure.is_change,
        )
    for name in TrainConfig.model_fields:
        if name not in _OWN_FIELDS:
            kind = _find_setting_kind(name)
            yield RunColumn(name=f"config.{name}", title=name, group="Setting", kind=kind)
    for name, fact in _FACTS.items():
        yield RunColumn(
            name=f"facts.{name}", title=fact.title, group="Measured", kind=fact.kind, unit=fact.unit,
            better=fact.better,
        )  # fmt: skip


def _list_evaluation_columns(db: Queryable) -> list[RunColumn]:
    sql = """
        SELECT DISTINCT dataset_id, last(dataset_name) OVER (PARTITION BY dataset_id ORDER BY created_at
               ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS dataset_name,
               unnest(json_extract_string(figures, '$[*].metric')) AS metric
        FROM evaluation WHERE run_id IS NOT NULL AND checkpoint = 'tuned' ORDER BY dataset_name, metric
    """
    columns = []
    for row in db.query(sql).to_pylist():
        about = METRICS.get(row["metric"])
        columns.append(
            RunColumn(
                name=f"evaluations.{row['dataset_id']}.{row['metric']}",
                title=f"{about.title if about else row['metric']} on {row['dataset_name']}",
                group="Evaluation",
                kind="estimate",
                unit=about.unit if about else "",
                better=about.better if about else "",
            )
        )
    return columns


def find_column_source(name: str, alias: str) -> ColumnSource:
    """Return how a column is read; `alias` names what it joins. Raises ConfigError for an unknown column."""
    origin, _, rest = name.partition(".")
    if name in FIELDS:
        return ColumnSource(FIELDS[name].kind, FIELDS[name].value)
    if name in _STATES:
        return ColumnSource("text", _TEXT, document="verdict", path=_STATES[name][1])
    if origin == "config" and rest in TrainConfig.model_fields:
        return _build_document_source("config", rest, _find_setting_kind(rest))
    if origin == "facts" and rest in _FACTS:
        return _build_document_source("facts", rest, _FACTS[rest].kind)
    if origin == "figures" and rest in _FIGURES:
        return _build_figure_source(_FIGURES[rest])
    metric, _, last = rest.rpartition(".")
    if origin == "metrics" and metric and last in _AGGREGATIONS:
        value = f"{alias}.{_AGGREGATIONS[last][1].format(alias)}"
        join = f"LEFT JOIN metric_summary {alias} ON {alias}.run_id = r.run_id AND {alias}.name = ?"
        return ColumnSource("number", value, join, (metric,))
    if origin == "evaluations" and metric and last:
        return ColumnSource(
            "estimate",
            f"{alias}.document",
            f"LEFT JOIN ({_NEWEST_EVALUATION}) {alias} ON {alias}.run_id = r.run_id",
            (last, metric),
        )
    raise ConfigError(
        f"The table of runs has no column {name[:100]!r}.",
        fix="Remove it from the view, and choose another one.",
        field="columns",
    )


def _build_document_source(document: str, key: str, kind: ColumnKind) -> ColumnSource:
    value = f"TRY_CAST({_TEXT} AS DOUBLE)" if kind == "number" else _TEXT
    return ColumnSource(kind, value, document=document, path=f"$.{key}")


def _build_figure_source(figure: _Figure) -> ColumnSource:
    value = "{part}"
    if figure.probe:
        probes, parts = (f"json_extract({value}, '$[*].{key}')" for key in ("probe", figure.part))
        value = f"({parts})[list_position({probes}, '\"{figure.probe}\"'::JSON)]"
    return ColumnSource("estimate", value, document="verdict", path=figure.path)


def _find_setting_kind(name: str) -> ColumnKind:
    """Return number for a setting whose every value is one, or null; else text."""
    hint = TrainConfig.model_fields[name].annotation
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return "number" if set(options) <= {int, float, type(None)} else "text"


_NEWEST_EVALUATION = """
    SELECT run_id, arg_max(document, (created_at, evaluation_id)) AS document FROM (
        SELECT run_id, created_at, evaluation_id, (json_extract(figures, '$[*]'))[
            list_position(json_extract_string(figures, '$[*].metric'), ?)] AS document
        FROM evaluation WHERE run_id IS NOT NULL AND checkpoint = 'tuned' AND dataset_id = ?
    ) WHERE document IS NOT NULL GROUP BY run_id
"""
