"""What a task of lm-evaluation-harness says of its items, one by one, in the shape that every probe has.

Multiple choice gives a choice among the item's options. Of any other task its first figure counts that says
of every item whether it was right: exact_match or acc where it has them. A task without one has no items.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logsumexp

from engine.diagnostics.forgetting.probe_scores import OPEN
from engine.probes.probes import LISTING, ProbeMeasurement

TEXT = 4_000  # characters of an item that are kept, its last: what is asked stands below the examples
RIGHT = ("exact_match", "acc")  # figures that are preferred, in this order
Sample = Mapping[str, Any]


@dataclass(frozen=True)
class TaskItems:
    """Of one task under one model. identity: tells the items, their scoring and the harness' version from all
    others, whatever the model."""

    measured: ProbeMeasurement
    listing: pa.Table
    identity: str

    @property
    def is_choice(self) -> bool:
        return bool((self.measured.options < OPEN).all())


def of_samples(name: str, samples: Sequence[Sample], config: Any = None) -> TaskItems | None:
    """The items of the task, which is called `name` among probes; None where nothing says what is right.
    config: the task's own, as it was dumped."""
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    item_rows = _choices(name, first) if first and all(map(_has_options, first)) else _written(name, first)
    return item_rows and TaskItems(*item_rows, _identity(first, config))


def _identity(samples: Sequence[Sample], config: Any) -> str:
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


def _choices(name: str, samples: Sequence[Sample]) -> tuple[ProbeMeasurement, pa.Table]:
    """Items with options: −log p of the right one among them."""
    scores = [np.array([float(response[0]) for response in sample["filtered_resps"]]) for sample in samples]
    right = [int(sample["target"]) for sample in samples]
    chosen = np.array([each.argmax() for each in scores], np.int32)
    measured = ProbeMeasurement(
        name,
        _ids(samples),
        [""] * len(samples),
        np.array([logsumexp(each) - each[place] for each, place in zip(scores, right, strict=True)]),
        np.ones(len(samples), np.int64),
        (chosen == np.array(right)).astype(np.int64),
        np.array([len(each) for each in scores], np.int32),
        chosen,
    )
    options = [[str(pair[1]).strip()[:TEXT] for pair in sample["arguments"]] for sample in samples]
    return measured, _listing(name, samples, options, right)


def _written(name: str, samples: Sequence[Sample]) -> tuple[ProbeMeasurement, pa.Table] | None:
    """Items whose answer is written freely, or told token by token: right or wrong, and no loss."""
    metric = next((each for each in _metrics(samples) if _right_or_wrong(samples, each)), None)
    if metric is None:
        return None
    count = len(samples)
    scores = np.array([float(sample[metric]) for sample in samples])
    measured = ProbeMeasurement(
        name,
        _ids(samples),
        [""] * count,
        np.where(np.isfinite(scores), 0.0, np.nan),  # an item without a score is counted as such
        np.ones(count, np.int64),
        np.nan_to_num(scores).astype(np.int64),
        np.full(count, OPEN, np.int32),
        np.full(count, -1, np.int32),
    )
    return measured, _listing(name, samples, [[] for _ in samples], [-1] * count)


def _metrics(samples: Sequence[Sample]) -> list[str]:
    every = list(dict.fromkeys(metric for sample in samples for metric in sample["metrics"]))
    return sorted(every, key=lambda metric: RIGHT.index(metric) if metric in RIGHT else len(RIGHT))


def _right_or_wrong(samples: Sequence[Sample], metric: str) -> bool:
    """Whether it is 0 or 1 for every item that has a score, and one has."""
    values = [sample.get(metric) for sample in samples]
    if not all(isinstance(value, (bool, int, float, np.number)) for value in values):
        return False
    finite = [float(value) for value in values if math.isfinite(value)]  # type: ignore[arg-type]
    return bool(finite) and all(value in (0.0, 1.0) for value in finite)


def _ids(samples: Sequence[Sample]) -> list[str]:
    return [str(sample["doc_id"]) for sample in samples]


def _listing(
    name: str, samples: Sequence[Sample], options: list[list[str]], right: Sequence[int]
) -> pa.Table:
    count = len(samples)
    texts = [str(sample["arguments"][0][0])[-TEXT:] for sample in samples]
    columns = [[name] * count, _ids(samples), [""] * count, texts, options, np.array(right, np.int32)]
    return pa.table(columns, schema=LISTING)
