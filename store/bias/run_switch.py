"""Switch of a run's config that requests a bias check after the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from store.core.features import RunSwitch

if TYPE_CHECKING:  # avoids a circular import: the config is built with this switch
    from store.training.setting_conflicts import Conflict
    from store.training.train_config import TrainConfig

SWITCH = RunSwitch(
    "bias_check",
    "canaries",
    "Run a bias check with the built-in pairs once the run has ended",
    "store.bias.run_switch:check_task",
)


def check_task(config: TrainConfig) -> Iterator[Conflict]:
    """Yield a conflict for classifiers, for which text pairs can't be scored."""
    if config.task == "classification":
        yield (
            SWITCH.name,
            "Bias checks with text pairs are not available for classifiers. Set bias_check to false, and"
            " compare groups of rows on the evaluation page.",
        )
