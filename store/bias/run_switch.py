"""The switch of a run's config that asks for a bias check once the run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from store.core.features import RunSwitch

if TYPE_CHECKING:  # the config is made with this switch
    from store.training.setting_conflicts import Conflict
    from store.training.train_config import TrainConfig

SWITCH = RunSwitch(
    "bias_check",
    "canaries",
    "Run a bias check with the built-in pairs once the run has ended",
    "store.bias.run_switch:check_task",
)


def check_task(config: TrainConfig) -> Iterator[Conflict]:
    """A classifier can't be asked."""
    if config.task == "classification":
        yield (
            SWITCH.name,
            "Bias checks with text pairs are not available for classifiers. Set bias_check to false, and"
            " compare groups of rows on the evaluation page.",
        )
