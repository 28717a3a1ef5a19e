"""Calibration error, Brier score and temperature as a local module of `evaluate`."""

from typing import Any

import datasets
import numpy as np

from engine.evaluation.metrics import evaluate_module
from engine.evaluation.metrics.answer_rows import Answers


class CalibrationErrorsModule(evaluate_module.LocalMetric):
    """compute(predictions=log-probabilities of each row, references=place of its class)"""

    family = "calibration"
    inputs = {  # noqa: RUF012 (evaluate reads it, nobody changes it)
        "predictions": datasets.Sequence(evaluate_module.NUMBER),
        "references": datasets.Value("int64"),
    }

    def answers(self, **columns: Any) -> Answers:
        logs = np.array(columns["predictions"], float)
        classes = [str(place) for place in range(logs.shape[1])]
        labels = [str(place) for place in columns["references"]]
        return Answers(np.arange(len(logs)), labels=labels, log_probabilities=logs, classes=classes)
