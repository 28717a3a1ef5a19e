"""Comparison of two evaluations of the same data.

Covers their scores, the rows they share, how to evaluate one on the other's rows, and which of the two
models' answers a language model prefers. A judging is a job without a table of its own: its result contains
everything.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.core.errors import ConfigError
from store.core.metric_table import METRICS
from store.core.schemas import ConfigDocument, Job
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.evaluation import evaluations, scored_rows
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import Evaluation

if TYPE_CHECKING:
    from store.db.database import Queryable


OF_CHOICES = ("choice_examples", "list_choices")
OF_LOSSES = ("max_length",)
OF_ANSWERS = ("max_new_tokens", "do_sample", "temperature", "top_p", "per_device_eval_batch_size")
SETTINGS = ("seed", "dtype", "chat_template", *OF_ANSWERS, *OF_CHOICES, *OF_LOSSES)
DTYPES = ("bfloat16", "float32")  # valid dtypes of a config
SHOWN = 40  # maximum characters of a setting in a sentence


@dataclass(frozen=True)
class EvaluationPair:
    """Two evaluations of the same data.

    `scores`: the scores of each, as from `evaluations.scores`. `groups`: row id -> group. `common`: number of
    shared rows.
    """

    first: Evaluation
    second: Evaluation
    scores: tuple[pa.Table, pa.Table]
    groups: dict[int, Any] | None
    common: int

    @property
    def same_rows(self) -> bool:
        return self.common == self.first.n == self.second.n


@named_query
def pair(db: Queryable, first: Evaluation, second: Evaluation) -> EvaluationPair:
    """Load a pair of evaluations from their job folders.

    Raises ConfigError if they are of different data; over a Client, QueryError if a file is missing.
    """
    if first.data_fingerprint != second.data_fingerprint:
        raise ConfigError(
            f"{second.name} is of other rows than {first.name}.",
            fix="Compare evaluations of the same data set.",
            field="against",
        )
    ids = [document.evaluation_id for document in (first, second)]
    files = [str(evaluations.get_predictions_path(db, evaluation_id)) for evaluation_id in ids]
    sql = "SELECT count(*) FROM read_parquet(?) a JOIN read_parquet(?) b ON a.row_id = b.row_id"
    return EvaluationPair(
        first,
        second,
        (evaluations.scores(db, ids[0]), evaluations.scores(db, ids[1])),
        evaluations.groups(db, ids[0]),
        int(read_scalar(db.query(sql, files))),
    )


def describe_setting_differences(pair: EvaluationPair) -> list[str]:
    """Describe differing settings that alone may explain different answers: "dtype: bfloat16 and float32"."""
    both = (pair.first, pair.second)
    configs = [EvaluateConfig.of_past(evaluation.config) for evaluation in both]
    names = [*(OF_ANSWERS if all(config.generates for config in configs) else ())]
    names += OF_CHOICES if all(config.chooses for config in configs) else ()
    sides: list[tuple[str, list[Any]]] = [("dtype", [side.details.dtype for side in both])]
    sides += [(name, [getattr(config, name) for config in configs]) for name in names]
    return [f"{name}: {first} and {second}" for name, (first, second) in sides if first != second]


def describe_metric_differences(first: Evaluation, second: Evaluation, metric: str) -> list[str]:
    """Describe the differing settings and metric options that a metric depends on."""
    both, needs = (first, second), METRICS[metric].needs
    configs = [EvaluateConfig.of_past(evaluation.config) for evaluation in both]
    names = ["chat_template", *(OF_ANSWERS if "prediction" in needs else ())]
    names += OF_CHOICES if "choices" in needs else ()
    names += OF_LOSSES if "losses" in needs else ()
    sides: list[tuple[str, list[Any]]] = [("dtype", [side.details.dtype for side in both])]
    sides += [(name, [getattr(config, name) for config in configs]) for name in names]
    options = [_find_choice(config, metric) for config in configs]
    for name in dict.fromkeys(name for choice in options for name in choice):
        sides.append((f"{name} of {metric}", [choice.get(name) for choice in options]))
    return [f"{name}: {_shorten(its)} and {_shorten(other)}" for name, (its, other) in sides if its != other]


def build_matching_config(evaluation: Evaluation, metric: str) -> ConfigDocument:
    """Build an `evaluate` config that measures another model by a metric under the same settings."""
    config = EvaluateConfig.of_past(evaluation.config)
    asked = {name: getattr(config, name) for name in SETTINGS}
    used = evaluation.details.dtype
    if used in DTYPES:  # `auto` may resolve differently for the other model
        asked["dtype"] = used
    return asked | {"metrics": [_find_choice(config, metric) or metric]}


def _find_choice(config: EvaluateConfig, metric: str) -> ConfigDocument:
    """Return a metric with its options, as configured."""
    key = f"eval/{metric}"
    return next((choice.model_dump(exclude_none=True) for choice in config.metrics if choice.key == key), {})


def _shorten(value: Any) -> str:
    text = " ".join(str(value).split()) or "none"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def build_same_rows_config(pair: EvaluationPair) -> ConfigDocument:
    """Build an `evaluate` config that evaluates one of the two on the other's rows.

    A named or base model is evaluated on the rows of the run, which were held out from it; otherwise the
    second is evaluated on the rows of the first.
    """
    trained = [bool(side.run_id) and side.checkpoint != "base" for side in (pair.first, pair.second)]
    mover, stays = (pair.first, pair.second) if trained == [False, True] else (pair.second, pair.first)
    config = dict(mover.config)
    for gone in ("name", "notes", "part", "where", "max_rows", "dataset"):
        config.pop(gone, None)
    return config | {"rows_of": stays.evaluation_id, "max_rows": None}


def format_command(asked: Mapping[str, Any]) -> str:
    """Format a config as a command line; metric options are left at their defaults."""
    words = ["tunebench", "evaluate"]
    if asked.get("run"):
        words += ["--run", asked["run"]]
        words += [] if asked["checkpoint"] == "tuned" else ["--checkpoint", asked["checkpoint"]]
    else:
        words += ["--model", asked["model"]]
    words += ["--rows-of", asked["rows_of"]]
    for name in dict.fromkeys(choice["metric"] for choice in asked["metrics"]):
        words += ["--metric", name]
    if asked["dtype"] != "auto":
        words += ["--dtype", asked["dtype"]]
    return shlex.join(words)


KIND = "judge"


@named_query
def of_pair(db: Queryable, first: str, second: str) -> list[Job]:
    """Return the jobs that judge these two evaluations, in either order, newest first."""
    sql = (
        "SELECT * FROM job WHERE kind = $1 AND list_sort([config ->> 'first', config ->> 'second'])"
        " = list_sort([$2, $3]) ORDER BY created_at DESC, job_id DESC"
    )
    return read_records(db.query(sql, [KIND, first, second]), Job, ("config", "error", "result"))


@named_query
def judgements(db: Queryable, job_id: str) -> pa.Table:
    """Return row_id and score of a judging; score is 1 if the first is better, 0.5 for a tie, 0 if the second
    is better, null if not judged.

    Over a Client, QueryError if the file is missing.
    """
    path = str(scored_rows.get_loss_path(db, job_id).parent / "judgements.parquet")
    return db.query("SELECT row_id, score FROM read_parquet(?) ORDER BY row_id", [path])
