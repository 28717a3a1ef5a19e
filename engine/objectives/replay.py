"""General rows trained beside those of the data set, against forgetting: which rows, in which step.

A step takes its rows of the data set as without replay, and beside them so many general ones that they are
`replay_share` of the whole effective batch. Where that is no whole number, steps take one row more or less,
so that after every step the rows replayed so far are the share to within half a row. Rows come in a shuffled
order of their own, pass after pass. All of it is a pure function of seed and step, so that a resumed run
replays what it would have replayed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.forward.batches import StepRows, batch_shape, steps_per_epoch, total_steps
from engine.rows.render import TokenRows
from store.config.training.train_config import TrainConfig

STREAM = 2  # beside the seed: another order than that of the data set's rows


@dataclass(frozen=True)
class Replay:
    """The general rows of one run. rows: each with a trained token; train_rows: of the data set;
    kl_beta: how much the distance to the base counts beside their loss."""

    rows: TokenRows
    config: TrainConfig
    train_rows: int

    @property
    def kl_beta(self) -> float:
        """How much the distance to the base model on these rows counts."""
        return self.config.kl_beta

    def step(self, number: int) -> np.ndarray:
        """Indices of the rows that step `number` (from 0) replays."""
        first, end = (replayed(self.config, self.train_rows, at) for at in (number, number + 1))
        return np.array([self._at(place) for place in range(first, end)], np.int64)

    def _at(self, place: int) -> int:
        number, place = divmod(place, len(self.rows))
        return int(
            np.random.default_rng([self.config.seed, STREAM, number]).permutation(len(self.rows))[place]
        )

    @property
    def beside(self) -> TrainConfig:
        """The config with batches as large as those of the general rows of a step."""
        size, accumulation = batch_shape(self.config)
        own, share = min(size * accumulation, self.train_rows), self.config.replay_share
        most = max(1, math.ceil(own * share / (1 - share)))
        size = min(size, most)
        few = {"per_device_train_batch_size": size, "gradient_accumulation_steps": -(-most // size)}
        return self.config.model_copy(update=few)

    @property
    def count(self) -> int:
        """Rows that the run replays, with repeats."""
        return needed(self.config, self.train_rows)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens and trained tokens that the run replays, with repeats."""
        passes = self.count / len(self.rows)
        return round(passes * len(self.rows.ids)), round(passes * int(self.rows.trained.sum()))


def replayed(config: TrainConfig, train_rows: int, step: int) -> int:
    """Rows replayed before step number `step` (from 0)."""
    batch_size, accumulation = batch_shape(config)
    epoch, done = divmod(step, steps_per_epoch(train_rows, batch_size, accumulation))
    seen = epoch * train_rows + min(done * batch_size * accumulation, train_rows)
    return math.floor(seen * config.replay_share / (1 - config.replay_share) + 0.5)


def needed(config: TrainConfig, train_rows: int) -> int:
    """Rows that the whole run replays, with repeats; `config` is resolved."""
    return replayed(config, train_rows, total_steps(config, train_rows))


def micro_batches(indices: np.ndarray, config: TrainConfig) -> StepRows:
    """The rows that a step replays, in micro-batches as large as those of the data set."""
    size = config.per_device_train_batch_size
    return [indices[first : first + size] for first in range(0, len(indices), size)]
