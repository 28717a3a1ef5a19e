"""Comparison of an export's settings, tokenizer and tensors with the model's, of a folder or a GGUF file.

Tokenizers are compared by their files: ids of tokens, and splitting of text into tokens. Each difference
that may change responses becomes a sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.export import model_settings, tensor_manifest
from engine.export.model_settings import ModelSettings
from engine.models.tokenization.tokenizer_limits import MAX_MIB
from store.core.export_schemas import TensorChecksum, WrittenWeights
from store.core.formatting import plural
from store.core.job_folder import read_json

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding")
NAME = "tokenizer.json"


def compare_tokenizers(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return differences of `other`, the export's tokenizer.json, from the model's, as sentences."""
    causes = compare_ids(index_tokens(own), index_tokens(other), NAME)
    first, second = _index_added_tokens(own), _index_added_tokens(other)
    if changed := [token for token in {**first, **second} if first.get(token) != second.get(token)]:
        causes.append(
            f"{NAME}: {plural(len(changed), 'added token')} with a different type, first {changed[0]!r}."
        )
    for part in PARTS:
        if own.get(part) != other.get(part):
            causes.append(f"{NAME}: the {part.replace('_', ' ')} differs from the model's.")
    causes += _compare_models(own.get("model") or {}, other.get("model") or {})
    return causes


def index_tokens(document: Mapping[str, Any]) -> dict[int, str]:
    """Return the tokens by id, of the vocabulary and the added tokens."""
    vocabulary = (document.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, Mapping):
        ids = {int(place): str(token) for token, place in vocabulary.items()}
    else:  # list of pieces with scores
        ids = {place: str(piece[0]) for place, piece in enumerate(vocabulary)}
    return ids | {int(each["id"]): str(each["content"]) for each in document.get("added_tokens") or ()}


def compare_ids(own: Mapping[int, str], other: Mapping[int, str], where: str) -> list[str]:
    """Return missing tokens, extra tokens, and ids of different tokens, as sentences."""
    causes = []
    if missing := sorted(own.keys() - other.keys()):
        causes.append(
            f"{where}: {plural(len(missing), 'token')} of the model's {len(own):,} missing, first id"
            f" {missing[0]:,}, {own[missing[0]]!r}."
        )
    if more := sorted(other.keys() - own.keys()):
        causes.append(
            f"{where}: {plural(len(more), 'extra token')}, first id {more[0]:,}, {other[more[0]]!r}."
        )
    if swapped := sorted(place for place in own.keys() & other.keys() if own[place] != other[place]):
        first = swapped[0]
        causes.append(
            f"{where}: {plural(len(swapped), 'id')} mapped to different tokens, first id {first:,}: "
            f"{other[first]!r} in the export, {own[first]!r} in the model."
        )
    return causes


def _index_added_tokens(document: Mapping[str, Any]) -> dict[str, Any]:
    return {str(each["content"]): each for each in document.get("added_tokens") or ()}


def _compare_models(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Compare merges, scores of pieces, and the handling of unknown characters."""
    causes = []
    if _list_merges(own) != _list_merges(other):
        causes.append(f"{NAME}: the merges differ from the model's.")
    if isinstance(own.get("vocab"), list) and own["vocab"] != other.get("vocab"):
        causes.append(f"{NAME}: the pieces or their scores differ from the model's.")
    rest = [key for key in dict.fromkeys([*own, *other]) if key not in ("merges", "vocab")]
    changed = [key for key in rest if own.get(key) != other.get(key)]
    return causes + [
        f"{NAME}: {key} is {other.get(key)!r} in the export, {own.get(key)!r} in the model."
        for key in changed
    ]


def _list_merges(model: Mapping[str, Any]) -> list[str]:
    """Return the merges; releases write a pair as a string or as a list of two."""
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or ()]


# Files are compared before any response, as responses to sampled rows can't show every difference: another
# stop token, a default of sampling, a rare token, a shorter context.

MAX_NAMED = 4  # differences of a file listed one by one
MAX_VALUE = 60  # characters shown of a value
TOKENIZER = "tokenizer.json"
DOCUMENTS = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", TOKENIZER,
)  # fmt: skip
TEXTS = ("chat_template.jinja", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
# Files that some readers load by themselves; of a folder every file.
LOADED = (
    "chat_template.json", "*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.h5", "*.msgpack", "custom_generate",
    "additional_chat_templates", "modules.json",
)  # fmt: skip
# Fields that affect neither numbers nor tokens: paths, versions, and settings read in training only.
IGNORED_FIELDS = {
    "_name_or_path", "name_or_path", "transformers_version", "peft_version", "_from_model_config",
    "use_cache",
    "output_attentions", "output_hidden_states", "return_dict", "initializer_range", "attention_dropout",
    "hidden_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop", "lora_dropout", "inference_mode", "is_local",
    "local_files_only", "backend", "tokenizer_file", "vocab_file", "quantization_config", "pretraining_tp",
    "init_lora_weights",
}  # fmt: skip
UNORDERED = {"target_modules", "modules_to_save", "extra_special_tokens", "additional_special_tokens"}
MISSING = "missing"


def compare_files(expected: Path, export: Path, *, of_others: bool) -> list[str]:
    """Return differences of the export's settings and tokenizer, as sentences.

    of_others: written by another release, with other names for some fields; only shared fields are compared.
    """
    causes: list[str] = []
    for name in DOCUMENTS:
        causes += _compare_document(name, expected / name, export / name, of_others=of_others)
    for name in TEXTS:
        own, other = expected / name, export / name
        if own.exists() and not other.exists():
            causes.append(f"The file {name} is missing.")
        elif other.exists() and not _has_same_bytes(own, other):
            is_template = name == "chat_template.jinja"
            causes.append(
                f"{name}: the {'chat template' if is_template else 'file'} differs from the model's."
            )
    return causes + _compare_loaded_files(_list_loaded_files(expected), _list_loaded_files(export))


def _list_loaded_files(folder: Path) -> dict[str, Path]:
    """Return files that some readers load by themselves, by path within the folder."""
    paths = [path for pattern in LOADED for path in folder.glob(pattern)]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return {str(file.relative_to(folder)): file for file in files if not file.is_dir()}


def _compare_loaded_files(own: Mapping[str, Path], other: Mapping[str, Path]) -> list[str]:
    """Report such files unless the model has the same: further chat templates of its tokenizer."""
    causes = []
    for name in sorted({**own, **other}):
        if name not in own:
            causes.append(f"Unexpected file {name}, which some tools load.")
        elif name not in other:
            causes.append(f"The file {name} is missing.")
        elif not _has_same_bytes(own[name], other[name]):
            causes.append(f"{name}: the file differs from the model's.")
    return causes


def _has_same_bytes(own: Path, other: Path) -> bool:
    if not own.exists() or own.stat().st_size != other.stat().st_size:
        return False
    return own.read_bytes() == other.read_bytes()


def _compare_document(name: str, expected: Path, export: Path, *, of_others: bool) -> list[str]:
    """Compare a file that may be untrusted: too large, too deep or no object is reported as a difference."""
    own = read_json(expected)
    if (
        export.exists()
        and export.stat().st_size > MAX_MIB.get(name, MAX_MIB["tokenizer_config.json"]) * 2**20
    ):
        return [f"The file {name} exceeds the maximum size."]
    try:
        other = read_json(export)
        if other is not None and not isinstance(other, dict):
            raise ValueError("no object")
        return _compare_settings(name, own, other, of_others=of_others)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return [f"The file {name} is not valid JSON."]


def _compare_settings(
    name: str, own: ModelSettings | None, other: ModelSettings | None, *, of_others: bool
) -> list[str]:
    if own is None or other is None:
        if (own is None and other is None) or of_others:
            return []
        return [
            f"The file {name} is missing." if other is None else f"Unexpected file {name}, which tools load."
        ]
    if name == TOKENIZER:
        return compare_tokenizers(own, other)
    differing = list(compare_fields(own, other, both=of_others))
    return truncate_differences([f"{name}: {each}" for each in differing], "fields")


def truncate_differences(differing: list[str], what: str) -> list[str]:
    """Return the first MAX_NAMED, and the number of the others."""
    more = len(differing) - MAX_NAMED
    rest = [f"{differing[0].split(':')[0]}: {more:,} more {what}."] if more > 0 else []
    return differing[:MAX_NAMED] + rest


def compare_fields(own: Any, other: Any, at: str = "", *, both: bool = False) -> Iterator[str]:
    """Yield each value that differs: "rope_theta is 500 in the export, 10000 in the model"."""
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*own, *other]):
            if key in IGNORED_FIELDS or (both and (key not in own or key not in other)):
                continue
            path = f"{at}.{key}" if at else str(key)
            yield from compare_fields(own.get(key), other.get(key), path, both=both)
    elif not _is_equal(at, own, other):
        yield f"{at} is {_format_value(other)} in the export, {_format_value(own)} in the model."


def _is_equal(at: str, own: Any, other: Any) -> bool:
    if at.rpartition(".")[2] in UNORDERED and isinstance(own, list) and isinstance(other, list):
        return sorted(map(str, own)) == sorted(map(str, other))
    return type(own) is type(other) and own == other if isinstance(own, bool) else bool(own == other)


def _format_value(value: Any) -> str:
    if value is None:
        return MISSING
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def compare_weights(written: WrittenWeights, present: WrittenWeights, export: Path) -> list[str]:
    """Return missing and extra tensors, and differing shapes, values and weight settings, as sentences."""
    own, other = written["tensors"], present["tensors"]
    causes = []
    if missing := [name for name in own if name not in other]:
        causes.append(f"{plural(len(missing), 'tensor')} missing from the export, first {missing[0]}.")
    if more := [name for name in other if name not in own]:
        causes.append(f"{plural(len(more), 'unexpected tensor')} in the export, first {more[0]}.")
    both = [name for name in own if name in other]
    causes += truncate_differences(
        [
            _describe_shapes(name, own, other)
            for name in both
            if _get_dtype_and_shape(own[name]) != _get_dtype_and_shape(other[name])
        ],
        "tensors",
    )
    changed = [
        name
        for name in both
        if _get_dtype_and_shape(own[name]) == _get_dtype_and_shape(other[name]) and own[name] != other[name]
    ]
    if changed:
        detail = describe_tensor(export, changed[0])
        causes.append(
            f"Checksum mismatch for {plural(len(changed), 'tensor')} of {len(own):,}: first {changed[0]}"
            f"{detail}."
        )
    settings = compare_fields(written["settings"], present["settings"])
    return causes + truncate_differences([f"Settings: {each}" for each in settings], "fields")


def _get_dtype_and_shape(tensor: TensorChecksum) -> tuple[str, list[int]]:
    return tensor["dtype"], tensor["shape"]


def _describe_shapes(
    name: str, own: Mapping[str, TensorChecksum], other: Mapping[str, TensorChecksum]
) -> str:
    def describe(tensor: TensorChecksum) -> str:
        return f"{' × '.join(map(str, tensor['shape']))} of {tensor['dtype']}"

    present, written = describe(other[name]), describe(own[name])
    return f"Tensor {name}: {present} in the export, {written} expected."


def describe_tensor(export: Path, name: str) -> str:
    """Describe visible damage of one tensor of a folder: zero rows, or non-finite values."""
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
                return f", with {zeros:,} of {len(rows):,} rows all zero"
            if not bool(values.isfinite().all()):
                return ", with NaN values"
    return ""


# The converter uses names of its own, so only fields that change responses are compared. Tokens are compared
# where the file stores them as the tokenizer does (its type "gpt2"); other types store them differently, and
# the prompts show differences.

VERBATIM_TOKENIZER = "gpt2"  # tokenizer type whose tokens are stored verbatim
RELATIVE_TOLERANCE = 1e-6  # for numbers stored in fp32
# GGUF fields, after the architecture's name -> fields of config.json.
FIELDS = {
    "context_length": "max_position_embeddings",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
# The converter changes these if layers differ, predict further tokens, or share their keys.
PER_LAYER = ("block_count", "attention.head_count_kv")
SPECIAL = {"bos_token_id": "bos_token", "eos_token_id": "eos_token"}  # fields of tokenizer_config.json


def compare_gguf(expected: Path, file: Path) -> list[str]:
    """Return differences of a GGUF file, as sentences. Raises ModelError for an invalid or truncated file."""
    with tensor_manifest.open_gguf(file) as reader:
        fields = {key: field.contents() for key, field in reader.fields.items()}
    document: ModelSettings = read_json(expected / "config.json") or {}
    config = document.get("text_config") or document  # of a multimodal model
    kind = str(fields.get("general.architecture"))
    mixed = len(set(config.get("layer_types") or ())) > 1
    mixed = mixed or bool(config.get("num_nextn_predict_layers") or config.get("kv_lora_rank"))
    left_out = PER_LAYER if mixed else ()
    pairs = [
        (f"{kind}.{name}", config.get(of_config))
        for name, of_config in FIELDS.items()
        if name not in left_out and not isinstance(fields.get(f"{kind}.{name}"), list)
    ]
    pairs.append((f"{kind}.rope.freq_base", model_settings.read_rope_base(config)))
    causes = [
        _format_difference(key, fields[key], own)
        for key, own in pairs
        if own is not None and key in fields and not _is_close(own, fields[key])
    ]
    return [*causes, *_compare_tokens(expected, fields)]


def _compare_tokens(expected: Path, fields: dict[str, object]) -> Iterator[str]:
    settings, document = (
        read_json(expected / f"{name}.json") or {} for name in ("tokenizer_config", "tokenizer")
    )
    own = index_tokens(document)
    places = {token: place for place, token in own.items()}
    for name, of_settings in SPECIAL.items():
        token = settings.get(of_settings)
        content = token.get("content") if isinstance(token, dict) else token
        place = places.get(content) if isinstance(content, str) else None  # None without such a token
        key = f"tokenizer.ggml.{name}"
        if place is not None and key in fields and fields[key] != place:
            yield _format_difference(key, fields[key], place)
    template = settings.get("chat_template")
    if isinstance(template, str) and fields.get("tokenizer.chat_template") != template:
        yield "tokenizer.chat_template: the chat template differs from the model's."
    if fields.get("tokenizer.ggml.model") == VERBATIM_TOKENIZER:
        tokens = fields.get("tokenizer.ggml.tokens")
        listed = dict(enumerate(tokens if isinstance(tokens, list) else ()))
        listed_tokens = {
            place: token for place, token in listed.items() if place in own
        }  # the converter fills gaps between ids
        yield from compare_ids(own, listed_tokens, "tokenizer.ggml.tokens")


def _is_close(own: Any, other: Any) -> bool:
    if isinstance(own, float) and isinstance(other, float | int):
        return math.isclose(own, other, rel_tol=RELATIVE_TOLERANCE)
    return bool(own == other)


def _format_difference(key: str, other: Any, own: Any) -> str:
    return f"{key} is {MISSING if other is None else other} in the export, {own} in the model."
