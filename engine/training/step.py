"""One optimiser step: gradients of an effective batch, and the update that they make.

The step's loss is a sum over rows, divided by the units of the whole effective batch (trained tokens, rows or
pairs), so that how its rows are dealt into micro-batches changes memory and speed and nothing else. Where
the packed forward stands for the model's own, they are dealt by tokens; elsewhere as the config says. General
rows beside them (`replay.py`) have a mean loss of their own; each of the two means counts by its share of the
rows, as a few long general rows would else outweigh many short answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from engine.diagnostics.course.advice import FAR
from engine.forward import packable
from engine.forward.batches import StepRows, pieces, tokens_of_a_piece
from engine.models import memory
from engine.models.adalora import Allocation
from engine.models.apply_method import trainable
from engine.objectives.divergence import losses_beside_base
from engine.objectives.objectives import Objective, TrainedTokens
from engine.objectives.replay import Replay, micro_batches
from engine.rows.render import TokenRows
from engine.training import checkpoint
from engine.training.checkpoint import StepDocument, Tensors
from engine.training.optimizer import Masters, make_optimizer, make_schedule
from engine.worker.job import Cancelled, WorkerJob
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.contract.errors import TunebenchError


@dataclass(frozen=True)
class Gradients:
    """What a backward pass over an effective batch left: the loss of the data set's rows, the gradients' norm
    before clipping, the learning rate that they will be taken with, the tokens of all rows, and metrics of
    the replayed ones."""

    loss: float
    norm: float
    rate: float
    tokens: int
    replayed: dict[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether an update with them leaves the weights numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)

    @property
    def metrics(self) -> dict[str, float]:
        """Under their names in the store."""
        own = {"train/loss": self.loss, "train/learning_rate": self.rate, "train/grad_norm": self.norm}
        return own | self.replayed

    def diverged(self, step: int, config: TrainConfig) -> TunebenchError:
        """What to say where they are not finite."""
        name, value = "training loss", self.loss
        if math.isfinite(value):
            name, value = "gradient norm", self.norm
        return TunebenchError(
            f"The {name} is {value} at step {step}, at a learning rate of {self.rate:.3g}: it diverged.",
            fix=f"Launch it again with learning_rate {_calmer(config, self.rate):.1g} or less,"
            " more warmup_steps, or dtype float32.",
            field="learning_rate",
        )


def _calmer(config: TrainConfig, now: float) -> float:
    """The learning rate to try where that of the config, which is `now`, diverged: the method's default, or a
    tenth where it was not far above that."""
    rate, default = config.learning_rate or now, config.default_learning_rate()
    return default if rate > FAR * default else rate / 10


@dataclass(frozen=True)
class TrainingRows:
    """Rows that are trained on, and general rows beside them."""

    rows: TokenRows
    replay: Replay | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        every = (self.rows, *([self.replay.rows] if self.replay else []))
        return max(int(rows.sequence_lengths.max()) for rows in every)


class Stepper:
    """A model and what changes it. `unpacked`: why its rows go through its own forward; empty where they are
    packed."""

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
        self.replay, self.replayed = rows.replay, TrainedTokens()
        self.device = torch.device(job.device)
        self.accelerator = Accelerator(cpu=self.device.type == "cpu")
        self.model = self.accelerator.prepare_model(model)
        self.masters = Masters(trainable(model))
        self.optimizer = make_optimizer(model, self.masters, config)
        self.schedule = make_schedule(self.optimizer, config, steps)
        self.allocation = (
            Allocation(model.active_peft_config, self.masters.weights)
            if METHODS[config.method].allocates
            else None
        )
        self.model.train()
        self.unpacked = packable.refusal(self.model, rows.longest)

    def gradients(self, rows: StepRows, step: int = 0) -> Gradients:
        """Forward and backward over the rows of a step, and over those that step number `step` (from 0)
        replays. When the job is cancelled, none are left."""
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
        except Cancelled:
            self.drop()
            self.objective.drop_metrics()
            raise
        if self.allocation:
            self.allocation.regularise()
        rate = self.optimizer.param_groups[0]["lr"]
        return Gradients(loss, self.clip(), rate, sum(batch.tokens for batch in batches) + tokens, replayed)

    def replay_gradients(self, general: np.ndarray, share: float) -> tuple[dict[str, float], int]:
        """Add the gradients of general rows, whose mean loss counts by their `share`; metrics, and tokens."""
        assert self.replay is not None
        rows, beta = self.replay.rows, self.replay.kl_beta
        dealt = self.dealt(micro_batches(general, self.config), rows)
        batches = [self.replayed.collate(rows, indices, self.device) for indices in dealt]
        units = sum(batch.units for batch in batches)
        loss = divergence = 0.0
        for batch in batches:
            self.about_to_pass()
            if beta:
                of_loss, of_divergence = losses_beside_base(self.model, batch)
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
        """Before each micro-batch: raises Cancelled when asked to stop, and where memory runs out."""
        self.job.check_cancelled()
        memory.guard(self.config, self.device, dealt=not self.unpacked)

    def dealt(self, step: StepRows, rows: TokenRows | None = None) -> StepRows:
        """The micro-batches of a step over `rows`, those of the data set where left out."""
        if self.unpacked:
            return step
        return pieces(step, (rows or self.rows).lengths, tokens_of_a_piece(self.config))

    def clip(self) -> float:
        """Clip the gradients and answer their norm before that."""
        limit = self.config.max_grad_norm or math.inf
        return float(self.accelerator.clip_grad_norm_(list(self.masters.weights.values()), limit))

    def update(self, step: int) -> None:
        """Take the gradients, as step number `step`."""
        self.optimizer.step()
        if self.allocation:
            self.allocation.after_step(step)
        self.drop()
        self.masters.publish()
        self.schedule.step()

    def drop(self) -> None:
        """Let go of the gradients."""
        self.optimizer.zero_grad()

    def kept(self) -> tuple[Tensors, StepDocument]:
        """Tensors and numbers from which `restore` continues bit for bit."""
        tensors, numbers = checkpoint.optimizer_state(self.optimizer)
        tensors |= {f"weights.{name}": master for name, master in self.masters.weights.items()}
        tensors |= self.allocation.tensors() if self.allocation else {}
        return tensors, {
            "optimizer": numbers,
            "schedule": self.schedule.state_dict(),
            "rates": [group["lr"] for group in self.optimizer.param_groups],
        }

    def restore(self, tensors: Tensors, document: StepDocument) -> None:
        """Go back to what `kept` said."""
        prefix = "weights."
        self.masters.load({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        checkpoint.load_optimizer_state(self.optimizer, tensors, document["optimizer"])
        self.schedule.load_state_dict(document["schedule"])
        if self.allocation:
            self.allocation.load(tensors)
        for group, rate in zip(self.optimizer.param_groups, document["rates"], strict=True):
            group["lr"] = rate

    def release(self) -> Any:
        """Hand the model out and let go of everything else that takes memory."""
        model = self.accelerator.unwrap_model(self.model)
        del self.model, self.masters, self.optimizer, self.schedule
        self.accelerator.free_memory()
        return model
