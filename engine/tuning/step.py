"""One optimiser step: gradients of an effective batch, and the update that they make.

The step's loss is a sum over rows, divided by the units of the whole effective batch (trained tokens, rows or
pairs), so that how its rows are dealt into micro-batches changes memory and speed and nothing else. Where the
packed forward stands for the model's own, they are dealt by tokens; elsewhere as the config says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from engine.data.render import Rows
from engine.job import Cancelled, Job
from engine.tuning import checkpoint, memory, packable
from engine.tuning.adalora import Allocation
from engine.tuning.batches import Step, pieces, tokens_of_a_piece
from engine.tuning.methods import trainable
from engine.tuning.objectives import Objective
from engine.tuning.optimizer import Masters, make_optimizer, make_schedule
from store.config import TrainConfig
from store.errors import TunebenchError


@dataclass(frozen=True)
class Gradients:
    """What a backward pass over an effective batch left: its loss, the gradients' norm before clipping, the
    learning rate that they will be taken with, and the tokens of its rows."""

    loss: float
    norm: float
    rate: float
    tokens: int

    @property
    def finite(self) -> bool:
        """Whether an update with them leaves the weights numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)

    @property
    def metrics(self) -> dict[str, float]:
        """Under their names in the store."""
        return {"train/loss": self.loss, "train/learning_rate": self.rate, "train/grad_norm": self.norm}

    def diverged(self, step: int, config: TrainConfig) -> TunebenchError:
        """What to say where they are not finite."""
        name, value = "training loss", self.loss
        if math.isfinite(value):
            name, value = "gradient norm", self.norm
        return TunebenchError(
            f"The {name} is {value} at step {step}, at a learning rate of {self.rate:.3g}: it diverged.",
            fix=f"Launch it again with learning_rate {(config.learning_rate or self.rate) / 10:.1g} or less,"
            " more warmup_steps, or dtype float32.",
            field="learning_rate",
        )


class Stepper:
    """A model and what changes it. `unpacked`: why its rows go through its own forward; empty where they are
    packed."""

    def __init__(
        self, job: Job, config: TrainConfig, model: Any, rows: Rows, objective: Objective, steps: int
    ) -> None:
        self.job, self.config, self.rows, self.objective = job, config, rows, objective
        self.device = torch.device(job.device)
        self.accelerator = Accelerator(cpu=self.device.type == "cpu")
        self.model = self.accelerator.prepare_model(model)
        self.masters = Masters(trainable(model))
        self.optimizer = make_optimizer(model, self.masters, config)
        self.schedule = make_schedule(self.optimizer, config, steps)
        self.allocation = (
            Allocation(model.active_peft_config, self.masters.weights) if config.method == "adalora" else None
        )
        self.model.train()
        self.unpacked = packable.refusal(self.model, int(rows.sequence_lengths.max()))

    def gradients(self, rows: Step) -> Gradients:
        """Forward and backward over the rows of a step. When the job is cancelled, none are left."""
        self.model.train()
        batches = [self.objective.collate(self.rows, indices, self.device) for indices in self.dealt(rows)]
        units = sum(batch.units for batch in batches)
        loss = 0.0
        try:
            for batch in batches:
                self.job.check_cancelled()
                memory.guard(self.config, self.device, dealt=not self.unpacked)
                part = self.objective.loss_sum(self.model, batch) / units
                self.accelerator.backward(part)
                loss += part.item()
        except Cancelled:
            self.drop()
            self.objective.step_metrics()
            raise
        if self.allocation:
            self.allocation.regularise()
        rate = self.optimizer.param_groups[0]["lr"]
        return Gradients(loss, self.clip(), rate, sum(batch.tokens for batch in batches))

    def dealt(self, rows: Step) -> Step:
        """The micro-batches of a step."""
        if self.unpacked:
            return rows
        return pieces(rows, self.rows.lengths, tokens_of_a_piece(self.config))

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

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and numbers from which `restore` continues bit for bit."""
        tensors, numbers = checkpoint.optimizer_state(self.optimizer)
        tensors |= {f"weights.{name}": master for name, master in self.masters.weights.items()}
        tensors |= self.allocation.tensors() if self.allocation else {}
        return tensors, {
            "optimizer": numbers,
            "schedule": self.schedule.state_dict(),
            "rates": [group["lr"] for group in self.optimizer.param_groups],
        }

    def restore(self, tensors: dict[str, torch.Tensor], document: dict[str, Any]) -> None:
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
