"""Perplexity and bits per byte, from losses, as a local module of `evaluate`."""

from typing import Any

import numpy as np

from engine.evaluation.metrics import evaluate_module
from engine.evaluation.metrics.answer_rows import Answers


class LossesModule(evaluate_module.LocalMetric):
    """compute(loss_sum=nats of each row, tokens=, bytes=)"""

    family = "losses"
    inputs = dict.fromkeys(("loss_sum", "tokens", "bytes"), evaluate_module.NUMBER)

    def answers(self, **columns: Any) -> Answers:
        loss, tokens, size = (np.array(columns[name], float) for name in ("loss_sum", "tokens", "bytes"))
        return Answers(np.arange(len(loss)), loss_sum=loss, tokens=tokens, bytes=size)
