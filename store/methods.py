"""The training methods as one table, from which form, advice, documentation, engine and tests are drawn.

A method says what it trains, how many parameters that is (as a formula over the sizes of the model), which of
the config's fields it reads, at which learning rates it is known to work, and when to choose it. What can't
work together is in `refusals.py`; how a model is built is in `engine.tuning`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from store.config import TrainConfig

Family = Literal["weights", "low rank", "scaling", "prompt", "adapter"]
Held = Literal["", "nf4", "int8"]  # how the base model's matrices lie in memory; "" as they are
HELD_TITLES: dict[Held, str] = {"": "16 or 32 bits", "nf4": "4 bits (NF4)", "int8": "8 bits"}
ANY: tuple[Held, ...] = ("", "nf4", "int8")
FAMILY_TITLES: dict[Family, str] = {
    "weights": "The model's own weights",
    "low rank": "Low-rank updates",
    "scaling": "Scaling what flows through",
    "prompt": "Trained prompts",
    "adapter": "Small networks between the layers",
}


@dataclass(frozen=True)
class Matrix:
    """A linear layer: `width` inputs, `height` outputs; `name` is the last part of its module's name."""

    name: str
    width: int
    height: int


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
    targets: tuple[Matrix, ...] = ()


@dataclass(frozen=True)
class Method:
    """One method.

    rate: learning rate by default, as (from this many parameters on, rate), ascending; rates: outside of them
    it is warned of. parameters: the trained ones. adapter: whether the base model stays as it is, so that a
    small file is the result. held: how the base may lie in memory. merges: whether the result can be written
    into the base model's weights. checkpointing: whether it allows gradient checkpointing. architectures: the
    model types that it is made for; empty for any.
    """

    title: str
    family: Family
    when: str
    fields: tuple[str, ...]
    rate: tuple[tuple[int, float], ...]
    rates: tuple[float, float]
    parameters: Callable[[Sizes, TrainConfig], int]
    formula: str
    source: str
    adapter: bool = True
    held: tuple[Held, ...] = ANY
    merges: bool = True
    checkpointing: bool = True
    architectures: tuple[str, ...] = ()

    @property
    def virtual_tokens(self) -> bool:
        """Whether it puts tokens of its own before each row."""
        return "num_virtual_tokens" in self.fields

    def learning_rate(self, parameters: int) -> float:
        """The default for a base model of that many parameters."""
        return [rate for least, rate in self.rate if parameters >= least][-1]


def rank(config: TrainConfig) -> int:
    """The rank of the config, or the method's own where it is left out."""
    return config.r or RANKS[config.method]


RANKS = {"lora": 16, "qlora": 16, "adalora": 8, "vera": 256}
FEEDFORWARD = ("down_proj", "fc2", "c_proj", "dense_4h_to_h", "w2")  # IA3 scales what enters these


def _lora(s: Sizes, config: TrainConfig) -> int:
    magnitudes = sum(m.height for m in s.targets) if config.use_dora else 0
    return sum(rank(config) * (m.width + m.height) for m in s.targets) + magnitudes


def _adalora(s: Sizes, config: TrainConfig) -> int:
    first = config.init_r or initial_rank(rank(config))
    return sum(first * (m.width + m.height + 1) for m in s.targets)


def initial_rank(final: int) -> int:
    """The rank that AdaLoRA begins with: half as much again, as its authors do (Zhang et al. 2023)."""
    return max(final + 1, final * 3 // 2)


def _ia3(s: Sizes, _: TrainConfig) -> int:
    return sum(m.width if m.name in FEEDFORWARD else m.height for m in s.targets)


def _vera(s: Sizes, config: TrainConfig) -> int:
    return sum(rank(config) + m.height for m in s.targets)


def block_size(width: int, wanted: int) -> int:
    """The divisor of `width` nearest to the block size that is wanted; of two, the larger (as peft)."""
    divisors = [n for n in range(2, width + 1) if width % n == 0]
    return min(divisors, key=lambda n: (abs(n - wanted), -n))


def _oft(s: Sizes, config: TrainConfig) -> int:
    sizes = [(m.width, block_size(m.width, config.oft_block_size)) for m in s.targets]
    return sum(width // block * (block * (block - 1) // 2) for width, block in sizes)


def _p_tuning(s: Sizes, config: TrainConfig) -> int:
    inner = config.encoder_hidden_size or s.hidden
    table = config.num_virtual_tokens * s.hidden
    return table + s.hidden * inner + inner + inner * inner + inner + inner * s.hidden + s.hidden


def _llama_adapter(s: Sizes, config: TrainConfig) -> int:
    return adapted_layers(s.layers, config.adapter_layers) * (config.adapter_len * s.hidden + 1)


def adapted_layers(layers: int, wanted: int | None) -> int:
    """The number of top layers that LLaMA-Adapter changes: all but two, as its authors do."""
    return wanted or max(1, layers - 2)


def _bottleneck(s: Sizes, config: TrainConfig) -> int:
    width = config.bottleneck_size
    return s.layers * 2 * (2 * s.hidden * width + width + s.hidden)


def _freeze(s: Sizes, config: TrainConfig) -> int:
    top = min(config.trainable_layers, s.layers) * s.layer_parameters + s.final
    return top + (s.embeddings if config.train_embeddings else 0)


MANY_TARGETS = ("target_modules",)
LORA = ("r", "lora_alpha", "lora_dropout", *MANY_TARGETS, "use_rslora", "use_dora")
START = ("init_lora_weights", "loraplus_lr_ratio")
HELD = ("load_in_4bit", "load_in_8bit")
BILLION = 1_000_000_000

METHODS: dict[str, Method] = {
    "lora": Method(
        title="LoRA", family="low rank",
        when="The first choice: quick, light, easy to undo, and close to full fine-tuning on most tasks.",
        fields=(*LORA, *START, *HELD),
        rate=((0, 1e-4), (BILLION, 2e-4)), rates=(1e-5, 2e-3),
        parameters=_lora,
        formula="rank × (inputs + outputs) of each target matrix; DoRA adds its outputs",
        source="Hu et al. 2021",
    ),
    "qlora": Method(
        title="QLoRA 4-bit", family="low rank",
        when="LoRA on a model squeezed to 4 bits. Choose it when the model is too large for the memory; it is"
        " slower, on a CPU about 2.5 times.",
        fields=(*LORA, *START),
        rate=((0, 1e-4), (BILLION, 2e-4), (13 * BILLION, 1e-4)), rates=(1e-5, 2e-3),
        parameters=_lora,
        formula="as LoRA",
        source="Dettmers et al. 2023",
        held=("nf4",),
    ),
    "full": Method(
        title="Full fine-tuning", family="weights",
        when="Trains every weight. Choose it with much data, when the model has to change a lot; it needs the"
        " most memory and forgets most easily.",
        fields=(),
        rate=((0, 2e-5), (3 * BILLION, 1e-5)), rates=(1e-6, 2e-4),
        parameters=lambda s, _: s.total,
        formula="all parameters",
        source="Howard and Ruder 2018",
        adapter=False, held=("",),
    ),
    "freeze": Method(
        title="Top layers only", family="weights",
        when="Full fine-tuning of the last layers alone. Choose it when all weights don't fit, or when little"
        " should change below the surface.",
        fields=("trainable_layers", "train_embeddings"),
        rate=((0, 2e-5), (3 * BILLION, 1e-5)), rates=(1e-6, 5e-4),
        parameters=_freeze,
        formula="parameters of the trained layers and of the last norm; of the embeddings if asked for",
        source="Lee et al. 2019",
        adapter=False, held=("",),
    ),
    "adalora": Method(
        title="AdaLoRA", family="low rank",
        when="LoRA that begins wide and keeps rank where it matters. Choose it to learn which layers need"
        " rank; it wants some hundred steps.",
        fields=("r", "init_r", "lora_alpha", "lora_dropout", *MANY_TARGETS, *HELD),
        rate=((0, 5e-4),), rates=(5e-5, 5e-3),
        parameters=_adalora,
        formula="initial rank × (inputs + outputs + 1) of each target matrix",
        source="Zhang et al. 2023",
    ),
    "vera": Method(
        title="VeRA", family="low rank",
        when="LoRA with random matrices that all layers share, of which only scales are trained. Choose it"
        " when many tuned models must be kept: its files are ten times smaller.",
        fields=("r", "lora_dropout", *MANY_TARGETS, *HELD),
        rate=((0, 4e-3),), rates=(5e-4, 5e-2),
        parameters=_vera,
        formula="rank + outputs of each target matrix",
        source="Kopiczko et al. 2024",
    ),
    "oft": Method(
        title="OFT", family="low rank",
        when="Turns the inputs of each matrix instead of adding to it, which keeps angles between neurons."
        " Choose it when what the model knew must stay; it is slower than LoRA.",
        fields=("oft_block_size", *MANY_TARGETS, *HELD),
        rate=((0, 1e-4),), rates=(1e-5, 2e-3),
        parameters=_oft,
        formula="inputs × (block size − 1) / 2 of each target matrix",
        source="Qiu et al. 2023",
    ),
    "ia3": Method(
        title="IA3", family="scaling",
        when="Trains one number for each key, value and inner channel. Choose it for very little data or very"
        " small files.",
        fields=(*MANY_TARGETS, *HELD),
        rate=((0, 5e-3),), rates=(5e-4, 5e-2),
        parameters=_ia3,
        formula="outputs of each target matrix; its inputs for the one that leaves the MLP",
        source="Liu et al. 2022",
    ),
    "prompt_tuning": Method(
        title="Prompt tuning", family="prompt",
        when="Trains some tokens that stand before every prompt. Choose it for large models with many tasks:"
        " below a billion parameters it lags behind LoRA.",
        fields=("num_virtual_tokens", *HELD),
        rate=((0, 3e-2),), rates=(1e-3, 0.3),
        parameters=lambda s, config: config.num_virtual_tokens * s.hidden,
        formula="virtual tokens × hidden size",
        source="Lester et al. 2021",
        merges=False,
    ),
    "prefix_tuning": Method(
        title="Prefix tuning", family="prompt",
        when="Trains keys and values that every layer sees before the prompt. Stronger than prompt tuning at"
        " the same cost.",
        fields=("num_virtual_tokens", *HELD),
        rate=((0, 1e-2),), rates=(1e-3, 0.1),
        parameters=lambda s, config: config.num_virtual_tokens * s.layers * 2 * s.kv,
        formula="virtual tokens × layers × 2 × width of keys",
        source="Li and Liang 2021",
        merges=False, checkpointing=False,
    ),
    "p_tuning": Method(
        title="P-tuning", family="prompt",
        when="Prompt tuning whose tokens come out of a small network, which makes them easier to train.",
        fields=("num_virtual_tokens", "encoder_hidden_size", *HELD),
        rate=((0, 1e-2),), rates=(1e-4, 0.1),
        parameters=_p_tuning,
        formula="virtual tokens × hidden size, and a network of three layers over them",
        source="Liu et al. 2021",
        merges=False,
    ),
    "llama_adapter": Method(
        title="LLaMA-Adapter", family="prompt",
        when="Prompts in the top layers behind a gate that starts closed, so that training begins at the base"
        " model. For Llama and Mistral.",
        fields=("adapter_len", "adapter_layers", *HELD),
        rate=((0, 9e-3),), rates=(1e-3, 5e-2),
        parameters=_llama_adapter,
        formula="adapted layers × (length × hidden size + 1)",
        source="Zhang et al. 2023",
        merges=False, architectures=("llama", "mistral"),
    ),
    "bottleneck": Method(
        title="Bottleneck adapters", family="adapter",
        when="Puts two small networks into each layer. As good as LoRA, yet they can't be merged, so that"
        " answers take longer.",
        fields=("bottleneck_size", *HELD),
        rate=((0, 3e-4),), rates=(1e-5, 3e-3),
        parameters=_bottleneck,
        formula="layers × 2 × (2 × hidden size × width + width + hidden size)",
        source="Houlsby et al. 2019",
        merges=False,
    ),
}  # fmt: skip

METHOD_FIELDS: tuple[str, ...] = tuple(dict.fromkeys(name for m in METHODS.values() for name in m.fields))
