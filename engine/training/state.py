"""What training knows at a step beyond its tensors: position, history, the best step, whether to stop.

It is plain data that goes into a checkpoint as JSON and comes back equal; every decision about stopping is
made here, from the validation losses alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from store.config.training.train_config import TrainConfig
from store.documents.models.saved_model import StopReason


@dataclass
class State:
    """`curve`: (step, train loss); `validations`: (step, validation loss), step 0 the base model."""

    step: int = 0
    tokens_seen: int = 0
    train_seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    best_loss: float = float("inf")
    reference_loss: float = float("inf")  # what the next validation must beat by the threshold
    probe_seconds: list[float] = field(default_factory=list)  # of each kind of probe
    waited: int = 0  # validations since it was beaten
    reason: StopReason | Literal[""] = ""  # why training ended; empty while it goes on

    def validated(self, step: int) -> bool:
        """Whether the validation at `step` is in the history."""
        return any(done == step for done, _ in self.validations)

    def record(self, step: int, loss: float, config: TrainConfig) -> bool:
        """Take a validation loss; True where it is the best of the trained steps so far."""
        self.validations.append((step, loss))
        if step == 0:
            return False
        best = loss < self.best_loss
        if best:
            self.best_step, self.best_loss = step, loss
        if self.waited == 0 and self.reference_loss == float("inf"):
            self.reference_loss = loss
        elif loss < self.reference_loss * (1 - config.early_stopping_threshold):
            self.reference_loss, self.waited = loss, 0
        else:
            self.waited += 1
            if config.early_stopping and self.waited >= config.early_stopping_patience:
                self.reason = "early_stopping"
        return best

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> State:
        """What `to_dict` wrote."""
        pairs = {key: [(int(s), v) for s, v in document[key]] for key in ("curve", "validations")}
        return cls(**(document | pairs))


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """`evaluations` steps evenly spaced, of which the last is the last."""
    return {max(1, round(steps * k / evaluations)) for k in range(1, evaluations + 1)}
