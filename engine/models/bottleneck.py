"""Bottleneck adapters (Houlsby et al. 2019) as a peft method.

They follow the attention and the MLP of every layer, before the output is added to the residual stream:

y + W_up gelu(W_down y + b_down) + b_up

W_up and b_up are initialized to zero, so that training starts at the base model. peft saves, loads, disables
and counts them as it does its own methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

NAME: Any = "BOTTLENECK"  # peft's enum of methods can't be extended, and its members compare as strings
PREFIX = "bottleneck_"


@dataclass
class BottleneckConfig(PeftConfig):
    """Config of bottleneck adapters.

    - bottleneck_size: width of the bottleneck
    - hidden_size: hidden size of the model
    - target_modules: blocks that the adapters follow
    """

    bottleneck_size: int = 64
    hidden_size: int = 0
    target_modules: list[str] = field(default_factory=list)
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = NAME


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A block followed by its adapter. The block may return a tensor or a tuple that starts with one."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict({})
        self.bottleneck_up = nn.ModuleDict({})
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that is initially the identity, with the device and dtype of the block's weights."""
        near = next(p for p in self.base_layer.parameters())
        dtype = near.dtype if near.dtype.is_floating_point else torch.float32
        down = nn.Linear(config.hidden_size, config.bottleneck_size, device=near.device, dtype=dtype)
        up = nn.Linear(config.bottleneck_size, config.hidden_size, device=near.device, dtype=dtype)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the block's output, changed by the active adapter."""
        out = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return out
        hidden = out[0] if isinstance(out, tuple) else out
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = self.bottleneck_down[name], self.bottleneck_up[name]
                inner = F.gelu(down(hidden.to(down.weight.dtype)))
                hidden = hidden + up(inner).to(hidden.dtype)
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden


class BottleneckModel(BaseTuner):
    """Tuner that adds adapters after the blocks named in the config."""

    prefix: str = PREFIX
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: Any = MappingProxyType({})  # the config always names the modules

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        setattr(parent, target_name, BottleneckLayer(target, adapter_name, peft_config))


def register() -> None:
    """Register the method with peft; repeated calls have no effect."""
    PEFT_TYPE_TO_CONFIG_MAPPING[NAME] = BottleneckConfig
    PEFT_TYPE_TO_TUNER_MAPPING[NAME] = BottleneckModel
    PEFT_TYPE_TO_PREFIX_MAPPING[NAME] = PREFIX


register()
