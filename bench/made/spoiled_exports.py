"""Deliberately damaged exports, each in one way that changes responses, with the expected cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
LAYER = "model.layers.0."


@dataclass(frozen=True)
class SpoiledExport:
    """A damaged export. spoil: changes the finished folder; cause: text that the reported reason must
    contain.
    """

    title: str
    form: str
    spoil: Callable[[Path], None]
    cause: str


def _setting(file: str, **changes: Any) -> Callable[[Path], None]:
    """Return a function that changes fields of a JSON file."""

    def spoil(folder: Path) -> None:
        document = json.loads((folder / file).read_text())
        for name, value in changes.items():
            document[name] = value(document.get(name)) if callable(value) else value
        (folder / file).write_text(json.dumps(document))

    return spoil


def _tensors(
    change: Callable[[dict[str, torch.Tensor]], None], file: str = WEIGHTS
) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return spoil


def _tokenizer(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        document = json.loads((folder / "tokenizer.json").read_text())
        change(document)
        (folder / "tokenizer.json").write_text(json.dumps(document))

    return spoil


def _swap_rare(document: dict[str, Any]) -> None:
    vocabulary = document["model"]["vocab"]
    first, second = list(vocabulary)[-40], list(vocabulary)[-41]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def _cut_vocabulary(document: dict[str, Any]) -> None:
    model = document["model"]
    model["merges"] = []
    model["vocab"] = {token: place for token, place in model["vocab"].items() if place < 200}


def _swap_layers(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if name.startswith(LAYER)]:
        other = name.replace(".0.", ".1.", 1)
        tensors[name], tensors[other] = tensors[other], tensors[name]


def _cut_embeddings(folder: Path) -> None:
    name = "model.embed_tokens.weight"
    _tensors(lambda tensors: tensors.update({name: tensors[name][:200]}))(folder)
    _setting("config.json", vocab_size=200)(folder)
    _tokenizer(_cut_vocabulary)(folder)


def _flip_bit(tensors: dict[str, torch.Tensor]) -> None:
    values = tensors[f"{LAYER}mlp.up_proj.weight"].view(torch.int32)
    values[3, 5] ^= 1


def _half(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def _other_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("'<|im_start|>assistant", "'<|im_start|>Assistant"))


def _stray_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))


def _no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def _rope(folder: Path) -> None:
    _setting("config.json", rope_theta=500.0, rope_parameters={"rope_theta": 500.0, "rope_type": "default"})(
        folder
    )


_CONFIG, _GENERATION, _TOKENS = "config.json", "generation_config.json", "tokenizer_config.json"

SPOILED: tuple[SpoiledExport, ...] = (
    SpoiledExport("another end in generation_config", "merged", _setting(_GENERATION, eos_token_id=7),
                  "generation_config.json: eos_token_id is 7 in the export, 2 in the model"),
    SpoiledExport("another end in config", "merged", _setting(_CONFIG, eos_token_id=7),
                  "config.json: eos_token_id is 7 in the export, 2 in the model"),
    SpoiledExport("another end in tokenizer_config", "merged", _setting(_TOKENS, eos_token="<|endoftext|>"),
                  "tokenizer_config.json: eos_token is \"<|endoftext|>\" in the export"),
    SpoiledExport("another padding", "merged", _setting(_TOKENS, pad_token="<|endoftext|>"),
                  "tokenizer_config.json: pad_token is"),
    SpoiledExport("temperature 1.5", "merged", _setting(_GENERATION, do_sample=True, temperature=1.5),
                  "temperature is 1.5 in the export, missing in the model"),
    SpoiledExport("repetition penalty 1.3", "merged", _setting(_GENERATION, repetition_penalty=1.3),
                  "repetition_penalty is 1.3 in the export, missing in the model"),
    SpoiledExport("no generation defaults", "merged", _no_generation_config,
                  "generation_config.json is missing"),
    SpoiledExport("two rare tokens swapped", "merged", _tokenizer(_swap_rare),
                  "2 ids mapped to different tokens, first id"),
    SpoiledExport("vocabulary cut", "merged", _tokenizer(_cut_vocabulary),
                  "64 tokens of the model's 264 missing"),
    SpoiledExport("vocabulary and embeddings cut", "merged", _cut_embeddings,
                  "model.embed_tokens.weight: 200 × 32 of F32 in the export, 264 × 32 of F32"),
    SpoiledExport("no merges of pairs", "merged", _tokenizer(lambda d: d["model"].update(merges=[])),
                  "the merges differ from the model's"),
    SpoiledExport("an end that is no special token", "merged",
                  _tokenizer(lambda d: d["added_tokens"][2].update(special=False)),
                  "1 added token with a different type, first '<|im_end|>'"),
    SpoiledExport("a space put before texts", "merged",
                  _tokenizer(lambda d: d["pre_tokenizer"].update(add_prefix_space=True)),
                  "the pre tokenizer differs from the model's"),
    SpoiledExport("another template", "merged", _other_template,
                  "chat_template.jinja: the chat template differs from the model's"),
    SpoiledExport("another template in tokenizer_config alone", "merged",
                  _setting(_TOKENS, chat_template="{{ messages[0]['content'] }}"),
                  "tokenizer_config.json: chat_template is"),
    SpoiledExport("context cut", "merged", _setting(_CONFIG, max_position_embeddings=200),
                  "max_position_embeddings is 200 in the export, 256 in the model"),
    SpoiledExport("context of the tokenizer cut", "merged", _setting(_TOKENS, model_max_length=64),
                  "model_max_length is 64 in the export"),
    SpoiledExport("rms_norm_eps times 1,000", "merged",
                  _setting(_CONFIG, rms_norm_eps=lambda old: 1_000 * old),
                  "config.json: rms_norm_eps is 0.001 in the export, 1e-06 in the model"),
    SpoiledExport("another base of positions", "merged", _rope, "rope_theta is 500.0 in the export, 50000.0"),
    SpoiledExport("positions stretched", "merged",
                  _setting(_CONFIG, rope_scaling={"rope_type": "linear", "factor": 2.0}),
                  "config.json: rope_scaling is"),
    SpoiledExport("another activation", "merged", _setting(_CONFIG, hidden_act="gelu"),
                  'hidden_act is "gelu" in the export, "silu" in the model'),
    SpoiledExport("other heads", "merged", _setting(_CONFIG, num_key_value_heads=4),
                  "num_key_value_heads is 4 in the export, 2 in the model"),
    SpoiledExport("an output layer of its own", "merged", _setting(_CONFIG, tie_word_embeddings=False),
                  "tie_word_embeddings is false in the export, true in the model"),
    SpoiledExport("16 rows of a projection zero", "merged",
                  _tensors(lambda t: t[f"{LAYER}self_attn.q_proj.weight"][:16].zero_()),
                  "q_proj.weight, with 16 of 32 rows all zero"),
    SpoiledExport("a matrix zero", "merged", _tensors(lambda t: t[f"{LAYER}mlp.down_proj.weight"].zero_()),
                  "down_proj.weight, with 32 of 32 rows all zero"),
    SpoiledExport("no numbers", "merged", _tensors(lambda t: t["model.norm.weight"].fill_(float("nan"))),
                  "model.norm.weight, with NaN values"),
    SpoiledExport("one bit", "merged", _tensors(_flip_bit), "first model.layers.0.mlp.up_proj.weight"),
    SpoiledExport("layers swapped", "merged", _tensors(_swap_layers),
                  "tensors of 20: first"),
    SpoiledExport("rounded to fp16", "merged", _tensors(_half), "of F16 in the export"),
    SpoiledExport("a tensor missing", "merged", _tensors(lambda t: t.__delitem__("model.norm.weight")),
                  "1 tensor missing from the export, first model.norm.weight"),
    SpoiledExport("an adapter put beside", "merged", _stray_adapter,
                  "Unexpected file adapter_config.json"),
    SpoiledExport("lora_alpha times 0.9", "adapter",
                  _setting("adapter_config.json", lora_alpha=lambda old: 0.9 * old),
                  "adapter_config.json: lora_alpha is 28.8 in the export, 32 in the model"),
    SpoiledExport("another base", "adapter",
                  _setting("adapter_config.json", base_model_name_or_path="owner/other"),
                  'base_model_name_or_path is "owner/other" in the export, "tiny" in the model'),
    SpoiledExport("another scale", "adapter", _setting("adapter_config.json", use_rslora=True),
                  "use_rslora is true in the export, false in the model"),
    SpoiledExport("fewer matrices", "adapter", _setting("adapter_config.json", target_modules=["q_proj"]),
                  "adapter_config.json: target_modules is"),
    SpoiledExport("an update times 1.01", "adapter",
                  _tensors(lambda t: next(iter(t.values())).mul_(1.01), ADAPTER),
                  "Checksum mismatch for 1 tensor of 28"),
)  # fmt: skip


def spoiled_copy(export: Path, target: Path, spoiled: SpoiledExport) -> Path:
    """Copy the export and damage the copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(export, target)
    spoiled.spoil(target)
    return target
