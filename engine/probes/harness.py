"""Tasks of lm-evaluation-harness on a loaded model, where it is installed; it is no dependency.

A task is code and data that others wrote: whatever it does ends nothing but itself, and why is told in one
sentence. That makes this a border where any error is caught. What it says of each item becomes scores as
those of a metric, so that two models are compared item by item; of multiple choice also rows as every probe
has. Local tasks lie in the home folder's `tasks` and need no network.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.phrasing import plural
from engine.diagnostics.statistics.scored import Scored
from engine.probes import task_items
from engine.probes.probes import ProbeMeasurement
from engine.probes.task_items import Sample, TaskItems
from engine.worker.job import Cancelled
from store.contract.home import Home

PREFIX = probe_scores.TASK
LONGEST = 300  # characters of an error


@dataclass
class TaskOutcome:
    """What all tasks said: scores by task and metric, their items where those are right or wrong, and
    notices."""

    scored: list[Scored] = field(default_factory=list)
    items: list[TaskItems] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)  # tasks that have no such items
    notices: list[str] = field(default_factory=list)

    @property
    def choices(self) -> tuple[list[ProbeMeasurement], list[pa.Table]]:
        """The items of multiple choice, as measured and as asked."""
        choices = [task for task in self.items if task.is_choice]
        return [task.measured for task in choices], [task.listing for task in choices]


@dataclass(frozen=True)
class AskedModel:
    """A loaded model, and how it is asked tasks: of each at most `limit` items, its first ones."""

    model: Any
    tokenizer: Any
    device: str
    batch_size: int
    limit: int | None = None
    num_fewshot: int | None = None


def run(
    asked: AskedModel,
    tasks: Sequence[str],
    home: Home,
    *,
    check: Callable[[], None] = lambda: None,
    on_task: Callable[[int, str], None] = lambda done, name: None,
) -> TaskOutcome:
    """Each of `tasks`. `check` is called before each pass
    through the model and may raise Cancelled; `on_task(tasks done, name of the next)` as it goes."""
    outcome = TaskOutcome()
    asks = None
    for done, name in enumerate(tasks):
        on_task(done, name)
        check()
        try:
            asks = asks or _asker(asked, home, tasks, check)
            results = asks(name)
            for task, samples in results["samples"].items():
                _add(outcome, task, samples, results)
            if asked.limit is not None:
                outcome.notices.append(f"Of the task {name} at most the first {plural(asked.limit, 'item')}.")
        except Cancelled:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the border: a task must not end the others)
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr)
            nothing = np.zeros(0)
            failed = Scored(
                f"{PREFIX}{name}", nothing.astype(np.int64), nothing, failed=_failure(name, error)
            )
            outcome.scored.append(failed)
    return outcome


def _failure(name: str, error: BaseException) -> str:
    """One sentence for whatever a task raised."""
    text = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, IndexError):
        return f"The task {name} has an item whose answer key is none of its options ({text})."
    if isinstance(error, (KeyError, ValueError)) and name in text and "not found" in text.lower():
        return f"There is no task {name}; put its YAML into the folder “tasks” of the home folder."
    return f"The task {name} can't be run: {type(error).__name__}: {text.rstrip('.')}."


def _asker(
    asked: AskedModel, home: Home, tasks: Sequence[str], check: Callable[[], None]
) -> Callable[[str], Any]:
    """Asks one task. Raises ImportError where the harness isn't there."""
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

    catalogue = _tasks(str(home.tasks), own=True)
    if not set(tasks) <= set(catalogue.all_tasks):
        catalogue = _tasks(str(home.tasks), own=False)
    with _as_it_is(asked.model):
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
def _tasks(folder: str, own: bool) -> Any:
    """The tasks there are: those of the home folder, and unless `own` alone those of the harness, of which
    there are thousands."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder, include_defaults=not own)


@contextmanager
def _as_it_is(model: Any) -> Iterator[None]:
    """The harness ties the weights of a model that it is given; one that was trained stays as it is."""
    vars(model)["tie_weights"] = lambda *_, **__: None
    try:
        yield
    finally:
        del vars(model)["tie_weights"]


def _add(outcome: TaskOutcome, task: str, samples: Sequence[Sample], results: Mapping[str, Any]) -> None:
    """The scores of one task by metric and filter, and its items where they have options."""
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
            outcome.scored.append(_scored(name, some, values, better=higher.get(metric) is not False))
        if left_out:
            names = ", ".join(left_out)
            outcome.notices.append(f"The task {task} has figures that no item has a share in: {names}.")
    config = (results.get("configs") or {}).get(task)
    items = task_items.of_samples(f"{PREFIX}{task}", samples, config) if samples else None
    if items:
        outcome.items.append(items)
    else:
        outcome.silent.append(task)


def _scored(name: str, samples: Sequence[Sample], values: Sequence[Any], *, better: bool) -> Scored:
    scores, reasons = np.full(len(values), np.nan), {}
    for place, value in enumerate(values):
        is_score = isinstance(value, (bool, int, float, np.number)) and math.isfinite(value)
        if is_score:
            scores[place] = float(value)
        else:
            reasons[place] = f"the task gave {value!r:.60}"
    ids = np.array([int(sample["doc_id"]) for sample in samples], np.int64)
    share = bool(np.isin(scores[np.isfinite(scores)], (0.0, 1.0)).all())
    return Scored(
        name, ids, scores, bounds=(0.0, 1.0) if share else (None, None), reasons=reasons,
        unit="share of items" if share else "its own", better="higher" if better else "lower",
        failed="" if len(reasons) < len(values) else f"No item could be scored; the first: {reasons[0]}.",
    )  # fmt: skip
