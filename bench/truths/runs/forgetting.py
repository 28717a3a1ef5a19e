"""A model that forgot nothing: how often some is found, with the user's own tasks beside the suite."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.evaluation.verdicts import forgetting, paired_measurements
from engine.evaluation.verdicts.paired_measurements import PairedProbe


def some_forgotten(rng: np.random.Generator, tasks: int, *, lost: float = 0.0) -> bool:
    """Whether forgetting is reported for the suite and this number of the user's tasks, the first of which
    lost the share `lost` of its items.
    """
    own = [
        forgetting.assess_choices(
            _asked(rng, f"{paired_measurements.TASK}{i}", 100, 1, lost if not i else 0.0)
        )
        for i in range(tasks)
    ]
    parts = [
        forgetting.assess_text(_prose(rng, 60)),
        forgetting.assess_choices(_asked(rng, paired_measurements.CHOICES, 640, 16)),
        *own,
    ]
    forgetting.correct_user_probes(parts)
    return forgetting.combine_parts(parts) in ("some", "much")


def _prose(rng: np.random.Generator, passages: int) -> PairedProbe:
    tokens = lengths(rng, passages)
    loss = tokens * (3 + heavy(rng, passages, spread=0.5))
    after = loss + tokens * heavy(rng, passages, spread=0.15)
    return _paired(paired_measurements.PROSE, tokens, np.zeros(passages, np.int64), 1, (loss, after), None)


def _asked(
    rng: np.random.Generator, name: str, items: int, categories: int, lost: float = 0.0
) -> PairedProbe:
    before = rng.random(items) < 0.6
    flips = rng.random(items) < np.where(before, 0.08 + lost / 0.6, 0.12)  # as many won as lost
    ones, four = np.ones(items), np.full(items, 4)
    return _paired(name, ones, four, categories, (ones, ones), (before, before ^ flips))


def _paired(name, tokens, options, categories, losses, right) -> PairedProbe:  # type: ignore[no-untyped-def]
    rows = len(tokens)
    right = right or (np.zeros(rows), np.zeros(rows))
    base, tuned = (
        {"loss_sum": loss, "tokens": tokens, "correct": hits.astype(float)}
        for loss, hits in zip(losses, right, strict=True)
    )
    category = np.array([f"{i % categories}" for i in range(rows)])
    return PairedProbe(name, [str(i) for i in range(rows)], category, options, base, tuned, 0, 0, 0)


RATES = [
    *(
        Rate(
            "forgetting", f"nothing lost, {tasks} tasks beside the suite: some forgetting", 0.05, 0.0, 0.07,
            partial(some_forgotten, tasks=tasks), 1_000,
        )
        for tasks in (0, 10)
    ),
    Rate(
        "forgetting", "20 points lost in one of 10 tasks beside the suite: some forgetting", 1.0, 0.7, 1.0,
        partial(some_forgotten, tasks=10, lost=0.2), 400,
    ),
]  # fmt: skip
