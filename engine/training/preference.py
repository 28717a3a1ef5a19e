"""Preference tuning (DPO, Rafailov et al. 2023): chosen answers are to gain on rejected ones.

What counts is the log-ratio of each answer under the model in training and under its reference, the model
before training. The reference is asked once, before the first step, by the very code that validates, and
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from engine.evaluation.verdicts.paired_measurements import ModelPairs
from engine.models import hardware
from engine.models.batching import TokenBatch, collate
from engine.models.losses import ModelScores, RowLosses, build_fitting_batches, compute_picked_logits
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import TokenPairs
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.job_folder import write_atomically
from store.training.train_config import TrainConfig

# Log-probabilities of whole answers, and those of a preference run's reference: the model before training.
#
# The reference does not change, so it is asked once, before the first step, by the very code that
# validates, and what it says is kept in the job's folder. A run of three epochs with ten validations would
# otherwise pass every pair through it up to eleven times; and a full fine-tuning leaves nothing of it after
# its first step.


@dataclass
class ReferenceLogps:
    """Log-probabilities under the reference. row_ids int64 [n], ascending; logps float64 [n, 2]: of the
    chosen answer and of the rejected one, summed over its trained tokens, in nats."""

    row_ids: np.ndarray
    logps: np.ndarray

    def of(self, row_ids: np.ndarray) -> np.ndarray:
        """float64 [rows, 2] of those rows; each must be there."""
        return self.logps[np.searchsorted(self.row_ids, row_ids)]

    def write(self, path: Path) -> None:
        """Write them, by atomic rename."""
        columns = {"row_id": self.row_ids, "chosen": self.logps[:, 0], "rejected": self.logps[:, 1]}
        with write_atomically(path, flush=False) as unfinished:
            pq.write_table(pa.table(columns), unfinished)

    @classmethod
    def read(cls, path: Path) -> ReferenceLogps | None:
        """What `write` wrote, or None where it did not."""
        if not path.exists():
            return None
        table = pq.read_table(path)
        columns = [table[name].to_numpy() for name in ("row_id", "chosen", "rejected")]
        return cls(columns[0], np.stack(columns[1:], axis=1))

    @classmethod
    def unknown(cls, parts: Sequence[TokenRows]) -> ReferenceLogps:
        """Zeros for every pair of `parts`: nobody has asked the reference yet."""
        row_ids = np.unique(np.concatenate([part.row_ids for part in parts]))
        return cls(row_ids, np.zeros((len(row_ids), 2)))

    @classmethod
    def compute(
        cls,
        model: Any,
        parts: Sequence[TokenRows],
        *,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> ReferenceLogps:
        """Those of every pair of `parts` under `model`; `on_batch(pairs done)` may raise to stop."""
        done, logps = 0, []
        for part in parts:
            on_part = partial(_report_unchecked, on_batch, done)
            logps.append(
                compute_answer_logps(model, part, batch_size=batch_size, device=device, on_batch=on_part)
            )
            done += len(part)
        row_ids, first = np.unique(np.concatenate([part.row_ids for part in parts]), return_index=True)
        return cls(row_ids, np.concatenate(logps)[first])


def _report_unchecked(on_batch: Callable[[int], None], before: int, done: int) -> None:
    on_batch(before + done)


def load_or_compute_references(
    job: WorkerJob, config: TrainConfig, model: Any, parts: Sequence[TokenRows]
) -> ReferenceLogps:
    """Those of `parts` under `model`, as an earlier attempt of the job left them, else computed and kept."""
    references = ReferenceLogps.read(job.dir.references)
    if references is not None and job.resume:
        return references
    total = sum(len(part) for part in parts)
    tell = RowProgressReporter(job, total, "pairs", "Asking the base model for both answers of each pair")
    device = torch.device(job.device)

    def on_batch(done: int) -> None:
        hardware.guard_memory(config, device)
        tell(done)

    batch_size = config.per_device_eval_batch_size
    references = ReferenceLogps.compute(model, parts, batch_size=batch_size, device=device, on_batch=on_batch)
    references.write(job.dir.references)
    return references


def compute_answer_logps(
    model: Any,
    rows: TokenRows,
    *,
    batch_size: int,
    device: str | torch.device,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """float64 [pairs, 2]: log-probability of each chosen and rejected answer, summed over its tokens.

    The model is left in the mode (train or eval) in which it came; `on_batch(pairs done)` may raise to stop.
    """
    answer_sums = np.zeros((len(rows), 2))
    training, done = model.training, 0
    model.eval()
    try:
        with torch.inference_mode():
            for indices in build_fitting_batches(model, rows, batch_size):
                logps = compute_sequence_logps(model, collate_pairs(rows, indices, device))
                answer_sums[indices] = logps.view(2, -1).T.double().cpu().numpy()
                done += len(indices)
                on_batch(done)
    finally:
        model.train(training)
    return answer_sums


def collate_pairs(rows: TokenRows, indices: np.ndarray, device: str | torch.device) -> TokenBatch:
    """Chosen sequences, then as many rejected ones, of the pairs at `indices`."""
    places = np.concatenate([2 * indices, 2 * indices + 1])
    return collate(as_pairs(rows).sequences, places, device)


def compute_sequence_logps(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Log-probability of the trained tokens of each sequence of the batch, in nats."""
    logps = -F.cross_entropy(compute_picked_logits(model, batch), batch.targets, reduction="none")
    row_of = batch.picked.nonzero()[:, 0]
    return logps.new_zeros(len(batch.inputs)).index_add(0, row_of, logps)


def as_pairs(rows: TokenRows) -> TokenPairs:
    """The rows as what they are in preference tuning."""
    assert isinstance(rows, TokenPairs), "preference tuning is given pairs"
    return rows


# Preference tuning (DPO, Rafailov et al. 2023): chosen answers are to gain on rejected ones.
#
# What counts is the log-ratio of each answer: its log-probability under the model in training minus that
# under the model as it was before. Chosen and rejected sequences go through the model in
# one pass, with logits at trained tokens alone. The losses are those of TRL's DPOTrainer. Before the first
# step both log-ratios are 0, and with them every reward.


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
            **_compute_reward_metrics("eval", self.rewards[:, 0] - self.rewards[:, 1]),
            "eval/chosen_logp": float(self.logps[:, 0].mean()),
            "eval/rejected_logp": float(self.logps[:, 1].mean()),
        }

    @property
    def evidence(self) -> ModelPairs:
        """Them as `engine.evaluation.verdicts.preference_verdict` takes them."""
        return ModelPairs(
            losses=self.loss_sum,
            margins=self.rewards[:, 0] - self.rewards[:, 1],
            chosen_logps=self.logps[:, 0],
            rejected_logps=self.logps[:, 1],
        )


def _compute_reward_metrics(prefix: str, margins: np.ndarray) -> dict[str, float]:
    """Share of the pairs with a margin above 0 (one of exactly 0, as before training, counts half), and
    the mean margin."""
    accuracy = float(((margins > 0) + 0.5 * (margins == 0)).mean())
    return {f"{prefix}/reward_accuracy": accuracy, f"{prefix}/reward_margin": float(margins.mean())}


class PreferenceObjective:
    """The objective of preference tuning: the mean loss of the pairs."""

    grouped = True

    def __init__(self, config: TrainConfig, references: ReferenceLogps) -> None:
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
        ratios = compute_sequence_logps(model, batch).view(2, -1) - batch.reference
        self.margins.append((self.config.beta * (ratios[0] - ratios[1])).detach())
        counts = batch.picked.sum(1).view(2, -1)
        return compute_pair_losses(ratios[0], ratios[1], counts, self.config).sum()

    def step_metrics(self) -> dict[str, float]:
        """Reward accuracy and margin of the pairs since this was last asked."""
        margins, self.margins = self.margins, []
        return _compute_reward_metrics("train", torch.cat(margins).cpu().numpy()) if margins else {}

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
        logps = compute_answer_logps(model, rows, batch_size=batch_size, device=device, on_batch=on_batch)
        return self._judged(rows, logps)

    def baseline(self, rows: TokenRows) -> PairLosses:
        """Step 0: what the reference says of the pairs, which is known already."""
        return self._judged(rows, self.references.of(rows.row_ids))

    def _judged(self, rows: TokenRows, logps: np.ndarray) -> PairLosses:
        """Log-probabilities of both answers [pairs, 2] against the reference's."""
        ratios = logps - self.references.of(rows.row_ids)
        counts = as_pairs(rows).sequences.trained_counts.reshape(-1, 2)
        chosen, rejected = torch.from_numpy(ratios.T.copy())
        losses = compute_pair_losses(chosen, rejected, torch.from_numpy(counts.T.copy()), self.config).numpy()
        rewards = self.config.beta * ratios
        correct = (rewards[:, 0] > rewards[:, 1]).astype(np.int64)
        ones = np.ones(len(rows), np.int64)
        return PairLosses(rows.row_ids, losses, ones, correct, logps, rewards, counts)


def compute_pair_losses(
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
