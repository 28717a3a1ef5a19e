"""From a base model to one with exactly the parameters of a method that are trained.

`store.catalog.methods` is the table of what there is; here each entry becomes a peft config, or a choice of
the model's own weights.
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

from engine.models import initial_weights, matrices, quantised
from engine.models.adalora import FINAL_SHARE, FIRST_SHARE
from engine.models.bottleneck import BottleneckConfig
from store.catalog.method_sizes import adapted_layers, block_size, initial_rank
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError

LARGE_STEPS = 1_000  # AdaLoRA's schedule where the number of steps is not known, as in a count of parameters
PEFT_HEADS = ("classifier", "score")  # that peft trains and saves by itself in a classifier
ALLOCATIONS = 100  # how often AdaLoRA deals rank anew over a run


def make_trainable(
    model: Any,
    config: TrainConfig,
    dtype: torch.dtype,
    *,
    steps: int = LARGE_STEPS,
    start: initial_weights.Sources | None = None,
) -> Any:
    """The model with exactly the parameters that the method trains requiring gradients.

    Adapters are in `dtype`, not in peft's fp32: the optimiser keeps fp32 masters (`optimizer.py`). steps: of
    the whole run. start: what starts other than the default are made from; without it they are left at the
    default, which has the same shapes. Raises ConfigError for target modules that the model doesn't have.
    """
    if METHODS[config.method].adapter:
        model = _with_adapter(model, config, dtype, steps)
        if start is not None and "init_lora_weights" in METHODS[config.method].fields:
            initial_weights.begin(model, config, start)
    else:
        _OWN_WEIGHTS[config.method](model, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _with_adapter(model: Any, config: TrainConfig, dtype: torch.dtype, steps: int) -> Any:
    try:
        wanted = adapter_config(model, config, steps)
        _keep_head(model, wanted)
        model = get_peft_model(model, wanted, autocast_adapter_dtype=False)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{METHODS[config.method].title} does not work on this model: {error}",
            fix="Check target_modules, or use LoRA.",
            field="target_modules" if "target_modules" in METHODS[config.method].fields else "method",
        ) from error
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:  # AdaLoRA's count of ranks: not a weight
            parameter.requires_grad = False
        elif parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    quantised.keep_dtype(model, config, dtype)
    return model


def _keep_head(model: Any, wanted: PeftConfig) -> None:
    """Have the whole head trained and saved with the adapter: of its modules peft knows the last alone."""
    unknown = [name for name in matrices.head_names(model) if name not in PEFT_HEADS]
    if unknown and hasattr(wanted, "modules_to_save"):
        wanted.modules_to_save = unknown


def adapter_config(model: Any, config: TrainConfig, steps: int = LARGE_STEPS) -> PeftConfig:
    """peft's config of the adapter."""
    return _CONFIGS[config.method](model, config, steps)


def _task_type(config: TrainConfig) -> str:
    return "SEQ_CLS" if config.task == "classification" else "CAUSAL_LM"  # peft trains the head of the first


def _lora(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return LoraConfig(
        task_type=_task_type(config),
        r=config.rank,
        lora_alpha=config.lora_alpha or 2 * config.rank,
        lora_dropout=config.lora_dropout,
        target_modules=matrices.targets(model, config),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def _adalora(model: Any, config: TrainConfig, steps: int) -> PeftConfig:
    return AdaLoraConfig(
        task_type=_task_type(config),
        init_r=config.init_r or initial_rank(config.rank),
        target_r=config.rank,
        lora_alpha=config.lora_alpha or 2 * config.rank,
        lora_dropout=config.lora_dropout,
        target_modules=matrices.targets(model, config),
        total_step=max(steps, 2),
        tinit=int(FIRST_SHARE * steps),
        tfinal=int(FINAL_SHARE * steps),
        deltaT=max(1, steps // ALLOCATIONS),
    )


def _vera(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return VeraConfig(
        task_type=_task_type(config),
        r=config.rank,
        vera_dropout=config.lora_dropout,
        target_modules=matrices.targets(model, config),
        projection_prng_key=config.seed,
        save_projection=True,
    )


def _oft(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    names = matrices.targets(model, config)
    blocks = {block_size(m.width, config.oft_block_size) for m in matrices.sizes(model, config).targets}
    if len(blocks) > 1:
        raise ConfigError(
            f"Blocks of {config.oft_block_size} don't divide the inputs of all target matrices.",
            fix=f"Try {', '.join(map(str, sorted(blocks)))}, or name fewer target_modules.",
            field="oft_block_size",
        )
    return OFTConfig(task_type=_task_type(config), r=0, oft_block_size=blocks.pop(), target_modules=names)


def _ia3(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    names = matrices.targets(model, config)
    return IA3Config(
        task_type=_task_type(config),
        target_modules=names,
        feedforward_modules=matrices.feedforward(model, names),
    )


def _prompt_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PromptTuningConfig(task_type=_task_type(config), num_virtual_tokens=config.num_virtual_tokens)


def _prefix_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PrefixTuningConfig(task_type=_task_type(config), num_virtual_tokens=config.num_virtual_tokens)


def _p_tuning(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    return PromptEncoderConfig(
        task_type=_task_type(config),
        num_virtual_tokens=config.num_virtual_tokens,
        encoder_hidden_size=config.encoder_hidden_size or model.config.get_text_config().hidden_size,
    )


def _llama_adapter(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    layers = model.config.get_text_config().num_hidden_layers
    return AdaptionPromptConfig(
        task_type=_task_type(config),
        adapter_len=config.adapter_len,
        adapter_layers=adapted_layers(layers, config.adapter_layers),
    )


def _bottleneck(model: Any, config: TrainConfig, _: int) -> PeftConfig:
    blocks = matrices.blocks(model)
    return BottleneckConfig(
        task_type=_task_type(config),
        bottleneck_size=config.bottleneck_size,
        hidden_size=model.config.get_text_config().hidden_size,
        target_modules=blocks,
    )


_CONFIGS: dict[str, Callable[[Any, TrainConfig, int], PeftConfig]] = {
    "lora": _lora,
    "qlora": _lora,
    "adalora": _adalora,
    "vera": _vera,
    "oft": _oft,
    "ia3": _ia3,
    "prompt_tuning": _prompt_tuning,
    "prefix_tuning": _prefix_tuning,
    "p_tuning": _p_tuning,
    "llama_adapter": _llama_adapter,
    "bottleneck": _bottleneck,
}


def _full(model: Any, config: TrainConfig) -> None:
    """Every weight is trained as it came."""


def check_layers(config: TrainConfig, layers: int) -> None:
    """Raise ConfigError where the method is to change more layers than the model has."""
    for field in ("trainable_layers", "adapter_layers"):
        wanted = getattr(config, field) or 0
        if field in METHODS[config.method].fields and wanted > layers:
            raise ConfigError(
                f"{field} is {wanted}, and the model has {layers} layers.",
                fix=f"Set it to {layers} or less.",
                field=field,
            )


def _freeze(model: Any, config: TrainConfig) -> None:
    """Train the top layers and the norm after them alone, and the embeddings where that is asked for."""
    layers = matrices.decoder_layers(model)
    check_layers(config, len(layers))
    model.requires_grad_(False)
    for module in (*layers[-config.trainable_layers :], matrices.final_norm(model)):
        module.requires_grad_(True)
    if config.task == "classification":
        for name in matrices.head_names(model):
            model.get_submodule(name).requires_grad_(True)
    if config.train_embeddings:
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            if module is not None:
                module.requires_grad_(True)


_OWN_WEIGHTS: dict[str, Callable[[Any, TrainConfig], None]] = {"full": _full, "freeze": _freeze}


def trainable(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and parameters that are trained, in the model's order."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, total) parameters; a 4-bit weight counts as what it stands for."""
    total = sum(matrices.parameters(p) for p in model.parameters())
    return sum(p.numel() for _, p in trainable(model)), total


@contextmanager
def base_model(model: Any) -> Iterator[Any]:
    """The model as it was before training, its adapter switched off inside; `model` must have one."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        yield model.get_base_model()
        return
    with model.disable_adapter():
        yield model
