"""Which linear layers of a model an adapter may change, and the sizes that the methods' formulas count with.

Names are checked before peft sees them: of several names peft ignores those that no module has.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from store.catalog.method_sizes import Sizes, TargetMatrix
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError

SHOWN = 12
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "feed_forward", "ffn")


def linears(model: Any) -> dict[str, nn.Module]:
    """The model's linear layers by their full names, without the output layer or the head."""
    tops = [model.get_output_embeddings(), *(model.get_submodule(name) for name in head_names(model))]
    left_out = {id(module) for top in tops if top is not None for module in top.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and id(module) not in left_out
    }


def head_names(model: Any) -> list[str]:
    """Full names of what a classifier has on top: everything outside the model proper, and the pooler of an
    encoder, which many checkpoints lack, so that its weights are new too. None for a causal model."""
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


def targets(model: Any, config: TrainConfig) -> list[str]:
    """Last parts of the names of the modules that `target_modules` means, in the model's order.

    Raises ConfigError for a name that no linear layer has, and names those that there are.
    """
    names_there = list(dict.fromkeys(name.rpartition(".")[2] for name in linears(model)))
    wanted = config.target_modules or "all-linear"
    if wanted == "all-linear":
        return names_there
    if wanted == "keys-values-mlp":
        wanted = _scaled(model)
    unknown = [name for name in wanted if name.rpartition(".")[2] not in names_there]
    if unknown:
        listed = ", ".join(names_there[:SHOWN]) + (
            f" and {len(names_there) - SHOWN} more" if len(names_there) > SHOWN else ""
        )
        raise ConfigError(
            f"target_modules names {', '.join(unknown)}, and the model has no such linear layer.",
            fix=f"It has {listed}. Or use all-linear.",
            field="target_modules",
        )
    return list(wanted)


def _scaled(model: Any) -> list[str]:
    """Keys, values and what leaves the MLP, as IA3's authors scale them, by the names of the architecture."""
    kind = model.config.model_type
    if kind not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        raise ConfigError(
            f"Which modules of a {kind} model are keys, values and MLP is not known.",
            fix="Name them in target_modules, or use all-linear.",
            field="target_modules",
        )
    return list(TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[kind])


def feedforward(model: Any, names: list[str]) -> list[str]:
    """Those of the modules `names` whose inputs IA3 scales, not their outputs."""
    inward_names = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(
        model.config.model_type, ["down_proj"]
    )
    return [name for name in names if name in inward_names or name.rpartition(".")[2] in inward_names]


def sizes(model: Any, config: TrainConfig) -> Sizes:
    """The sizes of a base model, on any device; `config` says which matrices are meant."""
    text = model.config.get_text_config()
    layers = decoder_layers(model)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    ends = [m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]
    embeddings = {id(p): p.numel() for module in ends for p in module.parameters()}
    meant: tuple[TargetMatrix, ...] = ()
    if "target_modules" in METHODS[config.method].fields:
        names = targets(model, config)
        inward = feedforward(model, names)
        meant = tuple(
            _matrix(name, module, _is_one_of(name, inward))
            for name, module in linears(model).items()
            if _is_one_of(name, names)
        )
    return Sizes(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        kv=width * (getattr(text, "num_key_value_heads", None) or heads),
        total=sum(parameters(p) for p in model.parameters()),
        embeddings=sum(embeddings.values()),
        layer_parameters=sum(p.numel() for p in layers[-1].parameters()),
        final=sum(p.numel() for p in final_norm(model).parameters()),
        targets=meant,
    )


def _is_one_of(name: str, wanted: list[str]) -> bool:
    """Whether peft takes the module `name` for one of those wanted."""
    return any(name == target or name.endswith(f".{target}") for target in wanted)


def _matrix(name: str, module: Any, inward: bool) -> TargetMatrix:
    short = name.rpartition(".")[2]
    if isinstance(module, Conv1D):
        return TargetMatrix(short, module.weight.shape[0], module.weight.shape[1], inward)
    return TargetMatrix(short, module.in_features, module.out_features, inward)


def parameters(weight: torch.nn.Parameter) -> int:
    """How many numbers a parameter stands for; a 4-bit one holds two in a byte."""
    state = getattr(weight, "quant_state", None)
    return int(state.shape.numel()) if state is not None else weight.numel()


def decoder_layers(model: Any) -> nn.ModuleList:
    """The stack of layers. Raises ConfigError where the model doesn't show one."""
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


def final_norm(model: Any) -> nn.Module:
    """The norm after the last layer; an empty module where there is none."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    for name in ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm"):
        norm = getattr(decoder, name, None)
        if isinstance(norm, nn.Module):
            return norm
    return nn.Identity()


def blocks(model: Any) -> list[str]:
    """Full names of the attention and MLP blocks of every layer; ConfigError where they aren't known."""
    names = {id(module): name for name, module in model.named_modules()}
    block_names = []
    for layer in decoder_layers(model):
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
