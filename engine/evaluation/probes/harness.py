"""Run tasks of lm-evaluation-harness on a loaded model. The harness is an optional installation.

A task is third-party code and data: any error is caught here and reported in one sentence, so that it affects
nothing else. The results of each item have the same form as those of every probe.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logsumexp

from engine.evaluation.probes.probe_sets import ITEM_SCHEMA, ProbeMeasurement
from engine.evaluation.statistics.metric_estimates import RowScores
from engine.evaluation.verdicts import paired_measurements
from engine.evaluation.verdicts.paired_measurements import OPEN_ENDED
from engine.worker.job import JobCancelled
from store.core.formatting import plural
from store.core.home import Home

# Results of a harness task item by item, in the form of every probe.
#
# Multiple choice gives a choice among the item's options. For any other task the first figure counts that is
# right or wrong for every item: preferably exact_match or acc. A task without one has no items.

TEXT_LENGTH = 4_000  # last characters kept of an item: the question follows the examples
ACCURACY_METRICS = ("exact_match", "acc")  # preferred figures, in this order
Sample = Mapping[str, Any]


@dataclass(frozen=True)
class TaskItems:
    """Items of one task under one model. identity: hash of the items, their scoring and the harness' version,
    independent of the model.
    """

    measured: ProbeMeasurement
    listing: pa.Table
    identity: str

    @property
    def is_choice(self) -> bool:
        return bool((self.measured.options < OPEN_ENDED).all())


def build_task_items(name: str, samples: Sequence[Sample], config: Any = None) -> TaskItems | None:
    """Build the items of the task, called `name` among probes; None if nothing tells whether an item is
    right. config: the task's own, as dumped by the harness.
    """
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    item_rows = (
        _measure_choices(name, first)
        if first and all(map(_has_options, first))
        else _measure_generated(name, first)
    )
    return item_rows and TaskItems(*item_rows, _hash_task(first, config))


def _hash_task(samples: Sequence[Sample], config: Any) -> str:
    asked = [[sample["doc_id"], sample["arguments"], str(sample["target"])] for sample in samples]
    try:
        version = metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        version = ""
    text = json.dumps([version, config, asked], default=str)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _has_options(sample: Sample) -> bool:
    responses, right = sample["filtered_resps"], sample["target"]
    pairs = all(isinstance(response, (list, tuple)) and len(response) == 2 for response in responses)
    return pairs and len(responses) >= 2 and isinstance(right, int) and 0 <= right < len(responses)


def _measure_choices(name: str, samples: Sequence[Sample]) -> tuple[ProbeMeasurement, pa.Table]:
    """Measure items with options: −log p of the right one among them."""
    scores = [np.array([float(response[0]) for response in sample["filtered_resps"]]) for sample in samples]
    right = [int(sample["target"]) for sample in samples]
    chosen = np.array([each.argmax() for each in scores], np.int32)
    measured = ProbeMeasurement(
        name,
        _list_ids(samples),
        [""] * len(samples),
        np.array([logsumexp(each) - each[place] for each, place in zip(scores, right, strict=True)]),
        np.ones(len(samples), np.int64),
        (chosen == np.array(right)).astype(np.int64),
        np.array([len(each) for each in scores], np.int32),
        chosen,
    )
    options = [[str(pair[1]).strip()[:TEXT_LENGTH] for pair in sample["arguments"]] for sample in samples]
    return measured, _build_listing(name, samples, options, right)


def _measure_generated(name: str, samples: Sequence[Sample]) -> tuple[ProbeMeasurement, pa.Table] | None:
    """Measure items with free-form or token-by-token answers: right or wrong, without a loss."""
    metric = next((each for each in _list_metrics(samples) if _is_binary(samples, each)), None)
    if metric is None:
        return None
    count = len(samples)
    scores = np.array([float(sample[metric]) for sample in samples])
    measured = ProbeMeasurement(
        name,
        _list_ids(samples),
        [""] * count,
        np.where(np.isfinite(scores), 0.0, np.nan),  # an item without a score is counted as such
        np.ones(count, np.int64),
        np.nan_to_num(scores).astype(np.int64),
        np.full(count, OPEN_ENDED, np.int32),
        np.full(count, -1, np.int32),
    )
    return measured, _build_listing(name, samples, [[] for _ in samples], [-1] * count)


def _list_metrics(samples: Sequence[Sample]) -> list[str]:
    every = list(dict.fromkeys(metric for sample in samples for metric in sample["metrics"]))
    return sorted(
        every,
        key=lambda metric: (
            ACCURACY_METRICS.index(metric) if metric in ACCURACY_METRICS else len(ACCURACY_METRICS)
        ),
    )


def _is_binary(samples: Sequence[Sample], metric: str) -> bool:
    """Return whether the metric is 0 or 1 for every item with a score, and at least one has a score."""
    values = [sample.get(metric) for sample in samples]
    if not all(isinstance(value, (bool, int, float, np.number)) for value in values):
        return False
    finite = [float(value) for value in values if math.isfinite(value)]  # type: ignore[arg-type]
    return bool(finite) and all(value in (0.0, 1.0) for value in finite)


def _list_ids(samples: Sequence[Sample]) -> list[str]:
    return [str(sample["doc_id"]) for sample in samples]


def _build_listing(
    name: str, samples: Sequence[Sample], options: list[list[str]], right: Sequence[int]
) -> pa.Table:
    count = len(samples)
    texts = [str(sample["arguments"][0][0])[-TEXT_LENGTH:] for sample in samples]
    columns = [[name] * count, _list_ids(samples), [""] * count, texts, options, np.array(right, np.int32)]
    return pa.table(columns, schema=ITEM_SCHEMA)


# The results of each item become scores like those of a metric, so that two models are compared item by item;
# those of multiple choice also become rows like those of every probe. Local tasks are in the home folder's
# `tasks` and need no network.

PREFIX = paired_measurements.TASK
MAX_ERROR_LENGTH = 300  # characters


@dataclass
class TaskOutcome:
    """Results of all tasks: scores by task and metric, the items of those that are right or wrong, and
    notices.
    """

    scored: list[RowScores] = field(default_factory=list)
    items: list[TaskItems] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)  # tasks without such items
    notices: list[str] = field(default_factory=list)

    @property
    def choices(self) -> tuple[list[ProbeMeasurement], list[pa.Table]]:
        """Multiple-choice items: measurements and listings."""
        choices = [task for task in self.items if task.is_choice]
        return [task.measured for task in choices], [task.listing for task in choices]


@dataclass(frozen=True)
class HarnessModel:
    """A loaded model and how tasks are run on it: at most the first `limit` items of each."""

    model: Any
    tokenizer: Any
    device: str
    batch_size: int
    limit: int | None = None
    num_fewshot: int | None = None


def run_tasks(
    asked: HarnessModel,
    tasks: Sequence[str],
    home: Home,
    *,
    check: Callable[[], None] = lambda: None,
    on_task: Callable[[int, str], None] = lambda done, name: None,
) -> TaskOutcome:
    """Run each of `tasks`. `check` is called before each forward pass and may raise JobCancelled;
    `on_task(tasks done, name of the next)` is called before each task.
    """
    outcome = TaskOutcome()
    asks = None
    for done, name in enumerate(tasks):
        on_task(done, name)
        check()
        try:
            asks = asks or _build_evaluator(asked, home, tasks, check)
            results = asks(name)
            for task, samples in results["samples"].items():
                _add_scores(outcome, task, samples, results)
            if asked.limit is not None:
                outcome.notices.append(f"Task {name}: at most the first {plural(asked.limit, 'item')}.")
        except JobCancelled:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the border: a task must not end the others)
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr)
            nothing = np.zeros(0)
            failed = RowScores(
                f"{PREFIX}{name}", nothing.astype(np.int64), nothing, failed=_describe_failure(name, error)
            )
            outcome.scored.append(failed)
    return outcome


def _describe_failure(name: str, error: BaseException) -> str:
    """Describe in one sentence whatever a task raised."""
    text = " ".join(str(error).split())[:MAX_ERROR_LENGTH]
    if isinstance(error, IndexError):
        return f"The task {name} has an item whose answer key is not one of its options ({text})."
    if isinstance(error, (KeyError, ValueError)) and name in text and "not found" in text.lower():
        return f"Task {name} not found; add its YAML file to the folder “tasks” of the home folder."
    return f"The task {name} can't be run: {type(error).__name__}: {text.rstrip('.')}."


def _build_evaluator(
    asked: HarnessModel, home: Home, tasks: Sequence[str], check: Callable[[], None]
) -> Callable[[str], Any]:
    """Return a function that runs one task. Raises ImportError if the harness isn't installed."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    class Heard(HFLM):
        def _model_call(self, *args: Any, **kwargs: Any) -> Any:
            check()
            return super()._model_call(*args, **kwargs)

        def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
            check()
            return super()._model_generate(*args, **kwargs)

    catalogue = _load_tasks(str(home.tasks), own=True)
    if not set(tasks) <= set(catalogue.all_tasks):
        catalogue = _load_tasks(str(home.tasks), own=False)
    with _keep_weights_untied(asked.model):
        heard = Heard(
            pretrained=asked.model,
            tokenizer=asked.tokenizer,
            batch_size=asked.batch_size,
            device=asked.device,
            backend="causal",
        )

    def ask(name: str) -> Any:
        if name not in set(catalogue.all_tasks):
            raise KeyError(f"{name} not found")
        return simple_evaluate(
            model=heard, tasks=[name], task_manager=catalogue, limit=asked.limit,
            num_fewshot=asked.num_fewshot, bootstrap_iters=0, log_samples=True,
        )  # fmt: skip

    return ask


@lru_cache(maxsize=2)
def _load_tasks(folder: str, own: bool) -> Any:
    """Load the available tasks: those of the home folder and, unless `own`, those of the harness, of which
    there are thousands.
    """
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=not own)


@contextmanager
def _keep_weights_untied(model: Any) -> Iterator[None]:
    """Context manager that keeps the harness from tying the weights of a trained model."""
    vars(model)["tie_weights"] = lambda *_, **__: None
    try:
        yield
    finally:
        del vars(model)["tie_weights"]


def _add_scores(
    outcome: TaskOutcome, task: str, samples: Sequence[Sample], results: Mapping[str, Any]
) -> None:
    """Add the scores of one task by metric and filter, and its items if they are right or wrong."""
    higher = (results.get("higher_is_better") or {}).get(task) or {}
    for filtered in dict.fromkeys(str(sample["filter"]) for sample in samples):
        some = [sample for sample in samples if str(sample["filter"]) == filtered]
        left_out = []
        for metric in dict.fromkeys(name for sample in some for name in sample["metrics"]):
            values = [sample.get(metric) for sample in some]
            if not any(isinstance(value, (bool, int, float, np.number)) for value in values):
                left_out.append(metric)
                continue
            name = f"{PREFIX}{task}/{metric}" + ("" if filtered == "none" else f",{filtered}")
            outcome.scored.append(_build_scored(name, some, values, better=higher.get(metric) is not False))
        if left_out:
            names = ", ".join(left_out)
            outcome.notices.append(f"The task {task} has metrics without scores per item: {names}.")
    config = (results.get("configs") or {}).get(task)
    items = build_task_items(f"{PREFIX}{task}", samples, config) if samples else None
    if items:
        outcome.items.append(items)
    else:
        outcome.silent.append(task)


def _build_scored(name: str, samples: Sequence[Sample], values: Sequence[Any], *, better: bool) -> RowScores:
    scores, reasons = np.full(len(values), np.nan), {}
    for place, value in enumerate(values):
        is_score = isinstance(value, (bool, int, float, np.number)) and math.isfinite(value)
        if is_score:
            scores[place] = float(value)
        else:
            reasons[place] = f"the task returned {value!r:.60}"
    ids = np.array([int(sample["doc_id"]) for sample in samples], np.int64)
    share = bool(np.isin(scores[np.isfinite(scores)], (0.0, 1.0)).all())
    return RowScores(
        name, ids, scores, bounds=(0.0, 1.0) if share else (None, None), reasons=reasons,
        unit="share of items" if share else "its own", better="higher" if better else "lower",
        failed="" if len(reasons) < len(values) else f"No item could be scored; the first: {reasons[0]}.",
    )  # fmt: skip
