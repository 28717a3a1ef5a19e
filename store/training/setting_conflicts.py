"""Settings that can't be combined, with reasons: disabled in the form, rejected everywhere else.

Also checks whether lm-evaluation-harness is installed, whose tasks can be probes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from store.core.features import resolve_name
from store.training.methods import METHODS, QUANTISATION_TITLES, TAKEN_APART, is_encoder_type
from store.training.run_switches import list_run_switches
from store.training.train_config import TrainConfig

MISSING = "Tasks are those of lm-evaluation-harness, which is not installed."
COMMAND = "pip install 'tunebench[tasks]'"
INSTALL = f"Install it with: {COMMAND}; then restart Tunebench."


def has_harness() -> bool:
    """Return whether the harness can be imported, without importing it."""
    return importlib.util.find_spec("lm_eval") is not None


Conflict = tuple[str, str]


def list_conflicts(config: TrainConfig, model_type: str = "") -> list[Conflict]:
    """Return (field, reason and fix) of every combination in `config` that can't work.

    model_type: from the base model's config, empty if unknown.
    """
    parts = (
        _check_quantisation(config),
        _check_start(config),
        _check_shape(config, model_type),
        check_encoder(config, model_type),
    )
    others = _check_replay(config), _check_probes(config), _check_canaries(config), _check_switches(config)
    return [refusal for part in (*parts, *others) for refusal in part]


def explain_refused_change(config: TrainConfig, field: str, value: object) -> str:
    """Return why `field` can't be set to `value` in this config; empty if it can."""
    changed = config.model_copy(update={field: value})
    before = {reason for _, reason in list_conflicts(config)}
    return next((why for _, why in list_conflicts(changed) if why not in before), "")


def _check_quantisation(config: TrainConfig) -> Iterator[Conflict]:
    method = METHODS[config.method]
    field = "load_in_8bit" if config.load_in_8bit else "load_in_4bit"
    if config.load_in_4bit and config.load_in_8bit:
        yield "load_in_8bit", "A model is loaded in 4 or in 8 bits, not in both. Switch one off."
    elif config.held not in method.held:
        held = QUANTISATION_TITLES[config.held]
        if method.holds:
            yield field, f"{method.name} loads the base model in 4 bits, not in {held}. For 8 bits use LoRA."
        else:
            yield (
                field,
                f"{method.title} trains the model's weights, which it can't in {held}. Take LoRA.",
            )
    elif config.held == "int8" and not method.int8:
        yield field, f"{method.title} can't be trained on 8-bit weights. Use load_in_4bit, or neither."
    elif config.held == "int8" and "use_dora" in method.fields and config.use_dora:
        yield "use_dora", "DoRA can't be trained on 8-bit weights. Use load_in_4bit, or neither."


def _check_start(config: TrainConfig) -> Iterator[Conflict]:
    if "init_lora_weights" not in METHODS[config.method].fields:
        return
    start = config.init_lora_weights
    if start in TAKEN_APART and config.held:
        yield (
            "init_lora_weights",
            f"{start} starts from the base model's exact weights, which a model in"
            f" {QUANTISATION_TITLES[config.held]}"
            " doesn't have. Use loftq or default.",
        )
    if start in TAKEN_APART and config.use_dora:
        yield "use_dora", f"DoRA and the start {start} both decompose the weights. Choose one."
    if start == "loftq" and config.held != "nf4":
        yield (
            "init_lora_weights",
            "loftq makes up for what 4-bit weights lose, and this run doesn't load 4-bit weights. Use method"
            " qlora, or another start.",
        )


def _check_shape(config: TrainConfig, model_type: str) -> Iterator[Conflict]:
    method = METHODS[config.method]
    if "init_r" in method.fields and config.init_r is not None and config.init_r <= config.rank:
        yield (
            "init_r",
            f"{method.title} begins wider than it ends: init_r {config.init_r}, r {config.rank}."
            " Raise init_r.",
        )
    if config.gradient_checkpointing and not method.checkpointing:
        yield (
            "gradient_checkpointing",
            f"{method.title} uses trained keys and values, which gradient checkpointing would drop. Turn it"
            " off.",
        )
    if (
        method.architectures
        and model_type not in ("", *method.architectures)
        and not is_encoder_type(model_type)
    ):
        made_for = " and ".join(method.architectures)
        yield "method", f"{method.title} is made for {made_for}, not for {model_type}. Take LoRA."


def _check_replay(config: TrainConfig) -> Iterator[Conflict]:
    method = METHODS[config.method]
    if config.replay_share and config.task != "sft":
        why = "A classifier has a head in place of the output layer, so that it can't be trained on texts."
        if config.task == "dpo":
            why = (
                "Preference tuning already limits the distance to the base model by beta, and its rows are"
                " pairs."
            )
        yield "replay_share", f"{why} Set replay_share to 0."
    if config.replay_dataset and not config.replay_share:
        yield (
            "replay_dataset",
            f"No row of {config.replay_dataset} would be replayed: replay_share is 0. Set it to 0.05, or"
            " empty replay_dataset.",
        )
    if config.kl_beta and not config.replay_share:
        yield (
            "kl_beta",
            "The distance to the base model is measured on replayed rows, and replay_share is 0. Set it to"
            " 0.05, or kl_beta to 0.",
        )
    if config.kl_beta and not method.adapter:
        yield (
            "kl_beta",
            f"{method.title} changes the base model itself, and a second copy as a reference would double"
            " its memory. Use LoRA, or replay the base's own texts without kl_beta: their loss has a"
            " similar effect.",
        )


def _check_probes(config: TrainConfig) -> Iterator[Conflict]:
    for field, what, can in (
        ("probe_datasets", "data sets", "nothing can be measured of other data sets"),
        ("probe_tasks", "tasks", "it can't be asked tasks"),
    ):
        if not getattr(config, field):
            continue
        if not config.probes:
            yield (
                field,
                f"Nothing is measured of {what} while probes is false. Set it to true, or empty {field}.",
            )
        if config.task == "classification":
            yield (field, f"A classifier has a head in place of its words, so that {can}. Empty {field}.")
    if config.probe_tasks and not has_harness():
        yield "probe_tasks", f"probe_tasks can't be asked. {MISSING} {INSTALL}"


def _check_canaries(config: TrainConfig) -> Iterator[Conflict]:
    if config.canaries and config.task != "sft":
        kind = "pairs of answers" if config.task == "dpo" else "texts with labels"
        yield (
            "canaries",
            f"A canary is a question with its answer, and this run trains on {kind}. Set canaries to 0.",
        )


def _check_switches(config: TrainConfig) -> Iterator[Conflict]:
    for switch in list_run_switches():
        if getattr(config, switch.name):
            yield from resolve_name(switch.check)(config)


def check_encoder(config: TrainConfig, model_type: str) -> Iterator[Conflict]:
    """Yield conflicts of settings that an encoder doesn't support."""
    if not is_encoder_type(model_type):
        return
    method = METHODS[config.method]
    if config.task != "classification":
        yield (
            "task",
            f"A {model_type} model is an encoder: it reads text and can't write any. Set task to"
            " classification, or choose a causal language model.",
        )
    if not method.encoders:
        yield (
            "method",
            f"{method.title} is made for models that write text, and {model_type} is an encoder. Take LoRA or"
            " full fine-tuning.",
        )
