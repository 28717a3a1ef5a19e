"""What of a run's config says how fast it is, and whether it may end early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPEED = ("dtype", "load_in_4bit", "load_in_8bit", "gradient_checkpointing", "lora_dropout")


def speed_settings(config: Mapping[str, Any]) -> str:
    """What changes how fast a step is, beside method and task; equal for runs that are alike in it."""
    return " ".join(str(config.get(field) or "") for field in SPEED)


def may_stop(config: Mapping[str, Any]) -> bool:
    """Whether a run may end before its planned steps."""
    return bool(config.get("early_stopping") or config.get("max_forgetting"))
