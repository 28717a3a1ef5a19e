"""Models in the home folder, described from config and safetensors headers without torch or weights; and chat
templates for models that have none. Code that comes with a model is never run.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from store.core.job_folder import read_json
from store.core.model_schemas import GenerationNamed, Model
from store.core.schemas import JsonObject

MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
SEVERAL = "multi_label_classification"  # independent labels, as named by transformers
HEADED = "ForSequenceClassification"
UNNAMED = {"0": "LABEL_0", "1": "LABEL_1"}  # labels that transformers uses if a config names none
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def list_models(folder: Path) -> list[Model]:
    """Return all model folders, sorted by name."""
    paths = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [_describe(path) for path in sorted(paths, key=lambda path: path.name.lower())]


def _describe(path: Path) -> Model:
    config = _read_document(path / "config.json")
    weights = sorted(path.glob("*.safetensors"))
    counts = [count_parameters(file) for file in weights]
    counted = [count for count in counts if count is not None]
    architectures = config.get("architectures") or [None]
    return Model(
        name=path.name,
        path=str(path),
        parameters=sum(counted) if counted else None,
        architecture=architectures[0] or config.get("model_type"),
        bytes=sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        generation=_read_generation(path),
        ready=bool(config)
        and len(counted) == len(counts) > 0
        and _list_expected_files(path) <= {file.name for file in weights}
        and any((path / name).exists() for name in TOKENIZER_FILES),
    )


def _read_generation(path: Path) -> GenerationNamed:
    """Return the sampling settings given in the folder."""
    named = _read_document(path / "generation_config.json")
    types: dict[str, tuple[type, ...]] = {
        "do_sample": (bool,),
        **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), (int, float)),
        **dict.fromkeys(("top_k", "max_new_tokens"), (int,)),
    }
    generation = {
        name: value
        for name, kinds in types.items()
        if isinstance(value := named.get(name), kinds) and (kinds == (bool,) or not isinstance(value, bool))
    }
    return cast("GenerationNamed", generation)


def count_parameters(file: Path) -> int | None:
    """Return the number of parameters in a safetensors file, from its header; None if it is truncated or not
    one.

    The format: 8 bytes little-endian length, a JSON header {name: {dtype, shape, data_offsets}}, data.
    """
    try:
        with open(file, "rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > MAX_HEADER:
                return None
            header = json.loads(source.read(length))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        if file.stat().st_size < 8 + length + end:
            return None
        return int(sum(math.prod(tensor["shape"]) for tensor in tensors))
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError):
        return None


class ModelHead(NamedTuple):
    """A classification head. labels: in output order, empty for a model without a head; several: labels are
    independent, and their probabilities don't sum to 1.
    """

    labels: list[str]
    several: bool


def read_head(folder: Path, *, whole: bool) -> ModelHead:
    """Return the classification head of a model that was trained or registered here. whole: read it from
    config.json, as transformers does; else read the labels from the note that goes with an adapter or that
    a run left.
    """
    config = _read_document(folder / "config.json")
    if whole:
        headed = any(str(name).endswith(HEADED) for name in config.get("architectures") or ())
        names = config.get("id2label") or UNNAMED
        labels = [str(names[place]) for place in sorted(names, key=int)] if headed else []
    else:
        labels = list(_read_document(folder / "tunebench.json").get("labels") or [])
    return ModelHead(labels, is_multi_label(config.get("problem_type"), labels))


def is_multi_label(problem_type: str | None, labels: Sequence[str]) -> bool:
    """Return whether the labels are independent."""
    return problem_type == SEVERAL or len(labels) == 1


def _list_expected_files(path: Path) -> set[str]:
    """Return the weight files named by the index; empty if there is no index."""
    weight_map = _read_document(path / "model.safetensors.index.json").get("weight_map")
    return set(weight_map.values()) if isinstance(weight_map, dict) else set()


def _read_document(path: Path) -> JsonObject:
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


_CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token or '' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] }}"
    "{{ '<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_HEADINGS = (  # plain words, with the EOS token after each response, so that a tuned model stops
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '### Assistant:\n' + m['content'] + eos_token + '\n' }}"
    "{% else %}{{ '### ' + m['role'] | capitalize + ':\n' + m['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)

TEMPLATES: dict[str, str] = {
    "chatml": _CHATML,
    "llama3": _LLAMA3,
    "zephyr": _ZEPHYR,
    "headings": _HEADINGS,
}


def get_template_text(chosen: str) -> str:
    """Return the Jinja of a template given by name, or the given text."""
    return TEMPLATES.get(chosen.strip(), chosen)
