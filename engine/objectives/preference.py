"""Preference tuning (DPO, Rafailov et al. 2023): chosen answers are to gain on rejected ones.

What counts is the log-ratio of each answer: its log-probability under the model in training minus that under
the model as it was before (`references.py`). Chosen and rejected sequences go through the model in one pass,
with logits at trained tokens alone. The losses are those of TRL's DPOTrainer. Before the first step both
log-ratios are 0, and with them every reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.diagnostics.memorisation.membership import ModelScores
from engine.diagnostics.verdicts.held_out import ModelPairs
from engine.forward.batches import TokenBatch
from engine.forward.losses import RowLosses
from engine.objectives.references import References, answer_logps, collate_pairs, pairs, sequence_logps
from engine.rows.render import TokenRows
from store.config.training.train_config import TrainConfig


@dataclass
class PairBatch(TokenBatch):
    """Chosen sequences, then as many rejected ones; reference float32 [2, pairs]."""

    reference: torch.Tensor

    @property
    def units(self) -> int:
        """What the loss sums over: pairs."""
        return self.reference.shape[1]


@dataclass
class PairLosses(RowLosses):
    """RowLosses of pairs: loss_sum is the pair's loss, tokens are 1, correct is 1 where the chosen answer
    gained more than the rejected one. logps float64 [n, 2]; rewards float64 [n, 2]: beta times the
    log-ratios; counts int64 [n, 2]: tokens of the answers."""

    logps: np.ndarray
    rewards: np.ndarray
    counts: np.ndarray

    @property
    def scores(self) -> ModelScores:
        """The loss a token of the chosen answer, and by how much it gained on the rejected one."""
        margins = self.rewards[:, 0] - self.rewards[:, 1]
        return {"loss": -self.logps[:, 0] / self.counts[:, 0], "margin": margins}

    @property
    def metrics(self) -> dict[str, float]:
        """Loss, rewards and log-probabilities under their names in the store."""
        return {
            "eval/loss": self.loss,
            **_reward_metrics("eval", self.rewards[:, 0] - self.rewards[:, 1]),
            "eval/chosen_logp": float(self.logps[:, 0].mean()),
            "eval/rejected_logp": float(self.logps[:, 1].mean()),
        }

    @property
    def evidence(self) -> ModelPairs:
        """Them as `engine.diagnostics.verdicts.preference_verdict` takes them."""
        return ModelPairs(
            losses=self.loss_sum,
            margins=self.rewards[:, 0] - self.rewards[:, 1],
            chosen_logps=self.logps[:, 0],
            rejected_logps=self.logps[:, 1],
        )


def _reward_metrics(prefix: str, margins: np.ndarray) -> dict[str, float]:
    """Share of the pairs with a margin above 0 (one of exactly 0, as before training, counts half), and
    the mean margin."""
    accuracy = float(((margins > 0) + 0.5 * (margins == 0)).mean())
    return {f"{prefix}/reward_accuracy": accuracy, f"{prefix}/reward_margin": float(margins.mean())}


class PreferenceObjective:
    """The objective of preference tuning: the mean loss of the pairs."""

    grouped = True

    def __init__(self, config: TrainConfig, references: References) -> None:
        self.config = config
        self.references = references
        self.margins: list[torch.Tensor] = []  # of the step's batches

    def collate(self, rows: TokenRows, indices: np.ndarray, device: torch.device) -> PairBatch:
        """Both sequences of the pairs at `indices` as one batch."""
        batch = collate_pairs(rows, indices, device)
        reference_logps = self.references.of(rows.row_ids[indices]).T
        return PairBatch(**vars(batch), reference=torch.from_numpy(reference_logps).float().to(device))

    def loss_sum(self, model: Any, batch: PairBatch) -> torch.Tensor:
        """The summed loss of the pairs, with gradients."""
        ratios = sequence_logps(model, batch).view(2, -1) - batch.reference
        self.margins.append((self.config.beta * (ratios[0] - ratios[1])).detach())
        counts = batch.picked.sum(1).view(2, -1)
        return pair_losses(ratios[0], ratios[1], counts, self.config).sum()

    def step_metrics(self) -> dict[str, float]:
        """Reward accuracy and margin of the pairs since this was last asked."""
        margins, self.margins = self.margins, []
        return _reward_metrics("train", torch.cat(margins).cpu().numpy()) if margins else {}

    def drop_metrics(self) -> None:
        """Forget the margins since."""
        self.margins = []

    def measure(
        self,
        model: Any,
        rows: TokenRows,
        *,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None],
    ) -> PairLosses:
        """Losses of every pair, without gradients; `on_batch(pairs done)` may raise to stop."""
        logps = answer_logps(model, rows, batch_size=batch_size, device=device, on_batch=on_batch)
        return self._judged(rows, logps)

    def baseline(self, rows: TokenRows) -> PairLosses:
        """Step 0: what the reference says of the pairs, which is known already."""
        return self._judged(rows, self.references.of(rows.row_ids))

    def _judged(self, rows: TokenRows, logps: np.ndarray) -> PairLosses:
        """Log-probabilities of both answers [pairs, 2] against the reference's."""
        ratios = logps - self.references.of(rows.row_ids)
        counts = pairs(rows).sequences.trained_counts.reshape(-1, 2)
        chosen, rejected = torch.from_numpy(ratios.T.copy())
        losses = pair_losses(chosen, rejected, torch.from_numpy(counts.T.copy()), self.config).numpy()
        rewards = self.config.beta * ratios
        correct = (rewards[:, 0] > rewards[:, 1]).astype(np.int64)
        ones = np.ones(len(rows), np.int64)
        return PairLosses(rows.row_ids, losses, ones, correct, logps, rewards, counts)


def pair_losses(
    chosen: torch.Tensor, rejected: torch.Tensor, counts: torch.Tensor, config: TrainConfig
) -> torch.Tensor:
    """The loss of each pair from the log-ratios of its answers [pairs]; counts [2, pairs]: trained tokens."""
    beta, smoothing = config.beta, config.label_smoothing
    margin = beta * (chosen - rejected)
    match config.loss_type:
        case "sigmoid":
            return -F.logsigmoid(margin)
        case "hinge":  # SLiC, Zhao et al. 2023
            return F.relu(1 - margin)
        case "robust":  # Chowdhury et al. 2024: as if that share of the pairs were the wrong way round
            right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
            return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
        case "ipo":  # Azar et al. 2023, with means over tokens
            return (chosen / counts[0] - rejected / counts[1] - 1 / (2 * beta)) ** 2
        case "sigmoid_norm":  # with means over tokens, so that length is no way to win
            return -F.logsigmoid(beta * (chosen / counts[0] - rejected / counts[1]))
        case "apo_zero":  # D'Oosterlinck et al. 2024: the chosen answer itself is to become more likely
            return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)
