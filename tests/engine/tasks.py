"""Tasks of lm-evaluation-harness for tests: a stand-in with results in its shape, where the harness isn't
there, and the text of a real one."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from engine.evaluation.probes import harness

THERE = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")
CAPITALS = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{options}}"
doc_to_target: "{{right}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def item(place: int, loglikelihoods: list[float], right: int, **more: Any) -> dict[str, Any]:
    options = [f" option {i}" for i in range(len(loglikelihoods))]
    return {
        "doc_id": place, "target": right, "filter": "none", "metrics": ["acc"],
        "arguments": [("Question?", option) for option in options],
        "filtered_resps": [(value, False) for value in loglikelihoods],
        "acc": float(int(np.argmax(loglikelihoods)) == right),
    } | more  # fmt: skip


def stand_in(monkeypatch: pytest.MonkeyPatch, tasks: dict[str, Any]) -> None:
    """`tasks`: name -> its samples, the error that it raises, or what gives the model's samples."""

    def asker(asked: harness.HarnessModel, *_: Any) -> Any:
        model, limit = asked.model, asked.limit

        def ask(name: str) -> Any:
            samples = tasks[name]
            if isinstance(samples, BaseException):
                raise samples
            samples = samples(model) if callable(samples) else samples
            if isinstance(samples, dict):  # a group
                return {"samples": {task: rows[:limit] for task, rows in samples.items()}}
            return {"samples": {name: samples[:limit]}, "higher_is_better": {name: {"acc": True}}}

        return ask

    monkeypatch.setattr(harness, "_build_evaluator", asker)
