"""An export's files beside what the model's say, by name: settings, tokenizer, tensors, before any answer.

Answers to drawn rows can't show what they don't touch: a token that ends them elsewhere, a default of
sampling, a rare token, a context that was cut. Each difference is a sentence that names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.diagnostics.phrasing import plural
from engine.models.tokenizer_limits import MAX_MIB
from engine.shipping.model_settings import ModelSettings
from engine.shipping.parity.tokens_by_id import differing_tokens
from store.contract.jobdir import read_json
from store.documents.shipping.export_manifest import TensorSum, WrittenWeights

MAX_NAMED = 4  # differences of a file that are named one by one
MAX_VALUE = 60  # characters of a value that are shown
TOKENIZER = "tokenizer.json"
DOCUMENTS = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", TOKENIZER,
)  # fmt: skip
TEXTS = ("chat_template.jinja", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
# Beside those, what some reader loads without being told to. Of a folder every file.
LOADED = (
    "chat_template.json", "*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.h5", "*.msgpack", "custom_generate",
    "additional_chat_templates", "modules.json",
)  # fmt: skip
# What changes no number and no token: where a file lay, who wrote it, what only training reads.
SILENT = {
    "_name_or_path", "name_or_path", "transformers_version", "peft_version", "_from_model_config",
    "use_cache",
    "output_attentions", "output_hidden_states", "return_dict", "initializer_range", "attention_dropout",
    "hidden_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop", "lora_dropout", "inference_mode", "is_local",
    "local_files_only", "backend", "tokenizer_file", "vocab_file", "quantization_config", "pretraining_tp",
    "init_lora_weights",
}  # fmt: skip
UNORDERED = {"target_modules", "modules_to_save", "extra_special_tokens", "additional_special_tokens"}
NOT_THERE = "not there"


def differing_files(expected: Path, export: Path, *, of_others: bool) -> list[str]:
    """How settings and tokenizer of the export differ. of_others: another release wrote them, which names
    some fields otherwise; those that both have are compared."""
    causes: list[str] = []
    for name in DOCUMENTS:
        causes += _of_document(name, expected / name, export / name, of_others=of_others)
    for name in TEXTS:
        own, other = expected / name, export / name
        if own.exists() and not other.exists():
            causes.append(f"The file {name} is missing.")
        elif other.exists() and not _same_bytes(own, other):
            is_template = name == "chat_template.jinja"
            causes.append(f"{name}: the {'chat template' if is_template else 'file'} isn't the model's.")
    return causes + _of_loaded(_loaded_files(expected), _loaded_files(export))


def _loaded_files(folder: Path) -> dict[str, Path]:
    """What some reader loads by itself, by its path within the folder."""
    paths = [path for pattern in LOADED for path in folder.glob(pattern)]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return {str(file.relative_to(folder)): file for file in files if not file.is_dir()}


def _of_loaded(own: Mapping[str, Path], other: Mapping[str, Path]) -> list[str]:
    """There must be none but those that the model has too: further chat templates of its tokenizer."""
    causes = []
    for name in sorted({**own, **other}):
        if name not in own:
            causes.append(f"The file {name} is none of the model's, and some readers load it.")
        elif name not in other:
            causes.append(f"The file {name} is missing.")
        elif not _same_bytes(own[name], other[name]):
            causes.append(f"{name}: the file isn't the model's.")
    return causes


def _same_bytes(own: Path, other: Path) -> bool:
    if not own.exists() or own.stat().st_size != other.stat().st_size:
        return False
    return own.read_bytes() == other.read_bytes()


def _of_document(name: str, expected: Path, export: Path, *, of_others: bool) -> list[str]:
    """Of a file that somebody else may have written: too large, too deep or no object is a difference too."""
    own = read_json(expected)
    if (
        export.exists()
        and export.stat().st_size > MAX_MIB.get(name, MAX_MIB["tokenizer_config.json"]) * 2**20
    ):
        return [f"The file {name} is larger than any that is read."]
    try:
        other = read_json(export)
        if other is not None and not isinstance(other, dict):
            raise ValueError("no object")
        return _differing(name, own, other, of_others=of_others)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return [f"The file {name} is not JSON of its kind."]


def _differing(
    name: str, own: ModelSettings | None, other: ModelSettings | None, *, of_others: bool
) -> list[str]:
    if own is None or other is None:
        if (own is None and other is None) or of_others:
            return []
        return [
            f"The file {name} is missing."
            if other is None
            else f"The file {name} is none of the model's, and readers load it."
        ]
    if name == TOKENIZER:
        return differing_tokens(own, other)
    differing = list(differing_fields(own, other, both=of_others))
    return named([f"{name}: {each}" for each in differing], "fields")


def named(differing: list[str], what: str) -> list[str]:
    """The first MAX_NAMED, and how many more there are."""
    more = len(differing) - MAX_NAMED
    rest = [f"{differing[0].split(':')[0]}: {more:,} more {what}."] if more > 0 else []
    return differing[:MAX_NAMED] + rest


def differing_fields(own: Any, other: Any, at: str = "", *, both: bool = False) -> Iterator[str]:
    """Each value that differs: "rope_theta is 500 in the export, 10000 in the model"."""
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*own, *other]):
            if key in SILENT or (both and (key not in own or key not in other)):
                continue
            path = f"{at}.{key}" if at else str(key)
            yield from differing_fields(own.get(key), other.get(key), path, both=both)
    elif not _equal(at, own, other):
        yield f"{at} is {_as_text(other)} in the export, {_as_text(own)} in the model."


def _equal(at: str, own: Any, other: Any) -> bool:
    if at.rpartition(".")[2] in UNORDERED and isinstance(own, list) and isinstance(other, list):
        return sorted(map(str, own)) == sorted(map(str, other))
    return type(own) is type(other) and own == other if isinstance(own, bool) else bool(own == other)


def _as_text(value: Any) -> str:
    if value is None:
        return NOT_THERE
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def differing_weights(written: WrittenWeights, present: WrittenWeights, export: Path) -> list[str]:
    """Which tensors are missing, more, of another shape or of other numbers, and what stands beside them."""
    own, other = written["tensors"], present["tensors"]
    causes = []
    if missing := [name for name in own if name not in other]:
        causes.append(f"{plural(len(missing), 'tensor')} missing from the export, first {missing[0]}.")
    if more := [name for name in other if name not in own]:
        causes.append(f"{plural(len(more), 'tensor')} in the export that nobody wrote, first {more[0]}.")
    both = [name for name in own if name in other]
    causes += named(
        [_shapes(name, own, other) for name in both if _kind(own[name]) != _kind(other[name])], "tensors"
    )
    changed = [name for name in both if _kind(own[name]) == _kind(other[name]) and own[name] != other[name]]
    if changed:
        detail = described(export, changed[0])
        causes.append(
            f"{plural(len(changed), 'tensor')} of {len(own):,} not as they were written, by their checksums:"
            f" first {changed[0]}{detail}."
        )
    settings = differing_fields(written["settings"], present["settings"])
    return causes + named([f"Beside the tensors: {each}" for each in settings], "fields")


def _kind(tensor: TensorSum) -> tuple[str, list[int]]:
    return tensor["dtype"], tensor["shape"]


def _shapes(name: str, own: Mapping[str, TensorSum], other: Mapping[str, TensorSum]) -> str:
    def describe(tensor: TensorSum) -> str:
        return f"{' × '.join(map(str, tensor['shape']))} of {tensor['dtype']}"

    present, written = describe(other[name]), describe(own[name])
    return f"The tensor {name} is {present} in the export, {written} as it was written."


def described(export: Path, name: str) -> str:
    """What can be seen of one tensor of a folder: rows of zeros, values that are no numbers."""
    from safetensors import safe_open

    for file in sorted(export.glob("*.safetensors")) if export.is_dir() else ():
        with safe_open(file, framework="pt") as tensors:
            if name not in tensors.keys():  # noqa: SIM118 (not a dict)
                continue
            values = tensors.get_tensor(name)
            if values.dim() < 1 or not values.is_floating_point():
                return ""
            rows = values.reshape(len(values), -1)
            zeros = int((~rows.any(dim=1)).sum())
            if zeros:
                return f", in which {zeros:,} of {len(rows):,} rows are nothing but zeros"
            if not bool(values.isfinite().all()):
                return ", in which values are no numbers"
    return ""
