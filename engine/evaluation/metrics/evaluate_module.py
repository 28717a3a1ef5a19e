"""What the local `evaluate` modules of `evaluate_modules` share: they give the figures that an evaluation
gives.

A module answers its figures by name, each with `NAME_low` and `NAME_high` and the rows' `NAME_scores`; n is
the number of rows. Options are those of `store.core.metrics_config`. The files import this module
and not its classes, as `evaluate.load` takes the first class that it finds in a file.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

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


class LocalMetric(evaluate.Metric, abc.ABC):
    """The metrics of one family (`store.core.metric_table`)."""

    family: ClassVar[str]
    inputs: ClassVar[dict[str, Any]] = {"predictions": TEXT, "references": TEXT}

    @property
    def metrics(self) -> list[str]:
        """Those of the family."""
        return [name for name, metric in METRICS.items() if metric.family == self.family]

    def _info(self) -> evaluate.MetricInfo:
        described = "\n".join(
            f"{name}: {METRICS[name].means} ({METRICS[name].unit})." for name in self.metrics
        )
        return evaluate.MetricInfo(
            description=described,
            citation="",
            inputs_description="\n" + described,
            features=datasets.Features(self.inputs),
        )

    @abc.abstractmethod
    def answers(self, **columns: Any) -> Answers:
        """The columns as the metrics read them."""

    def _compute(self, **given: Any) -> dict[str, Any]:
        answers = self.answers(**{name: given.pop(name) for name in self.inputs})
        config = MetricsConfig.parse({"metrics": [{"metric": name, **given} for name in self.metrics]})
        results: dict[str, Any] = {"n": len(answers)}
        for scored in measure(config, answers, Home()):
            if scored.failed:
                raise ValueError(scored.failed)
            name, document = scored.name.removeprefix("eval/"), aggregate_scores(scored)
            results |= {
                name: document["value"],
                f"{name}_low": document["low"],
                f"{name}_high": document["high"],
            }
            results[f"{name}_scores"] = scored.scores.tolist()
        return results


class TextMetric(LocalMetric, abc.ABC):
    """A family that compares answers with references."""

    def answers(self, **columns: Any) -> Answers:
        predictions = columns["predictions"]
        return Answers(np.arange(len(predictions)), predictions=predictions, references=columns["references"])


class AnswerMetric(LocalMetric, abc.ABC):
    """A family that looks at answers alone."""

    inputs: ClassVar[dict[str, Any]] = {"predictions": TEXT}

    def answers(self, **columns: Any) -> Answers:
        return Answers(np.arange(len(columns["predictions"])), predictions=columns["predictions"])
