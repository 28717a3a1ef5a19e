"""Run one optimiser step: gradients of an effective batch, their update, and optionally KL(base‖tuned).

The step's loss is a sum over rows, divided by the units of the whole effective batch (trained tokens, rows or
pairs), so that splitting its rows into micro-batches changes memory and speed only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.evaluation.training_curve.advice import FAR_ABOVE_DEFAULT
from engine.models import hardware, training_state
from engine.models.adapter_weights import RankAllocation
from engine.models.batching import (
    Replay,
    StepRows,
    TokenBatch,
    build_replay_micro_batches,
    compute_micro_batch_tokens,
    split_into_micro_batches,
)
from engine.models.forward import llama_layers
from engine.models.forward.operations import LOSS_ROWS, SummedLoss
from engine.models.losses import Objective, TokenObjective, compute_picked_logits, compute_plain_head_inputs
from engine.models.tokenization.rendering import TokenRows
from engine.models.training_state import MasterWeights, StepDocument, Tensors, make_optimizer, make_schedule
from engine.models.tuning_methods import list_trainable, use_base_model
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import TunebenchError
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

# KL(base‖tuned) per token, over the whole vocabulary distribution.
#
# The base model's hidden states are stored, not its logits: where the head is a plain, untrained matrix, the
# logits of both models and their gradients are computed for a few tokens at a time. Otherwise the logits of
# the picked tokens are held once for each model, and everything else is computed for a few tokens at a time.


def compute_losses_with_base_kl(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return the summed loss and KL(base‖tuned) in nats of the batch's trained tokens, with gradients.

    `model` has an adapter; with the adapter disabled and without dropout it is the base model.
    """
    base = _compute_base_outputs(model, batch)
    hidden = compute_plain_head_inputs(model, batch)
    head = model.get_output_embeddings()
    count = len(batch.targets)
    if hidden is not None and base.hidden is not None:
        loss = SummedLoss.apply(hidden, head.weight, batch.targets)
        return loss, _Divergence.apply(hidden, base.hidden, head.weight, count)
    logits = compute_picked_logits(model, batch) if hidden is None else head(hidden[:count]).float()
    loss = F.cross_entropy(logits, batch.targets, reduction="sum")
    return loss, _Divergence.apply(logits, base.logits(head, count), None, count)


class LossWithBaseKl(TokenObjective):
    """Objective that sums loss and KL, used to rehearse a step."""

    def loss_sum(self, model: Any, batch: Any) -> Tensor:
        loss, apart = compute_losses_with_base_kl(model, batch)
        return loss + apart


@dataclass(frozen=True)
class _BaseOutputs:
    """Outputs of the base model for a batch: hidden states where the head is plain, otherwise logits."""

    hidden: Tensor | None
    made: Tensor | None

    def logits(self, head: Any, count: int) -> Tensor:
        """Return the logits of the picked tokens in fp32."""
        with torch.no_grad():
            if self.hidden is not None:
                logits: Tensor = head(self.hidden[:count]).float()
                return logits
        assert self.made is not None
        return self.made


def _compute_base_outputs(model: Any, batch: TokenBatch) -> _BaseOutputs:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), use_base_model(model) as base:
            hidden = compute_plain_head_inputs(base, batch)
            return _BaseOutputs(hidden, None if hidden is not None else compute_picked_logits(base, batch))
    finally:
        model.train(training)


class _Divergence(torch.autograd.Function):
    """Summed KL of the first `count` rows, from logits or from hidden states under a head with this `weight`.

    The gradient is computed in the forward pass, a few rows at a time.
    """

    @staticmethod
    def forward(ctx: Any, tuned: Tensor, base: Tensor, weight: Tensor | None, count: int) -> Tensor:
        total = tuned.new_zeros((), dtype=torch.float32)
        gradient = torch.zeros_like(tuned)
        for first in range(0, count, LOSS_ROWS):
            part = slice(first, min(first + LOSS_ROWS, count))
            ours, theirs = (x[part] if weight is None else x[part] @ weight.t() for x in (tuned, base))
            ours, theirs = F.log_softmax(ours.float(), -1), F.log_softmax(theirs.float(), -1)
            share = theirs.exp()
            total += (share * (theirs - ours)).sum()
            away = (ours.exp() - share).to(tuned.dtype)
            gradient[part] = away if weight is None else away @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return ctx.saved_tensors[0] * grad, None, None, None


# Where the packed forward pass replaces the model's own, rows are split into micro-batches by tokens;
# otherwise as the config says. General rows (`batching.py`) have a mean loss of their own. The two means are
# weighted by their shares of the rows, as a few long general rows would otherwise outweigh many short
# answers.


@dataclass(frozen=True)
class Gradients:
    """Result of a backward pass over an effective batch.

    The loss of the data set's rows, the gradient norm before clipping, the learning rate of the update, the
    number of tokens of all rows, and metrics of the replayed rows.
    """

    loss: float
    norm: float
    rate: float
    tokens: int
    replayed: dict[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether the loss and the gradient norm are finite, so that the update keeps the weights finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics by their names in the store."""
        own = {"train/loss": self.loss, "train/learning_rate": self.rate, "train/grad_norm": self.norm}
        return own | self.replayed

    def diverged(self, step: int, config: TrainConfig) -> TunebenchError:
        """Return the error for gradients that are not finite."""
        name, value = "training loss", self.loss
        if math.isfinite(value):
            name, value = "gradient norm", self.norm
        return TunebenchError(
            f"The {name} is {value} at step {step}, at a learning rate of {self.rate:.3g}: it diverged.",
            fix=f"Launch it again with learning_rate {_suggest_lower_rate(config, self.rate):.1g} or less,"
            " more warmup_steps, or dtype float32.",
            field="learning_rate",
        )


def _suggest_lower_rate(config: TrainConfig, now: float) -> float:
    """Return the learning rate to try after a divergence; `now` is the rate of the step.

    The method's default, or a tenth of the config's rate where that was not far above the default.
    """
    rate, default = config.learning_rate or now, config.default_learning_rate()
    return default if rate > FAR_ABOVE_DEFAULT * default else rate / 10


@dataclass(frozen=True)
class TrainingRows:
    """Training rows, and the general rows replayed with them."""

    rows: TokenRows
    replay: Replay | None = None

    @property
    def longest(self) -> int:
        """Return the number of tokens of the longest sequence."""
        every = (self.rows, *([self.replay.rows] if self.replay else []))
        return max(int(rows.sequence_lengths.max()) for rows in every)


class OptimizerStepper:
    """A model with its optimizer, schedule and objective.

    `unpacked`: reason why rows go through the model's own forward pass; empty where they are packed.
    """

    def __init__(
        self,
        job: WorkerJob,
        config: TrainConfig,
        model: Any,
        rows: TrainingRows,
        objective: Objective,
        steps: int,
    ) -> None:
        self.job, self.config, self.rows, self.objective = job, config, rows.rows, objective
        self.replay, self.replayed = rows.replay, TokenObjective()
        self.device = torch.device(job.device)
        self.accelerator = Accelerator(cpu=self.device.type == "cpu")
        self.model = self.accelerator.prepare_model(model)
        self.masters = MasterWeights(list_trainable(model))
        self.optimizer = make_optimizer(model, self.masters, config)
        self.schedule = make_schedule(self.optimizer, config, steps)
        self.allocation = (
            RankAllocation(model.active_peft_config, self.masters.weights)
            if METHODS[config.method].allocates
            else None
        )
        self.model.train()
        self.unpacked = llama_layers.explain_refusal(self.model, rows.longest)

    def gradients(self, rows: StepRows, step: int = 0) -> Gradients:
        """Run forward and backward over the rows of a step, and over those replayed at `step` (from 0).

        If the job is cancelled, the gradients are dropped.
        """
        self.model.train()
        batches = [self.objective.collate(self.rows, indices, self.device) for indices in self.dealt(rows)]
        units = sum(batch.units for batch in batches)
        general = self.replay.step(step) if self.replay else np.zeros(0, np.int64)
        own = sum(map(len, rows))
        share = len(general) / (own + len(general))
        loss = 0.0
        try:
            for batch in batches:
                self.about_to_pass()
                part = self.objective.loss_sum(self.model, batch) / units
                self.accelerator.backward(part * (1 - share))
                loss += part.item()
            replayed, tokens = self.replay_gradients(general, share) if len(general) else ({}, 0)
        except JobCancelled:
            self.drop()
            self.objective.drop_metrics()
            raise
        if self.allocation:
            self.allocation.regularise()
        rate = self.optimizer.param_groups[0]["lr"]
        return Gradients(loss, self.clip(), rate, sum(batch.tokens for batch in batches) + tokens, replayed)

    def replay_gradients(self, general: np.ndarray, share: float) -> tuple[dict[str, float], int]:
        """Add the gradients of general rows; return metrics and the number of tokens.

        The mean loss of these rows is weighted by `share`.
        """
        assert self.replay is not None
        rows, beta = self.replay.rows, self.replay.kl_beta
        dealt = self.dealt(build_replay_micro_batches(general, self.config), rows)
        batches = [self.replayed.collate(rows, indices, self.device) for indices in dealt]
        units = sum(batch.units for batch in batches)
        loss = divergence = 0.0
        for batch in batches:
            self.about_to_pass()
            if beta:
                of_loss, of_divergence = compute_losses_with_base_kl(self.model, batch)
                total = (of_loss * share + of_divergence * beta) / units
                divergence += of_divergence.item() / units
            else:
                of_loss = self.replayed.loss_sum(self.model, batch)
                total = of_loss * share / units
            self.accelerator.backward(total)
            loss += of_loss.item() / units
        metrics = {"train/replay_loss": loss} | ({"train/replay_kl": divergence} if beta else {})
        return metrics, sum(batch.tokens for batch in batches)

    def about_to_pass(self) -> None:
        """Check for cancellation and free memory before a micro-batch.

        Raises: JobCancelled, or an error if memory runs out.
        """
        self.job.check_cancelled()
        hardware.guard_memory(self.config, self.device, dealt=not self.unpacked)

    def dealt(self, step: StepRows, rows: TokenRows | None = None) -> StepRows:
        """Return the micro-batches of a step over `rows`, by default the rows of the data set."""
        if self.unpacked:
            return step
        return split_into_micro_batches(
            step, (rows or self.rows).lengths, compute_micro_batch_tokens(self.config)
        )

    def clip(self) -> float:
        """Clip the gradients and return their norm before clipping."""
        limit = self.config.max_grad_norm or math.inf
        return float(self.accelerator.clip_grad_norm_(list(self.masters.weights.values()), limit))

    def update(self, step: int) -> None:
        """Update the weights with the gradients, as step number `step`."""
        self.optimizer.step()
        if self.allocation:
            self.allocation.after_step(step)
        self.drop()
        self.masters.publish()
        self.schedule.step()

    def drop(self) -> None:
        """Reset the gradients."""
        self.optimizer.zero_grad()

    def kept(self) -> tuple[Tensors, StepDocument]:
        """Return the tensors and numbers from which `restore` continues bit for bit."""
        tensors, numbers = training_state.collect_optimizer_state(self.optimizer)
        tensors |= {f"weights.{name}": master for name, master in self.masters.weights.items()}
        tensors |= self.allocation.tensors() if self.allocation else {}
        return tensors, {
            "optimizer": numbers,
            "schedule": self.schedule.state_dict(),
            "rates": [group["lr"] for group in self.optimizer.param_groups],
        }

    def restore(self, tensors: Tensors, document: StepDocument) -> None:
        """Restore the state returned by `kept`."""
        prefix = "weights."
        self.masters.load({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        training_state.load_optimizer_state(self.optimizer, tensors, document["optimizer"])
        self.schedule.load_state_dict(document["schedule"])
        if self.allocation:
            self.allocation.load(tensors)
        for group, rate in zip(self.optimizer.param_groups, document["rates"], strict=True):
            group["lr"] = rate

    def release(self) -> Any:
        """Return the model and free all other memory."""
        model = self.accelerator.unwrap_model(self.model)
        del self.model, self.masters, self.optimizer, self.schedule
        self.accelerator.free_memory()
        return model
