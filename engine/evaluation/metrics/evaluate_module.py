"""The project's metrics as an `evaluate` module for notebooks, with the same figures as an evaluation.

`evaluate.load(PATH_OF_THIS_FILE, FAMILY)` loads the metrics of one family (`store.core.metric_table`). Its
`compute` takes predictions, with references if the family compares them; `losses` takes loss_sum (nats per
row), tokens and bytes; `calibration` takes each row's log-probabilities as predictions and the index of its
class as reference. It returns its figures by name, each with `NAME_low` and `NAME_high` and the rows'
`NAME_scores`; n is the number of rows. Options are those of `store.core.metrics_config`.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from store.core.home import Home
from store.core.metric_table import METRICS
from store.core.metrics_config import MetricsConfig

TEXT, NUMBER = datasets.Value("string"), datasets.Value("float64")
COMPARED = {"reference", "label"}  # needs of a metric besides the answer
INPUTS: dict[str, dict[str, object]] = {
    "losses": dict.fromkeys(("loss_sum", "tokens", "bytes"), NUMBER),
    "calibration": {"predictions": datasets.Sequence(NUMBER), "references": datasets.Value("int64")},
}


def _build_answers(family: str, columns: dict[str, Any]) -> Answers:
    rows = np.arange(len(next(iter(columns.values()))))
    if family == "losses":
        loss, tokens, size = (np.array(columns[name], float) for name in INPUTS["losses"])
        return Answers(rows, loss_sum=loss, tokens=tokens, bytes=size)
    if family == "calibration":
        logs = np.array(columns["predictions"], float)
        classes = [str(place) for place in range(logs.shape[1])]
        labels = [str(place) for place in columns["references"]]
        return Answers(rows, labels=labels, log_probabilities=logs, classes=classes)
    return Answers(rows, predictions=columns["predictions"], references=columns.get("references"))


class MetricFamily(evaluate.Metric):
    """Metrics of the loaded family. Raises ValueError if there is no family of that name."""

    @property
    def names(self) -> list[str]:
        """Names of its metrics."""
        return [name for name, metric in METRICS.items() if metric.family == self.config_name]

    def _info(self) -> evaluate.MetricInfo:
        if not self.names:
            families = sorted({metric.family for metric in METRICS.values()})
            raise ValueError(
                f"There is no configuration {self.config_name}; available: {', '.join(families)}."
            )
        described = "\n".join(f"{name}: {METRICS[name].means} ({METRICS[name].unit})." for name in self.names)
        inputs = INPUTS.get(self.config_name)
        if inputs is None:
            needed = {need for m in METRICS.values() if m.family == self.config_name for need in m.needs}
            inputs = {"predictions": TEXT} | ({"references": TEXT} if needed & COMPARED else {})
        return evaluate.MetricInfo(
            description=described,
            citation="",
            inputs_description="\n" + described,
            features=datasets.Features(inputs),
        )

    def _compute(self, **given: Any) -> dict[str, object]:
        answers = _build_answers(self.config_name, {name: given.pop(name) for name in self.features})
        config = MetricsConfig.parse({"metrics": [{"metric": name, **given} for name in self.names]})
        results: dict[str, object] = {"n": len(answers)}
        for scored in measure(config, answers, Home()):
            if scored.failed:
                raise ValueError(scored.failed)
            name, document = scored.name.removeprefix("eval/"), aggregate_scores(scored)
            results |= {
                name: document.value,
                f"{name}_low": document.low,
                f"{name}_high": document.high,
            }
            results[f"{name}_scores"] = scored.scores.tolist()
        return results
