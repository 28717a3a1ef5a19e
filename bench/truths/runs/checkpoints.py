"""The best of several checkpoints, judged on the rows that chose it: false gains where none gained.

Each checkpoint's gain over the base model is 0 on average, with its own noise on every row beside noise
that the checkpoints share; the one with the lowest loss is kept, as in training.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.truths import Rate
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.training_curve.advice import find_checkpoint_choice
from engine.evaluation.training_curve.run_curve import RunCurves, Validation
from engine.evaluation.verdicts.verdict import determine_state
from store.evaluation.verdict_schemas import TrainingStop

ROWS = 60
LEVEL = 2.0  # nats per token of the base model
EPOCHS = TrainingStop(reason="epochs", step=100, restored_step=None)


def state(rng: np.random.Generator, checkpoints: int, split: str, gain: float = 0.0) -> str:
    """Return the verdict's state, on validation rows that selected the step or on test rows that did not."""
    tokens = rng.integers(10, 60, ROWS).astype(float)
    base = tokens * (LEVEL + rng.normal(0, 0.5, ROWS))
    shared = rng.normal(0, 0.2, ROWS)
    chosen_on = [base - tokens * (gain + shared + rng.normal(0, 0.4, ROWS)) for _ in range(checkpoints)]
    judged_on = base - tokens * (gain + rng.normal(0, 0.45, ROWS))
    course = [base, *chosen_on]
    validations = [
        Validation(step=10 * place, row_ids=np.arange(ROWS), loss_sums=losses, tokens=tokens)
        for place, losses in enumerate(course)
    ]
    tuned = min(chosen_on, key=lambda losses: losses.sum()) if split == "validation" else judged_on
    choice = find_checkpoint_choice(split, RunCurves(validations=validations, stopped=EPOCHS), {})
    return determine_state(ratio_interval(base - tuned, tokens, confidence=choice.confidence), LEVEL)


def _learned(checkpoints: int, split: str, gain: float, rng: np.random.Generator) -> bool:
    return state(rng, checkpoints, split, gain) == "learned"


def _rate(name: str, checkpoints: int, split: str, gain: float, band: tuple[float, float, float]) -> Rate:
    return Rate("checkpoints", name, *band, partial(_learned, checkpoints, split, gain), 4_000)


NONE = (0.025, 0.0, 0.035)
RATES = [
    *(_rate(f"best of {count} that gained nothing called learned, same rows", count, "validation", 0, NONE)
      for count in (1, 3, 10, 30)),
    _rate("best of 10 that gained nothing called learned, test rows", 10, "test", 0, (0.025, 0.015, 0.035)),
    _rate("best of 10 that gained 0.3 nats called learned, same rows", 10, "validation", 0.3, (1, 0.9, 1)),
]  # fmt: skip
