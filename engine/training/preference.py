"""Preference tuning (DPO, Rafailov et al. 2023): chosen responses gain on rejected ones.

The loss depends on the log-ratio of each response: its log-probability under the model in training minus that
under the reference, the model before training. The reference does not change, so it is evaluated once, before
the first step, by the validation code, and its log-probabilities are stored in the job's folder.
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

# Without the stored log-probabilities, a run of three epochs with ten validations would pass every pair
# through the reference up to eleven times, and full fine-tuning no longer has the reference after its first
# step.


@dataclass
class ReferenceLogps:
    """Log-probabilities under the reference.

    row_ids: int64 [n], ascending. logps: float64 [n, 2], of the chosen and of the rejected response, summed
    over its trained tokens, in nats.
    """

    row_ids: np.ndarray
    logps: np.ndarray

    def of(self, row_ids: np.ndarray) -> np.ndarray:
        """Return float64 [rows, 2] for these rows; each must be present."""
        return self.logps[np.searchsorted(self.row_ids, row_ids)]

    def write(self, path: Path) -> None:
        """Write the log-probabilities to a Parquet file, by atomic rename."""
        columns = {"row_id": self.row_ids, "chosen": self.logps[:, 0], "rejected": self.logps[:, 1]}
        with write_atomically(path, flush=False) as unfinished:
            pq.write_table(pa.table(columns), unfinished)

    @classmethod
    def read(cls, path: Path) -> ReferenceLogps | None:
        """Read a file that `write` wrote; return None if there is none."""
        if not path.exists():
            return None
        table = pq.read_table(path)
        columns = [table[name].to_numpy() for name in ("row_id", "chosen", "rejected")]
        return cls(columns[0], np.stack(columns[1:], axis=1))

    @classmethod
    def unknown(cls, parts: Sequence[TokenRows]) -> ReferenceLogps:
        """Return zeros for every pair of `parts`, as placeholders for a reference not yet evaluated."""
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
        """Compute the log-probabilities of every pair of `parts` under `model`.

        `on_batch(pairs done)` may raise to stop.
        """
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
    """Return the log-probabilities of `parts` under `model`.

    On a resume they are read from the file of an earlier attempt, if any; otherwise computed and stored.
    """
    references = ReferenceLogps.read(job.dir.references)
    if references is not None and job.resume:
        return references
    total = sum(len(part) for part in parts)
    tell = RowProgressReporter(job, total, "pairs", "Base model scores both answers of each pair")
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
    """Return float64 [pairs, 2]: summed log-probability of each chosen and rejected response.

    The model's mode (train or eval) is restored afterwards; `on_batch(pairs done)` may raise to stop.
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
    """Collate the pairs at `indices`: the chosen sequences, followed by as many rejected ones."""
    places = np.concatenate([2 * indices, 2 * indices + 1])
    return collate(as_pairs(rows).sequences, places, device)


def compute_sequence_logps(model: Any, batch: TokenBatch) -> torch.Tensor:
    """Return the summed log-probability of the trained tokens of each sequence of the batch, in nats."""
    logps = -F.cross_entropy(compute_picked_logits(model, batch), batch.targets, reduction="none")
    row_of = batch.picked.nonzero()[:, 0]
    return logps.new_zeros(len(batch.inputs)).index_add(0, row_of, logps)


def as_pairs(rows: TokenRows) -> TokenPairs:
    """Return the rows as pairs, the type used in preference tuning."""
    assert isinstance(rows, TokenPairs), "preference tuning is given pairs"
    return rows


# Chosen and rejected sequences go through the model in one pass, with logits at trained tokens only. The
# losses are those of TRL's DPOTrainer. Before the first step both log-ratios are 0, and so is every reward.


@dataclass
class PairBatch(TokenBatch):
    """Batch of chosen sequences, followed by as many rejected ones; reference: float32 [2, pairs]."""

    reference: torch.Tensor

    @property
    def units(self) -> int:
        """Return the number of pairs, the units that the loss sums over."""
        return self.reference.shape[1]


@dataclass
class PairLosses(RowLosses):
    """RowLosses of pairs.

    loss_sum is the pair's loss, tokens are 1, and correct is 1 where the chosen response gained more than the
    rejected one. logps: float64 [n, 2]; rewards: float64 [n, 2], beta times the log-ratios; counts: int64 [n,
    2], tokens of the responses.
    """

    logps: np.ndarray
    rewards: np.ndarray
    counts: np.ndarray

    @property
    def scores(self) -> ModelScores:
        """Return the loss per token of the chosen response, and its reward margin over the rejected one."""
        margins = self.rewards[:, 0] - self.rewards[:, 1]
        return {"loss": -self.logps[:, 0] / self.counts[:, 0], "margin": margins}

    @property
    def metrics(self) -> dict[str, float]:
        """Return loss, rewards and log-probabilities by their names in the store."""
        return {
            "eval/loss": self.loss,
            **_compute_reward_metrics("eval", self.rewards[:, 0] - self.rewards[:, 1]),
            "eval/chosen_logp": float(self.logps[:, 0].mean()),
            "eval/rejected_logp": float(self.logps[:, 1].mean()),
        }

    @property
    def evidence(self) -> ModelPairs:
        """Return the pairs in the form that `engine.evaluation.verdicts.preference_verdict` takes."""
        return ModelPairs(
            losses=self.loss_sum,
            margins=self.rewards[:, 0] - self.rewards[:, 1],
            chosen_logps=self.logps[:, 0],
            rejected_logps=self.logps[:, 1],
        )


def _compute_reward_metrics(prefix: str, margins: np.ndarray) -> dict[str, float]:
    """Return the share of pairs with a margin above 0, and the mean margin.

    A margin of exactly 0, as before training, counts half.
    """
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
        """Collate both sequences of the pairs at `indices` into one batch."""
        batch = collate_pairs(rows, indices, device)
        reference_logps = self.references.of(rows.row_ids[indices]).T
        return PairBatch(**vars(batch), reference=torch.from_numpy(reference_logps).float().to(device))

    def loss_sum(self, model: Any, batch: PairBatch) -> torch.Tensor:
        """Return the summed loss of the pairs, with gradients."""
        ratios = compute_sequence_logps(model, batch).view(2, -1) - batch.reference
        self.margins.append((self.config.beta * (ratios[0] - ratios[1])).detach())
        counts = batch.picked.sum(1).view(2, -1)
        return compute_pair_losses(ratios[0], ratios[1], counts, self.config).sum()

    def step_metrics(self) -> dict[str, float]:
        """Return reward accuracy and margin of the pairs since the last call."""
        margins, self.margins = self.margins, []
        return _compute_reward_metrics("train", torch.cat(margins).cpu().numpy()) if margins else {}

    def drop_metrics(self) -> None:
        """Discard the margins collected since the last `step_metrics`."""
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
        """Return the losses of every pair, without gradients; `on_batch(pairs done)` may raise to stop."""
        logps = compute_answer_logps(model, rows, batch_size=batch_size, device=device, on_batch=on_batch)
        return self._judged(rows, logps)

    def baseline(self, rows: TokenRows) -> PairLosses:
        """Return the losses at step 0, from the stored log-probabilities of the reference."""
        return self._judged(rows, self.references.of(rows.row_ids))

    def _judged(self, rows: TokenRows, logps: np.ndarray) -> PairLosses:
        """Compute the losses from log-probabilities of both responses [pairs, 2] and the reference's."""
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
    """Return the loss of each pair from the log-ratios of its responses [pairs].

    counts: number of trained tokens [2, pairs].
    """
    beta, smoothing = config.beta, config.label_smoothing
    margin = beta * (chosen - rejected)
    match config.loss_type:
        case "sigmoid":
            return -F.logsigmoid(margin)
        case "hinge":  # SLiC, Zhao et al. 2023
            return F.relu(1 - margin)
        case "robust":  # Chowdhury et al. 2024: assumes that this share of the pairs is swapped
            right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
            return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
        case "ipo":  # Azar et al. 2023, with means over tokens
            return (chosen / counts[0] - rejected / counts[1] - 1 / (2 * beta)) ** 2
        case "sigmoid_norm":  # with means over tokens, so that length gives no advantage
            return -F.logsigmoid(beta * (chosen / counts[0] - rejected / counts[1]))
        case "apo_zero":  # D'Oosterlinck et al. 2024: raises the likelihood of the chosen response itself
            return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)
