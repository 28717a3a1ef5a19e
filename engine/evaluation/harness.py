"""Tasks of lm-evaluation-harness on a loaded model, where it is installed; it is no dependency.

A task is code and data that others wrote: whatever it does ends nothing but itself, and why is told in one
sentence. That makes this a border where any error is caught. What it says of each item becomes scores as
those of a metric, so that two models are compared item by item; of multiple choice also rows as every probe
has. Local tasks lie in the home folder's `tasks` and need no network.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logsumexp

from engine.diagnostics.phrasing import plural
from engine.diagnostics.scored import Scored
from engine.evaluation.probes import LISTING, Measured
from engine.job import Cancelled
from store.home import Home

PREFIX = "task/"
LONGEST = 300  # characters of an error
TEXT = 4_000  # characters of an item that are kept
Sample = Mapping[str, Any]


def installed() -> bool:
    """Whether the harness can be imported."""
    return importlib.util.find_spec("lm_eval") is not None


@dataclass
class Found:
    """What all tasks said: scores by task and metric, the items of multiple choice, and notices."""

    scored: list[Scored] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    items: list[pa.Table] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def run(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    home: Home,
    *,
    device: str,
    batch_size: int,
    limit: int | None = None,
    num_fewshot: int | None = None,
    check: Callable[[], None] = lambda: None,
    on_task: Callable[[int, str], None] = lambda done, name: None,
) -> Found:
    """Each of `tasks`, of each at most `limit` items, its first ones. `check` is called before each pass
    through the model and may raise Cancelled; `on_task(tasks done, name of the next)` as it goes."""
    found = Found()
    asks = _asker(model, tokenizer, home, tasks, device, batch_size, check)
    for done, name in enumerate(tasks):
        on_task(done, name)
        check()
        try:
            results = asks(name, limit, num_fewshot)
            for task, samples in results["samples"].items():
                _add(found, task, samples, results)
            if limit is not None:
                found.notices.append(f"Of the task {name} at most the first {plural(limit, 'item')}.")
        except Cancelled:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (the border: a task must not end the others)
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr)
            nothing = np.zeros(0)
            failed = Scored(f"{PREFIX}{name}", nothing.astype(np.int64), nothing, failed=_said(name, error))
            found.scored.append(failed)
    return found


def _said(name: str, error: BaseException) -> str:
    """One sentence for whatever a task raised."""
    text = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, IndexError):
        return f"The task {name} has an item whose answer key is none of its options ({text})."
    if isinstance(error, (KeyError, ValueError)) and name in text and "not found" in text.lower():
        return f"There is no task {name}; put its YAML into the folder “tasks” of the home folder."
    return f"The task {name} can't be run: {type(error).__name__}: {text}"


def _asker(
    model: Any,
    tokenizer: Any,
    home: Home,
    tasks: Sequence[str],
    device: str,
    batch_size: int,
    check: Callable[[], None],
) -> Callable[[str, int | None, int | None], Any]:
    """Asks one task. Raises ImportError where the harness isn't there."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    class Heard(HFLM):
        def _model_call(self, *args: Any, **kwargs: Any) -> Any:
            check()
            return super()._model_call(*args, **kwargs)

        def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
            check()
            return super()._model_generate(*args, **kwargs)

    own = TaskManager(include_path=str(home.tasks), include_defaults=False)
    known = set(own.all_tasks)
    manager = own if set(tasks) <= known else TaskManager(include_path=str(home.tasks))
    asked = Heard(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device, backend="causal"
    )

    def ask(name: str, limit: int | None, num_fewshot: int | None) -> Any:
        if name not in set(manager.all_tasks):
            raise KeyError(f"{name} not found")
        return simple_evaluate(
            model=asked, tasks=[name], task_manager=manager, limit=limit, num_fewshot=num_fewshot,
            bootstrap_iters=0, log_samples=True,
        )  # fmt: skip

    return ask


def _add(found: Found, task: str, samples: Sequence[Sample], results: Mapping[str, Any]) -> None:
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
            found.scored.append(_scored(name, some, values, better=higher.get(metric) is not False))
        if left_out:
            names = ", ".join(left_out)
            found.notices.append(f"The task {task} has figures that no item has a share in: {names}.")
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    if first and all(map(_has_options, first)):
        measured, items = _choices(f"{PREFIX}{task}", first)
        found.measured.append(measured)
        found.items.append(items)


def _scored(name: str, samples: Sequence[Sample], values: Sequence[Any], *, better: bool) -> Scored:
    scores, reasons = np.full(len(values), np.nan), {}
    for place, value in enumerate(values):
        known = isinstance(value, (bool, int, float, np.number)) and math.isfinite(value)
        if known:
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


def _has_options(sample: Sample) -> bool:
    said, right = sample["filtered_resps"], sample["target"]
    pairs = all(isinstance(one, (list, tuple)) and len(one) == 2 for one in said)
    return pairs and len(said) >= 2 and isinstance(right, int) and 0 <= right < len(said)


def _choices(name: str, samples: Sequence[Sample]) -> tuple[Measured, pa.Table]:
    """Items with options in the shape of every probe: −log p of the right one among them."""
    scores = [np.array([float(one[0]) for one in sample["filtered_resps"]]) for sample in samples]
    right = [int(sample["target"]) for sample in samples]
    chosen = np.array([each.argmax() for each in scores], np.int32)
    ids = [str(sample["doc_id"]) for sample in samples]
    count = len(samples)
    measured = Measured(
        name,
        ids,
        [""] * count,
        np.array([logsumexp(each) - each[place] for each, place in zip(scores, right, strict=True)]),
        np.ones(count, np.int64),
        (chosen == np.array(right)).astype(np.int64),
        np.array([len(each) for each in scores], np.int32),
        chosen,
    )
    texts = [str(sample["arguments"][0][0])[:TEXT] for sample in samples]
    options = [[str(pair[1]).strip()[:TEXT] for pair in sample["arguments"]] for sample in samples]
    columns = [[name] * count, ids, [""] * count, texts, options, np.array(right, np.int32)]
    return measured, pa.table(columns, schema=LISTING)
