"""A GGUF file's fields beside the model's settings and tokenizer, as far as the two can be compared.

The converter writes names of its own: what is looked for is what changes answers. Tokens are compared where
they stand as the tokenizer has them (its kind "gpt2"); others are written otherwise, and prompts show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.shipping import gguf_header, twice_written
from engine.shipping.model_settings import ModelSettings
from engine.shipping.parity.named import NOT_THERE
from engine.shipping.parity.tokens_by_id import differing_ids, tokens_by_id
from store.contract.jobdir import read_json

AS_WRITTEN = "gpt2"  # the kind of tokenizer whose tokens stand in the file as they are
NEAR = 1e-6  # of a number that is kept in fp32
# Fields after the architecture's name -> of config.json.
FIELDS = {
    "context_length": "max_position_embeddings",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
# Of these the converter makes others where layers differ, predict further tokens, or share their keys.
PER_LAYER = ("block_count", "attention.head_count_kv")
SPECIAL = {"bos_token_id": "bos_token", "eos_token_id": "eos_token"}  # of tokenizer_config.json


def differing_gguf(expected: Path, file: Path) -> list[str]:
    """Sentences about the file. Raises ModelError for one that is none, or is cut short."""
    with gguf_header.opened(file) as reader:
        fields = {key: field.contents() for key, field in reader.fields.items()}
    document: ModelSettings = read_json(expected / "config.json") or {}
    config = document.get("text_config") or document  # of a model that reads pictures too
    kind = str(fields.get("general.architecture"))
    left_out = PER_LAYER if _has_other_layers(config) else ()
    pairs = [
        (f"{kind}.{name}", config.get(of_config))
        for name, of_config in FIELDS.items()
        if name not in left_out and not isinstance(fields.get(f"{kind}.{name}"), list)
    ]
    pairs.append((f"{kind}.rope.freq_base", twice_written.rope_base(config)))
    causes = [
        _sentence(key, fields[key], own)
        for key, own in pairs
        if own is not None and key in fields and not _near(own, fields[key])
    ]
    return [*causes, *_tokens(expected, fields)]


def _has_other_layers(config: ModelSettings) -> bool:
    mixed = len(set(config.get("layer_types") or ())) > 1
    return mixed or bool(config.get("num_nextn_predict_layers") or config.get("kv_lora_rank"))


def _tokens(expected: Path, fields: dict[str, Any]) -> Iterator[str]:
    settings, document = (
        read_json(expected / f"{name}.json") or {} for name in ("tokenizer_config", "tokenizer")
    )
    own = tokens_by_id(document)
    places = {token: place for place, token in own.items()}
    for name, of_settings in SPECIAL.items():
        token = settings.get(of_settings)
        content = token.get("content") if isinstance(token, dict) else token
        place = places.get(content) if isinstance(content, str) else None  # without it there is none
        key = f"tokenizer.ggml.{name}"
        if place is not None and key in fields and fields[key] != place:
            yield _sentence(key, fields[key], place)
    template = settings.get("chat_template")
    if isinstance(template, str) and fields.get("tokenizer.chat_template") != template:
        yield "tokenizer.chat_template: the chat template isn't the model's."
    if fields.get("tokenizer.ggml.model") == AS_WRITTEN:
        tokens = fields.get("tokenizer.ggml.tokens")
        listed = dict(enumerate(tokens if isinstance(tokens, list) else ()))
        listed_tokens = {
            place: token for place, token in listed.items() if place in own
        }  # it fills up what is between
        yield from differing_ids(own, listed_tokens, "tokenizer.ggml.tokens")


def _near(own: Any, other: Any) -> bool:
    if isinstance(own, float) and isinstance(other, float | int):
        return math.isclose(own, other, rel_tol=NEAR)
    return bool(own == other)


def _sentence(key: str, other: Any, own: Any) -> str:
    return f"{key} is {NOT_THERE if other is None else other} in the export, {own} in the model."
