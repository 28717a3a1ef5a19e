"""Fields of a GGUF file beside config.json and tokenizer of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import GGUFWriter

from engine.shipping.parity.named_gguf import differing_gguf

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
    return differing_gguf(folder, folder / "model.gguf")


def test_a_tokenizer_without_a_beginning_names_no_token_none(tmp_path: Path) -> None:
    assert differences(tmp_path, {}, {}, bos_token=None) == []
    (cause,) = differences(tmp_path, {}, {}, eos_token="None")
    assert cause == "tokenizer.ggml.eos_token_id is 3 in the export, 1 in the model."


def test_settings_of_the_text_part_are_those_of_the_file(tmp_path: Path) -> None:
    config = {"text_config": {"hidden_size": 32, "rope_theta": 500.0}, "model_type": "gemma3"}
    assert differences(tmp_path, config, {"embedding_length": 32}) == []
    (cause,) = differences(tmp_path, config, {"embedding_length": 16})
    assert cause == "llama.embedding_length is 16 in the export, 32 in the model."
