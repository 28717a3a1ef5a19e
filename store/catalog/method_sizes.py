"""How many parameters each method trains: formulas over the sizes of a model and the fields of a config.

A formula is exact, not an estimate: the count is told before a model is loaded, and tests hold it to what
training finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class MethodSettings(Protocol):
    """What the formulas read of a run's config (`store.config.training.train_config.TrainConfig`)."""

    @property
    def rank(self) -> int: ...
    @property
    def init_r(self) -> int | None: ...
    @property
    def use_dora(self) -> bool: ...
    @property
    def oft_block_size(self) -> int: ...
    @property
    def encoder_hidden_size(self) -> int | None: ...
    @property
    def num_virtual_tokens(self) -> int: ...
    @property
    def adapter_layers(self) -> int | None: ...
    @property
    def adapter_len(self) -> int: ...
    @property
    def bottleneck_size(self) -> int: ...
    @property
    def trainable_layers(self) -> int: ...
    @property
    def train_embeddings(self) -> bool: ...


@dataclass(frozen=True)
class TargetMatrix:
    """A linear layer: `width` inputs, `height` outputs; `name` is the last part of its module's name. inward:
    whether IA3 scales what enters it, not what leaves it."""

    name: str
    width: int
    height: int
    inward: bool = False


@dataclass(frozen=True)
class Sizes:
    """What the formulas count with. targets: the matrices that `target_modules` names, over all layers.

    kv: width of keys and values together of one layer's heads, each; total: parameters of the model; final:
    those of the last norm; embeddings: of the input and, where it is another matrix, the output layer.
    """

    layers: int
    hidden: int
    kv: int
    total: int
    embeddings: int
    layer_parameters: int
    final: int
    targets: tuple[TargetMatrix, ...] = ()


def of_lora(s: Sizes, config: MethodSettings) -> int:
    magnitudes = sum(m.height for m in s.targets) if config.use_dora else 0
    return sum(config.rank * (m.width + m.height) for m in s.targets) + magnitudes


def of_adalora(s: Sizes, config: MethodSettings) -> int:
    first = config.init_r or initial_rank(config.rank)
    return sum(first * (m.width + m.height + 1) for m in s.targets)


def initial_rank(final: int) -> int:
    """The rank that AdaLoRA begins with: half as much again, as its authors do (Zhang et al. 2023)."""
    return max(final + 1, final * 3 // 2)


def of_ia3(s: Sizes, _: MethodSettings) -> int:
    return sum(m.width if m.inward else m.height for m in s.targets)


def of_vera(s: Sizes, config: MethodSettings) -> int:
    return sum(config.rank + m.height for m in s.targets)


def block_size(width: int, wanted: int) -> int:
    """The divisor of `width` nearest to the block size that is wanted; of two, the larger (as peft)."""
    divisors = [n for n in range(2, width + 1) if width % n == 0]
    return min(divisors, key=lambda n: (abs(n - wanted), -n))


def of_oft(s: Sizes, config: MethodSettings) -> int:
    sizes = [(m.width, block_size(m.width, config.oft_block_size)) for m in s.targets]
    return sum(width // block * (block * (block - 1) // 2) for width, block in sizes)


def of_p_tuning(s: Sizes, config: MethodSettings) -> int:
    inner = config.encoder_hidden_size or s.hidden
    table = config.num_virtual_tokens * s.hidden
    return table + s.hidden * inner + inner + inner * inner + inner + inner * s.hidden + s.hidden


def of_llama_adapter(s: Sizes, config: MethodSettings) -> int:
    return adapted_layers(s.layers, config.adapter_layers) * (config.adapter_len * s.hidden + 1)


def adapted_layers(layers: int, wanted: int | None) -> int:
    """The number of top layers that LLaMA-Adapter changes: all but two, as its authors do."""
    return wanted or max(1, layers - 2)


def of_bottleneck(s: Sizes, config: MethodSettings) -> int:
    width = config.bottleneck_size
    return s.layers * 2 * (2 * s.hidden * width + width + s.hidden)


def of_freeze(s: Sizes, config: MethodSettings) -> int:
    top = min(config.trainable_layers, s.layers) * s.layer_parameters + s.final
    return top + (s.embeddings if config.train_embeddings else 0)
