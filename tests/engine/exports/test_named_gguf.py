"""Fields of a GGUF file beside config.json and tokenizer of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from engine.export.parity.file_comparison import compare_gguf

TOKENS = ["<unk>", "None", "<s>", "</s>"]


def differences(folder: Path, config: dict[str, Any], fields: dict[str, Any], **special: Any) -> list[str]:
    """Sentences of a file of these fields, whose beginning and end are tokens 2 and 3. special: of
    tokenizer_config.json."""
    vocabulary = {token: place for place, token in enumerate(TOKENS)}
    documents = {
        "config": config,
        "tokenizer_config": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **special},
        "tokenizer": {"model": {"vocab": vocabulary, "merges": []}},
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    writer = GGUFWriter(folder / "model.gguf", "llama")
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    for name, value in fields.items():
        write = writer.add_array if isinstance(value, list) else writer.add_uint32
        write(f"llama.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return compare_gguf(folder, folder / "model.gguf")


def test_a_tokenizer_without_a_beginning_names_no_token_none(tmp_path: Path) -> None:
    assert differences(tmp_path, {}, {}, bos_token=None) == []
    (cause,) = differences(tmp_path, {}, {}, eos_token="None")
    assert cause == "tokenizer.ggml.eos_token_id is 3 in the export, 1 in the model."


def test_settings_of_the_text_part_are_those_of_the_file(tmp_path: Path) -> None:
    config = {"text_config": {"hidden_size": 32, "rope_theta": 500.0}, "model_type": "gemma3"}
    assert differences(tmp_path, config, {"embedding_length": 32}) == []
    (cause,) = differences(tmp_path, config, {"embedding_length": 16})
    assert cause == "llama.embedding_length is 16 in the export, 32 in the model."


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"layer_types": ["conv", "full_attention"]}, {"attention.head_count_kv": 0}),
        ({}, {"attention.head_count_kv": [0, 8]}),
        ({"kv_lora_rank": 512}, {"attention.head_count_kv": 1}),
        ({"num_nextn_predict_layers": 1}, {"block_count": 3}),
    ],
)
def test_layers_and_heads_that_the_converter_counts_otherwise_are_no_cause(
    tmp_path: Path, more: dict[str, Any], fields: dict[str, Any]
) -> None:
    config = {"num_hidden_layers": 2, "num_key_value_heads": 8}
    assert differences(tmp_path, config | more, fields) == []


@pytest.mark.parametrize("more", [{}, {"layer_types": ["full_attention"] * 2}])
def test_layers_and_heads_of_like_layers_are_compared(tmp_path: Path, more: dict[str, Any]) -> None:
    config = {"num_hidden_layers": 2, "num_key_value_heads": 8} | more
    causes = differences(tmp_path, config, {"block_count": 3, "attention.head_count_kv": 4})
    assert causes == [
        "llama.block_count is 3 in the export, 2 in the model.",
        "llama.attention.head_count_kv is 4 in the export, 8 in the model.",
    ]
