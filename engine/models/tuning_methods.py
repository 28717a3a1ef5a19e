"""Preparation of a base model for a tuning method, with exactly that method's parameters trainable.

The linear layers that an adapter changes are determined and checked here, before peft sees their names: peft
ignores a name without a module if it gets several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    AdaptionPromptConfig,
    IA3Config,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from engine.models import adapter_weights, loading
from engine.models.adapter_weights import FINAL_SHARE, FIRST_SHARE
from engine.models.bottleneck import BottleneckConfig
from store.core.errors import ConfigError
from store.training.methods import (
    METHODS,
    Sizes,
    TargetMatrix,
    choose_block_size,
    compute_initial_rank,
    count_adapted_layers,
)
from store.training.train_config import TrainConfig

MAX_SHOWN = 12
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "feed_forward", "ffn")


def list_linear_layers(model: Any) -> dict[str, nn.Module]:
    """Return the model's linear layers by full name, without the output layer or the classification head."""
    tops = [model.get_output_embeddings(), *(model.get_submodule(name) for name in list_head_names(model))]
    left_out = {id(module) for top in tops if top is not None for module in top.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and id(module) not in left_out
    }


def list_head_names(model: Any) -> list[str]:
    """Return the full names of a classifier's head modules; empty for a causal model.

    These are everything outside the base model, and an encoder's pooler, which many checkpoints lack, so that
    its weights are new too.
    """
    if model.get_output_embeddings() is not None:
        return []
    base = model.base_model
    names = [
        name
        for name, child in model.named_children()
        if child is not base and next(child.parameters(), None) is not None
    ]
    if isinstance(getattr(base, "pooler", None), nn.Module) and base is not model:
        names.append(f"{model.base_model_prefix}.pooler")
    return names


def resolve_targets(model: Any, config: TrainConfig) -> list[str]:
    """Return the last name parts of the modules that `target_modules` selects, in the model's order.

    Raises ConfigError, listing the available names, for a name that no linear layer has.
    """
    names_there = list(dict.fromkeys(name.rpartition(".")[2] for name in list_linear_layers(model)))
    wanted = config.target_modules or "all-linear"
    if wanted == "all-linear":
        return names_there
    if wanted == "keys-values-mlp":
        wanted = _list_scaled_modules(model)
    unknown = [name for name in wanted if name.rpartition(".")[2] not in names_there]
    if unknown:
        listed = ", ".join(names_there[:MAX_SHOWN]) + (
            f" and {len(names_there) - MAX_SHOWN} more" if len(names_there) > MAX_SHOWN else ""
        )
        raise ConfigError(
            f"target_modules names {', '.join(unknown)}, and the model has no such linear layer.",
            fix=f"It has {listed}. Or use all-linear.",
            field="target_modules",
        )
    return list(wanted)


def _list_scaled_modules(model: Any) -> list[str]:
    """Return the architecture's modules that the IA3 authors scale: keys, values and the MLP's output."""
    kind = model.config.model_type
    if kind not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        raise ConfigError(
            f"Which modules of a {kind} model are keys, values and MLP is not known.",
            fix="Name them in target_modules, or use all-linear.",
            field="target_modules",
        )
    return list(TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[kind])


def select_feedforward(model: Any, names: list[str]) -> list[str]:
    """Return those of the modules `names` whose inputs, rather than outputs, IA3 scales."""
    inward_names = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(
        model.config.model_type, ["down_proj"]
    )
    return [name for name in names if name in inward_names or name.rpartition(".")[2] in inward_names]


def measure_matrix_sizes(model: Any, config: TrainConfig) -> Sizes:
    """Return the sizes of a base model, on any device; `config` selects the target matrices."""
    text = model.config.get_text_config()
    layers = find_decoder_layers(model)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    ends = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]
    embeddings = {id(p): p.numel() for module in ends for p in module.parameters()}
    meant: tuple[TargetMatrix, ...] = ()
    if "target_modules" in METHODS[config.method].fields:
        names = resolve_targets(model, config)
        inward = select_feedforward(model, names)
        meant = tuple(
            _describe_matrix(name, module, _is_one_of(name, inward))
            for name, module in list_linear_layers(model).items()
            if _is_one_of(name, names)
        )
    return Sizes(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        kv=width * (getattr(text, "num_key_value_heads", None) or heads),
        total=sum(count_parameter_values(p) for p in model.parameters()),
        embeddings=sum(embeddings.values()),
        layer_parameters=sum(p.numel() for p in layers[-1].parameters()),
        final=sum(p.numel() for p in find_final_norm(model).parameters()),
        targets=meant,
    )


def _is_one_of(name: str, wanted: list[str]) -> bool:
    """Return whether peft matches the module `name` with one of those wanted."""
    return any(name == target or name.endswith(f".{target}") for target in wanted)


def _describe_matrix(name: str, module: Any, inward: bool) -> TargetMatrix:
    short = name.rpartition(".")[2]
    if isinstance(module, Conv1D):
        return TargetMatrix(short, module.weight.shape[0], module.weight.shape[1], inward)
    return TargetMatrix(short, module.in_features, module.out_features, inward)


def count_parameter_values(weight: torch.nn.Parameter) -> int:
    """Return the number of values in a parameter; a 4-bit one stores two per byte."""
    state = getattr(weight, "quant_state", None)
    return int(state.shape.numel()) if state is not None else weight.numel()


def find_decoder_layers(model: Any) -> nn.ModuleList:
    """Return the list of layers. Raises ConfigError if it can't be found."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    stack = getattr(decoder, "encoder", None) or getattr(decoder, "transformer", None) or decoder
    for name in ("layers", "h", "block", "blocks", "layer"):
        layers = getattr(stack, name, None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise ConfigError(
        f"The layers of a {model.config.model_type} model are not known to this method.",
        fix="Use LoRA or full fine-tuning.",
        field="method",
    )


def find_final_norm(model: Any) -> nn.Module:
    """Return the norm after the last layer; an empty module if there is none."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    for name in ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm"):
        norm = getattr(decoder, name, None)
        if isinstance(norm, nn.Module):
            return norm
    return nn.Identity()


def list_block_names(model: Any) -> list[str]:
    """Return the full names of every layer's attention and MLP blocks.

    Raises ConfigError if they are unknown.
    """
    names = {id(module): name for name, module in model.named_modules()}
    block_names = []
    for layer in find_decoder_layers(model):
        parts = dict(layer.named_children())
        attention = next((parts[name] for name in ATTENTION if name in parts), None)
        mlp = next((parts[name] for name in MLP if name in parts), None)
        if attention is None or mlp is None:
            raise ConfigError(
                f"The attention and MLP blocks of a {model.config.model_type} model are not known.",
                fix="Use LoRA.",
                field="method",
            )
        block_names += [names[id(attention)], names[id(mlp)]]
    return block_names


# `store.training.methods` defines the methods; here each becomes a peft config, or a selection of the model's
# own weights.

DEFAULT_STEPS = 1_000  # for AdaLoRA's schedule if the number of steps is unknown, as when counting parameters
PEFT_HEADS = ("classifier", "score")  # heads that peft trains and saves by itself
ALLOCATIONS = 100  # AdaLoRA's rank reallocations per run


def make_trainable(
    model: Any,
    config: TrainConfig,
    dtype: torch.dtype,
    *,
    steps: int = DEFAULT_STEPS,
    start: adapter_weights.InitSources | None = None,
) -> Any:
    """Return the model with requires_grad set for exactly the method's parameters.

    Adapters are in `dtype`, not in peft's fp32: the optimiser keeps fp32 masters (`training_state.py`).

    - steps: of the whole run
    - start: inputs for non-default initializations; without it the default is used, which has the same shapes

    Raises ConfigError for target modules that the model doesn't have.
    """
    if METHODS[config.method].adapter:
        model = _add_adapter(model, config, dtype, steps)
        if start is not None and "init_lora_weights" in METHODS[config.method].fields:
            adapter_weights.set_initial_weights(model, config, start)
    else:
        _OWN_WEIGHTS[config.method](model, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _add_adapter(model: Any, config: TrainConfig, dtype: torch.dtype, steps: int) -> Any:
    try:
        wanted = build_adapter_config(model, config, steps)
        unknown_heads = [name for name in list_head_names(model) if name not in PEFT_HEADS]
        if unknown_heads and hasattr(wanted, "modules_to_save"):  # peft knows only a head's last module
            wanted.modules_to_save = unknown_heads
        model = get_peft_model(model, wanted, autocast_adapter_dtype=False)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{METHODS[config.method].title} does not work on this model: {error}",
            fix="Check target_modules, or use LoRA.",
            field="target_modules" if "target_modules" in METHODS[config.method].fields else "method",
        ) from error
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:  # AdaLoRA's rank count: not a weight
            parameter.requires_grad = False
        elif parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    loading.keep_dtype(model, config, dtype)
    return model


def build_adapter_config(model: Any, config: TrainConfig, steps: int = DEFAULT_STEPS) -> PeftConfig:
    """Build peft's config for the adapter."""
    return _CONFIGS[config.method](model, config, steps)


def _choose_task_type(config: TrainConfig) -> str:
    return "SEQ_CLS" if config.task == "classification" else "CAUSAL_LM"  # peft trains the head of the first


def _build_lora(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return LoraConfig(
        task_type=_choose_task_type(config),
        r=config.rank,
        lora_alpha=config.lora_alpha or 2 * config.rank,
        lora_dropout=config.lora_dropout,
        target_modules=resolve_targets(model, config),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def _build_adalora(model: Any, config: TrainConfig, steps: int) -> PeftConfig:
    return AdaLoraConfig(
        task_type=_choose_task_type(config),
        init_r=config.init_r or compute_initial_rank(config.rank),
        target_r=config.rank,
        lora_alpha=config.lora_alpha or 2 * config.rank,
        lora_dropout=config.lora_dropout,
        target_modules=resolve_targets(model, config),
        total_step=max(steps, 2),
        tinit=int(FIRST_SHARE * steps),
        tfinal=int(FINAL_SHARE * steps),
        deltaT=max(1, steps // ALLOCATIONS),
    )


def _build_vera(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return VeraConfig(
        task_type=_choose_task_type(config),
        r=config.rank,
        vera_dropout=config.lora_dropout,
        target_modules=resolve_targets(model, config),
        projection_prng_key=config.seed,
        save_projection=True,
    )


def _build_oft(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    names = resolve_targets(model, config)
    blocks = {
        choose_block_size(m.width, config.oft_block_size) for m in measure_matrix_sizes(model, config).targets
    }
    if len(blocks) > 1:
        raise ConfigError(
            f"Blocks of {config.oft_block_size} don't divide the inputs of all target matrices.",
            fix=f"Try {', '.join(map(str, sorted(blocks)))}, or name fewer target_modules.",
            field="oft_block_size",
        )
    return OFTConfig(
        task_type=_choose_task_type(config), r=0, oft_block_size=blocks.pop(), target_modules=names
    )


def _build_ia3(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    names = resolve_targets(model, config)
    return IA3Config(
        task_type=_choose_task_type(config),
        target_modules=names,
        feedforward_modules=select_feedforward(model, names),
    )


def _build_prompt_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PromptTuningConfig(
        task_type=_choose_task_type(config), num_virtual_tokens=config.num_virtual_tokens
    )


def _build_prefix_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PrefixTuningConfig(
        task_type=_choose_task_type(config), num_virtual_tokens=config.num_virtual_tokens
    )


def _build_p_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PromptEncoderConfig(
        task_type=_choose_task_type(config),
        num_virtual_tokens=config.num_virtual_tokens,
        encoder_hidden_size=config.encoder_hidden_size or model.config.get_text_config().hidden_size,
    )


def _build_llama_adapter(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    layers = model.config.get_text_config().num_hidden_layers
    return AdaptionPromptConfig(
        task_type=_choose_task_type(config),
        adapter_len=config.adapter_len,
        adapter_layers=count_adapted_layers(layers, config.adapter_layers),
    )


def _build_bottleneck(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    blocks = list_block_names(model)
    return BottleneckConfig(
        task_type=_choose_task_type(config),
        bottleneck_size=config.bottleneck_size,
        hidden_size=model.config.get_text_config().hidden_size,
        target_modules=blocks,
    )


_CONFIGS: dict[str, Callable[[Any, TrainConfig, int], PeftConfig]] = {
    "lora": _build_lora,
    "qlora": _build_lora,
    "adalora": _build_adalora,
    "vera": _build_vera,
    "oft": _build_oft,
    "ia3": _build_ia3,
    "prompt_tuning": _build_prompt_tuning,
    "prefix_tuning": _build_prefix_tuning,
    "p_tuning": _build_p_tuning,
    "llama_adapter": _build_llama_adapter,
    "bottleneck": _build_bottleneck,
}


def _train_all(model: Any, config: TrainConfig) -> None:
    """Leave every weight trainable, as loaded."""


def check_layers(config: TrainConfig, layers: int) -> None:
    """Raise ConfigError if the method is to change more layers than the model has."""
    for field in ("trainable_layers", "adapter_layers"):
        wanted = getattr(config, field) or 0
        if field in METHODS[config.method].fields and wanted > layers:
            raise ConfigError(
                f"{field} is {wanted}, and the model has {layers} layers.",
                fix=f"Set it to {layers} or less.",
                field=field,
            )


def _freeze(model: Any, config: TrainConfig) -> None:
    """Train only the top layers and the norm after them, and the embeddings if the config says so."""
    layers = find_decoder_layers(model)
    check_layers(config, len(layers))
    model.requires_grad_(False)
    for module in (*layers[-config.trainable_layers :], find_final_norm(model)):
        module.requires_grad_(True)
    if config.task == "classification":
        for name in list_head_names(model):
            model.get_submodule(name).requires_grad_(True)
    if config.train_embeddings:
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            if module is not None:
                module.requires_grad_(True)


_OWN_WEIGHTS: dict[str, Callable[[Any, TrainConfig], None]] = {"full": _train_all, "freeze": _freeze}


def list_trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the trainable parameters with their names, in the model's order."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def count_parameters(model: Any) -> tuple[int, int]:
    """Return (trainable, total) parameters; a 4-bit weight counts with its number of values."""
    total = sum(count_parameter_values(p) for p in model.parameters())
    return sum(p.numel() for _, p in list_trainable(model)), total


@contextmanager
def use_base_model(model: Any) -> Iterator[Any]:
    """Yield the model with its adapter disabled, as it was before training; `model` must have an adapter."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        yield model.get_base_model()
        return
    with model.disable_adapter():
        yield model
