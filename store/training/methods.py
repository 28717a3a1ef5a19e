"""Table of training methods, parameter counts of each method, and encoder model types.

The table is the source for form, advice, documentation, engine and tests. A method states what it trains, how
many parameters that is, which config fields it reads, at which learning rates it is known to work, when to
choose it, and all that it can and can't do. Other code doesn't depend on method names, except for
`engine.models.tuning_methods`, which builds the methods. Reasons why settings can't be combined are in
`setting_conflicts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

# Formulas for the number of trained parameters, from the sizes of a model and the fields of a config.
#
# A formula is exact, not an estimate: the count is shown before a model is loaded, and tests compare it with
# actual training.


class MethodSettings(Protocol):
    """Fields of a run's config that the formulas read (`store.training.train_config.TrainConfig`)."""

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
    """A linear layer with `width` inputs and `height` outputs.

    name: the last part of its module's name. inward: whether IA3 scales its input instead of its output.
    """

    name: str
    width: int
    height: int
    inward: bool = False


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model for the formulas.

    targets: the matrices named by `target_modules`, over all layers. kv: total width of one layer's key
    heads, equal to that of its value heads. total: parameters of the model. final: parameters of the last
    norm. embeddings: parameters of the input and, if separate, the output embedding.
    """

    layers: int
    hidden: int
    kv: int
    total: int
    embeddings: int
    layer_parameters: int
    final: int
    targets: tuple[TargetMatrix, ...] = ()


def count_lora(s: Sizes, config: MethodSettings) -> int:
    magnitudes = sum(m.height for m in s.targets) if config.use_dora else 0
    return sum(config.rank * (m.width + m.height) for m in s.targets) + magnitudes


def count_adalora(s: Sizes, config: MethodSettings) -> int:
    first = config.init_r or compute_initial_rank(config.rank)
    return sum(first * (m.width + m.height + 1) for m in s.targets)


def compute_initial_rank(final: int) -> int:
    """Return AdaLoRA's initial rank: 1.5 times the final rank, as in its paper (Zhang et al. 2023)."""
    return max(final + 1, final * 3 // 2)


def count_ia3(s: Sizes, _: MethodSettings) -> int:
    return sum(m.width if m.inward else m.height for m in s.targets)


def count_vera(s: Sizes, config: MethodSettings) -> int:
    return sum(config.rank + m.height for m in s.targets)


def choose_block_size(width: int, wanted: int) -> int:
    """Return the divisor of `width` nearest to the wanted block size; of two, the larger (as peft)."""
    divisors = [n for n in range(2, width + 1) if width % n == 0]
    return min(divisors, key=lambda n: (abs(n - wanted), -n))


def count_oft(s: Sizes, config: MethodSettings) -> int:
    sizes = [(m.width, choose_block_size(m.width, config.oft_block_size)) for m in s.targets]
    return sum(width // block * (block * (block - 1) // 2) for width, block in sizes)


def count_p_tuning(s: Sizes, config: MethodSettings) -> int:
    inner = config.encoder_hidden_size or s.hidden
    table = config.num_virtual_tokens * s.hidden
    return table + s.hidden * inner + inner + inner * inner + inner + inner * s.hidden + s.hidden


def count_llama_adapter(s: Sizes, config: MethodSettings) -> int:
    return count_adapted_layers(s.layers, config.adapter_layers) * (config.adapter_len * s.hidden + 1)


def count_adapted_layers(layers: int, wanted: int | None) -> int:
    """Return the number of top layers that LLaMA-Adapter changes: all but two by default, as in its paper."""
    return wanted or max(1, layers - 2)


def count_bottleneck(s: Sizes, config: MethodSettings) -> int:
    width = config.bottleneck_size
    return s.layers * 2 * (2 * s.hidden * width + width + s.hidden)


def count_freeze(s: Sizes, config: MethodSettings) -> int:
    top = min(config.trainable_layers, s.layers) * s.layer_parameters + s.final
    return top + (s.embeddings if config.train_embeddings else 0)


# Encoders can't generate text and support only classification with a head.
#
# A model is identified by the `model_type` of its config, or by the class that its config names. Tests check
# each of these against transformers: that it has a classifier, and no position ids unknown to the engine.

ENCODERS = frozenset({
    "albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "rembert", "roberta", "roberta-prelayernorm",
    "roformer", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip
# Position ids of these start after the padding token's id, which leaves fewer positions for a row.
SHIFTED = frozenset({
    "camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip


def is_encoder_type(model_type: str) -> bool:
    """Return whether the model type is an encoder; "DebertaV2" is recognized as "deberta-v2"."""
    return _fold_name(model_type) in _FOLDED


def _fold_name(model_type: str) -> str:
    return model_type.lower().replace("-", "").replace("_", "")


_FOLDED = frozenset(map(_fold_name, ENCODERS))


Family = Literal["weights", "low rank", "scaling", "prompt", "adapter"]
Quantisation = Literal["", "nf4", "int8"]  # of the base model's matrices in memory; "" for unquantized
QUANTISATION_TITLES: dict[Quantisation, str] = {"": "16 or 32 bits", "nf4": "4 bits (NF4)", "int8": "8 bits"}
ANY: tuple[Quantisation, ...] = ("", "nf4", "int8")
FAMILY_TITLES: dict[Family, str] = {
    "weights": "The model's own weights",
    "low rank": "Low-rank updates",
    "scaling": "Scaling what flows through",
    "prompt": "Trained prompts",
    "adapter": "Small networks between the layers",
}


@dataclass(frozen=True)
class Method:
    """A training method.

    rate: default learning rates as (minimum number of parameters, rate), ascending. rates: range outside of
    which a warning is shown. parameters: number of trained parameters. adapter: whether the base model stays
    unchanged, so that the result is a small file. held: supported precisions of the base model. merges:
    whether the result can be merged into the base model's weights. checkpointing: whether it supports
    gradient checkpointing. architectures: supported model types; empty for any. encoders: whether it works on
    encoders.

    Defaults of the method: rank of its updates, targets (`target_modules`), holds (precision of the base
    model if the config doesn't set it). ranks: range outside of which a warning is shown. int8: whether it
    can train on an 8-bit base, for methods that support this precision. further: whether the saved result can
    be trained further (False if it contains only what inference needs). allocates: whether it reallocates
    rank between steps.

    Interpolation from base to tuned model: factor names the parameters on which an adapter's change depends
    linearly, factor_start is their value in the base model; for full weights, every parameter counts.
    no_line: why interpolation is not possible.
    """

    title: str
    family: Family
    when: str
    fields: tuple[str, ...]
    rate: tuple[tuple[int, float], ...]
    rates: tuple[float, float]
    parameters: Callable[[Sizes, MethodSettings], int]
    formula: str
    source: str
    adapter: bool = True
    held: tuple[Quantisation, ...] = ANY
    merges: bool = True
    checkpointing: bool = True
    architectures: tuple[str, ...] = ()
    encoders: bool = True
    rank: int | None = None
    ranks: tuple[int, int] | None = None
    targets: str = "all-linear"
    holds: Quantisation = ""
    int8: bool = True
    further: bool = True
    allocates: bool = False
    factor: str = ""
    factor_start: float = 0.0
    no_line: str = ""

    @property
    def name(self) -> str:
        """The title without the precision of the base model."""
        return self.title.split(" 4-bit")[0]

    @property
    def virtual_tokens(self) -> bool:
        """Whether it puts virtual tokens before each row."""
        return "num_virtual_tokens" in self.fields

    def fits(self, model_type: str) -> bool:
        """Return whether it works on models of that type; an empty (unknown) type may work."""
        made_for = not self.architectures or not model_type or model_type in self.architectures
        return made_for and (self.encoders or not is_encoder_type(model_type))

    def learning_rate(self, parameters: int) -> float:
        """Return the default learning rate for a base model with that many parameters."""
        return [rate for least, rate in self.rate if parameters >= least][-1]


MANY_TARGETS = ("target_modules",)
LORA = ("r", "lora_alpha", "lora_dropout", *MANY_TARGETS, "use_rslora", "use_dora")
START = ("init_lora_weights", "loraplus_lr_ratio")
QUANTISATIONS = ("load_in_4bit", "load_in_8bit")
BILLION = 1_000_000_000
RANKS = (2, 256)  # from the LoRA papers and Biderman et al. 2024, who match full fine-tuning at 256
WHOLE_PROMPT = "its trained prompts precede each row, and an interpolated prompt was never trained"
# recommended by default, if memory is short, and with much data
FIRST_METHOD, LIGHT_METHOD, WHOLE_METHOD = "lora", "qlora", "full"
TAKEN_APART = ("pissa", "olora")  # LoRA initializations that add a frozen adapter to the trained one

METHODS: dict[str, Method] = {
    "lora": Method(
        title="LoRA", family="low rank",
        when="The first choice: quick, light, easy to undo, and close to full fine-tuning on most tasks.",
        fields=(*LORA, *START, *QUANTISATIONS),
        rate=((0, 1e-4), (BILLION, 2e-4)), rates=(1e-5, 2e-3),
        parameters=count_lora,
        formula="rank × (inputs + outputs) of each target matrix; DoRA adds its outputs",
        source="Hu et al. 2021",
        rank=16, ranks=RANKS, factor="lora_B.",
    ),
    "qlora": Method(
        title="QLoRA 4-bit", family="low rank",
        when="LoRA on a model squeezed to 4 bits. Choose it when the model is too large for the memory; it is"
        " slower, on a CPU about 1.5 times.",
        fields=(*LORA, *START),
        rate=((0, 1e-4), (BILLION, 2e-4), (13 * BILLION, 1e-4)), rates=(1e-5, 2e-3),
        parameters=count_lora,
        formula="as LoRA",
        source="Dettmers et al. 2023",
        held=("nf4",),
        rank=16, ranks=RANKS, holds="nf4", factor="lora_B.",
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
        parameters=count_freeze,
        formula="parameters of the trained layers and of the last norm; of the embeddings if asked for",
        source="Lee et al. 2019",
        adapter=False, held=("",),
    ),
    "adalora": Method(
        title="AdaLoRA", family="low rank",
        when="LoRA that starts with a high rank and prunes it where it matters least. Shows which layers"
            " need rank; needs a few hundred steps.",
        fields=("r", "init_r", "lora_alpha", "lora_dropout", *MANY_TARGETS, *QUANTISATIONS),
        rate=((0, 5e-4),), rates=(5e-5, 5e-3),
        parameters=count_adalora,
        formula="initial rank × (inputs + outputs + 1) of each target matrix",
        source="Zhang et al. 2023",
        rank=8, int8=False, further=False, allocates=True, factor="lora_E.",
    ),
    "vera": Method(
        title="VeRA", family="low rank",
        when="LoRA with shared random matrices, of which only scales are trained. For storing many tuned"
            " models: its files are ten times smaller.",
        fields=("r", "lora_dropout", *MANY_TARGETS, *QUANTISATIONS),
        rate=((0, 4e-3),), rates=(5e-4, 5e-2),
        parameters=count_vera,
        formula="rank + outputs of each target matrix",
        source="Kopiczko et al. 2024",
        rank=256, int8=False, factor="vera_lambda_b.",
    ),
    "oft": Method(
        title="OFT", family="low rank",
        when="Rotates the inputs of each matrix instead of adding to it, which preserves angles between"
            " neurons. For keeping existing knowledge; slower than LoRA.",
        fields=("oft_block_size", *MANY_TARGETS, *QUANTISATIONS),
        rate=((0, 1e-4),), rates=(1e-5, 2e-3),
        parameters=count_oft,
        formula="inputs × (block size − 1) / 2 of each target matrix",
        source="Qiu et al. 2023",
        no_line="it rotates weights, and an interpolation of two rotations is not a rotation",
    ),
    "ia3": Method(
        title="IA3", family="scaling",
        when="Trains one number for each key, value and inner channel. Choose it for very little data or very"
        " small files.",
        fields=(*MANY_TARGETS, *QUANTISATIONS),
        rate=((0, 5e-3),), rates=(5e-4, 5e-2),
        parameters=count_ia3,
        formula="outputs of each target matrix; its inputs for the one that leaves the MLP",
        source="Liu et al. 2022",
        targets="keys-values-mlp", factor="ia3_l.", factor_start=1.0,
    ),
    "prompt_tuning": Method(
        title="Prompt tuning", family="prompt",
        when="Trains virtual tokens that precede every prompt. For large models with many tasks; below a"
            " billion parameters it is worse than LoRA.",
        fields=("num_virtual_tokens", *QUANTISATIONS),
        rate=((0, 3e-2),), rates=(1e-3, 0.3),
        parameters=lambda s, config: config.num_virtual_tokens * s.hidden,
        formula="virtual tokens × hidden size",
        source="Lester et al. 2021",
        merges=False, encoders=False,
        no_line=WHOLE_PROMPT,
    ),
    "prefix_tuning": Method(
        title="Prefix tuning", family="prompt",
        when="Trains keys and values that every layer sees before the prompt. Stronger than prompt tuning at"
        " the same cost.",
        fields=("num_virtual_tokens", *QUANTISATIONS),
        rate=((0, 1e-2),), rates=(1e-3, 0.1),
        parameters=lambda s, config: config.num_virtual_tokens * s.layers * 2 * s.kv,
        formula="virtual tokens × layers × 2 × width of keys",
        source="Li and Liang 2021",
        merges=False, encoders=False, checkpointing=False,
        no_line=WHOLE_PROMPT,
    ),
    "p_tuning": Method(
        title="P-tuning", family="prompt",
        when="Prompt tuning whose tokens come out of a small network, which makes them easier to train.",
        fields=("num_virtual_tokens", "encoder_hidden_size", *QUANTISATIONS),
        rate=((0, 1e-2),), rates=(1e-4, 0.1),
        parameters=count_p_tuning,
        formula="virtual tokens × hidden size, and a network of three layers over them",
        source="Liu et al. 2021",
        merges=False, encoders=False,
        further=False, no_line=WHOLE_PROMPT,
    ),
    "llama_adapter": Method(
        title="LLaMA-Adapter", family="prompt",
        when="Prompts in the top layers behind a gate that starts closed, so that training begins at the base"
        " model. For Llama and Mistral.",
        fields=("adapter_len", "adapter_layers", *QUANTISATIONS),
        rate=((0, 9e-3),), rates=(1e-3, 5e-2),
        parameters=count_llama_adapter,
        formula="adapted layers × (length × hidden size + 1)",
        source="Zhang et al. 2023",
        merges=False, architectures=("llama", "mistral"), encoders=False,
        further=False, no_line=WHOLE_PROMPT,
    ),
    "bottleneck": Method(
        title="Bottleneck adapters", family="adapter",
        when="Puts two small networks into each layer. As good as LoRA, yet they can't be merged, so that"
        " answers take longer.",
        fields=("bottleneck_size", *QUANTISATIONS),
        rate=((0, 3e-4),), rates=(1e-5, 3e-3),
        parameters=count_bottleneck,
        formula="layers × 2 × (2 × hidden size × width + width + hidden size)",
        source="Houlsby et al. 2019",
        merges=False, encoders=False,
        no_line="its networks add to the layers and change no weight of the base model",
    ),
}  # fmt: skip

METHOD_FIELDS: tuple[str, ...] = tuple(dict.fromkeys(name for m in METHODS.values() for name in m.fields))
