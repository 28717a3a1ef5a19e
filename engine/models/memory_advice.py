"""Changes to a config that lower its run's memory use.

Doesn't import torch, so that checks of a config don't need it.
"""

from __future__ import annotations

from store.training.methods import FIRST_METHOD, LIGHT_METHOD, METHODS
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import UNSET_RATE, TrainConfig

ConfigChange = dict[str, str | int | bool | None]  # fields of a config with their new values
MIN_LENGTH = 32  # tokens; rows are not truncated below this


def advise_change(config: TrainConfig, device: str, *, dealt: bool) -> tuple[str, str, ConfigChange | None]:
    """Advise how to lower memory use on this device type (cpu, cuda).

    Returns a sentence, the first field to change, and the first change, which may be None. `dealt`:
    micro-batches are built by tokens, so that a smaller size changes nothing.
    """
    changes = _list_smaller_configs(config, device, dealt=dealt)
    change = next((change for _, change in changes if change), None)
    text = ", or ".join(text for text, _ in changes)
    sentence = f"{text[0].upper()}{text[1:]}."  # capitalize() would lowercase the rest
    return sentence, next(iter(change or ["max_length"])), change


def _list_smaller_configs(config: TrainConfig, device: str, *, dealt: bool) -> list[tuple[str, ConfigChange]]:
    """Return changes that a launch would accept, in words and as config fields, smallest first."""
    changes: list[tuple[str, ConfigChange]] = []
    if config.per_device_train_batch_size > 1 and not dealt:
        half = config.per_device_train_batch_size // 2
        twice = config.gradient_accumulation_steps * 2
        changes.append((
            f"set per_device_train_batch_size to {half} and gradient_accumulation_steps to {twice}",
            {"per_device_train_batch_size": half, "gradient_accumulation_steps": twice},
        ))  # fmt: skip
    if not config.gradient_checkpointing:
        changes.append(("switch gradient_checkpointing on", {"gradient_checkpointing": True}))
    half = (config.max_length or 0) // 2
    shorter: ConfigChange = {"max_length": half} if half >= MIN_LENGTH else {}
    changes.append(("lower max_length", shorter))
    method = METHODS[config.method]
    if not method.adapter:
        lora: ConfigChange = {"method": FIRST_METHOD, **UNSET_RATE}
        changes.append(("train a LoRA adapter in place of the model's weights", lora))
    elif not config.held and device == "cuda" and "nf4" in method.held:
        in_4_bits: ConfigChange = (
            {"load_in_4bit": True} if "load_in_4bit" in method.fields else {"method": LIGHT_METHOD}
        )
        changes.append(("load the base model in 4 bits", in_4_bits))
    before = set(list_conflicts(config))
    return [
        (text, change)
        for text, change in changes
        if set(list_conflicts(config.model_copy(update=change))) <= before
    ]
