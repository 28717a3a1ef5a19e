"""Assignment of rows to optimiser steps, replay of general rows against forgetting, and collation to tensors.

The order is a pure function of the seed and the step or epoch, so that a resumed run continues with exactly
the batch at which it stopped. Rows are shuffled; within windows of a few effective batches they are grouped
by length, which removes most padding, and the groups are taken in random order. Rows are padded on the right:
under causal attention no token sees what follows it, so padding needs no attention mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from store.training.methods import METHODS

if TYPE_CHECKING:
    from engine.models.tokenization.rendering import TokenRows
    from store.training.train_config import TrainConfig

# Tokens per micro-batch on a CPU: enough for fast matrix products, few enough for its caches and memory. In
# full fine-tuning every micro-batch accumulates the gradients of all weights, so fewer, larger ones are
# better.
CPU_TOKENS = {"adapter": 1024, "full": 2048}
WINDOW = 8  # effective batches within which rows are grouped by length

StepRows = list[np.ndarray]  # row indices of each micro-batch of one optimiser step


@dataclass
class TokenBatch:
    """A batch of token rows.

    - inputs: int64 [rows, longest]
    - picked: bool, same shape: true where the next token is trained
    - targets: int64 [trained]: those next tokens, in row-major order
    - tokens: number of tokens in the rows, without padding
    - lengths: length of each row in `inputs`; the rest is padding
    """

    inputs: torch.Tensor
    picked: torch.Tensor
    targets: torch.Tensor
    tokens: int
    lengths: list[int]

    @property
    def units(self) -> int:
        """Number of units the loss sums over: trained tokens."""
        return len(self.targets)


def compute_batch_shape(config: TrainConfig) -> tuple[int, int]:
    """Return (rows per micro-batch, micro-batches per step)."""
    return config.per_device_train_batch_size, config.gradient_accumulation_steps


def count_total_steps(config: TrainConfig, rows: int) -> int:
    """Return the run's optimiser steps, ignoring early stopping; `config` must be resolved."""
    steps = math.ceil(
        count_steps_per_epoch(rows, *compute_batch_shape(config)) * (config.num_train_epochs or 1)
    )
    return max(1, min(steps, config.max_steps or steps))


def count_steps_per_epoch(rows: int, batch_size: int, accumulation: int) -> int:
    """Return the optimiser steps that visit every row once; the last step may be smaller."""
    return math.ceil(rows / (batch_size * accumulation))


def build_epoch_steps(
    lengths: np.ndarray, *, seed: int, epoch: int, batch_size: int, accumulation: int
) -> list[StepRows]:
    """Return the steps of one epoch; every row is in exactly one micro-batch."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    steps: list[StepRows] = []
    window = WINDOW * batch_size * accumulation
    for first in range(0, len(order), window):
        part = order[first : first + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        groups = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        # The one incomplete group of the epoch stays last, so that all steps before it are full.
        movable = len(groups) if len(groups[-1]) == batch_size else len(groups) - 1
        dealt = [groups[i] for i in random.permutation(movable)] + groups[movable:]
        steps += [dealt[i : i + accumulation] for i in range(0, len(dealt), accumulation)]
    return steps


def split_into_micro_batches(step: StepRows, lengths: np.ndarray, most: int) -> StepRows:
    """Regroup a step's rows into micro-batches of at most `most` tokens.

    A longer row gets its own micro-batch. The step's loss is a sum over rows, so this changes memory use
    and speed only.
    """
    rows = np.concatenate(step)
    micro_batches: StepRows = []
    first = total = 0
    for place, length in enumerate(lengths[rows].tolist()):
        if total and total + length > most:
            micro_batches.append(rows[first:place])
            first, total = place, 0
        total += length
    return [*micro_batches, rows[first:]]


def compute_micro_batch_tokens(config: TrainConfig) -> int:
    """Return the token limit of a micro-batch of packed rows; a single longer row may exceed it."""
    return CPU_TOKENS["adapter" if METHODS[config.method].adapter else "full"]


def find_largest_micro_batch(lengths: np.ndarray, config: TrainConfig, *, packed: bool) -> np.ndarray:
    """Return the row indices of the largest micro-batch that a step can contain, which memory must hold.

    - lengths: of all training rows (for pairs: of both sequences together)
    - packed: whether rows are packed
    """
    batch_size, accumulation = compute_batch_shape(config)
    longest_first = np.argsort(-lengths, kind="stable")
    if not packed:
        return longest_first[:batch_size]
    room = max(compute_micro_batch_tokens(config), int(lengths.max()))
    chosen: list[int] = []
    for index in longest_first.tolist():
        if lengths[index] <= room:
            chosen.append(index)
            room -= int(lengths[index])
        if len(chosen) == batch_size * accumulation or room < lengths[longest_first[-1]]:
            break
    return np.asarray(chosen)


def batch_by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return row indices in batches, longest rows first, so that a lack of memory shows at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def collate(rows: TokenRows, indices: np.ndarray, device: str | torch.device = "cpu") -> TokenBatch:
    """Collate rows into one batch.

    Tokens after a row's last trained one don't affect the loss and are dropped.
    """
    parts = [rows.row(int(i)) for i in indices]
    used = [
        int(np.flatnonzero(trained)[-1]) for _, trained in parts
    ]  # number of inputs per row: those before its last target
    inputs = np.zeros((len(parts), max(used)), np.int64)
    picked = np.zeros(inputs.shape, bool)
    targets = []
    for i, ((ids, trained), length) in enumerate(zip(parts, used, strict=True)):
        inputs[i, :length] = ids[:length]
        picked[i, :length] = trained[1 : length + 1]
        targets.append(ids[1 : length + 1][picked[i, :length]])
    return TokenBatch(
        torch.from_numpy(inputs).to(device),
        torch.from_numpy(picked).to(device),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)).to(device),
        sum(len(ids) for ids, _ in parts),
        used,
    )


# Replay: general rows trained beside those of the data set, against forgetting.
#
# A step takes the same rows of the data set as without replay, plus general rows so that these make up
# `replay_share` of the whole effective batch. If that isn't a whole number, steps take one row more or less,
# so that after every step the number of replayed rows is within half a row of the exact share. General rows
# come in their own shuffled order, pass after pass. All of it is a pure function of the seed and the step, so
# that a resumed run replays the same rows.

SEED_STREAM = 2  # combined with the seed, for an order independent of the data set's rows


@dataclass(frozen=True)
class Replay:
    """The replayed general rows of one run.

    - rows: general rows, each with a trained token
    - train_rows: number of training rows in the data set
    """

    rows: TokenRows
    config: TrainConfig
    train_rows: int

    @property
    def kl_beta(self) -> float:
        """Weight of the KL divergence from the base model on these rows, beside their loss."""
        return self.config.kl_beta

    def step(self, number: int) -> np.ndarray:
        """Return the indices of the rows that step `number` (from 0) replays."""
        first, end = (count_replayed_rows(self.config, self.train_rows, at) for at in (number, number + 1))
        return np.array([self._at(place) for place in range(first, end)], np.int64)

    def _at(self, place: int) -> int:
        number, place = divmod(place, len(self.rows))
        return int(
            np.random.default_rng([self.config.seed, SEED_STREAM, number]).permutation(len(self.rows))[place]
        )

    @property
    def beside(self) -> TrainConfig:
        """The config with a batch size that matches the largest number of general rows in a step."""
        size, accumulation = compute_batch_shape(self.config)
        own, share = min(size * accumulation, self.train_rows), self.config.replay_share
        most = max(1, math.ceil(own * share / (1 - share)))
        size = min(size, most)
        few = {"per_device_train_batch_size": size, "gradient_accumulation_steps": -(-most // size)}
        return self.config.model_copy(update=few)

    @property
    def count(self) -> int:
        """Number of rows that the run replays, counting repeats."""
        return count_replay_rows(self.config, self.train_rows)

    @property
    def tokens(self) -> tuple[int, int]:
        """Numbers of tokens and of trained tokens that the run replays, counting repeats."""
        passes = self.count / len(self.rows)
        return round(passes * len(self.rows.ids)), round(passes * int(self.rows.trained.sum()))


def count_replayed_rows(config: TrainConfig, train_rows: int, step: int) -> int:
    """Return the number of rows replayed before step number `step` (from 0)."""
    batch_size, accumulation = compute_batch_shape(config)
    epoch, done = divmod(step, count_steps_per_epoch(train_rows, batch_size, accumulation))
    seen = epoch * train_rows + min(done * batch_size * accumulation, train_rows)
    return math.floor(seen * config.replay_share / (1 - config.replay_share) + 0.5)


def count_replay_rows(config: TrainConfig, train_rows: int) -> int:
    """Return the number of rows that the whole run replays, counting repeats; `config` must be resolved."""
    return count_replayed_rows(config, train_rows, count_total_steps(config, train_rows))


def build_replay_micro_batches(indices: np.ndarray, config: TrainConfig) -> StepRows:
    """Split a step's replayed rows into micro-batches of the same size as those of the data set."""
    size = config.per_device_train_batch_size
    return [indices[first : first + size] for first in range(0, len(indices), size)]
