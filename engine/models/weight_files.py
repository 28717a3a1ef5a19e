"""Checks of a model folder's weights before loading: complete, matching the architecture, and finite.

transformers silently fills a tensor that is missing from the files with random values, and a NaN shows
only hours later as a NaN loss. So the headers are read first. Then transformers itself "loads" the folder
on the meta device, where it reads headers only and reports missing names and other shapes, by its own
rules for prefixes, tied and converted weights. Last, every value is checked, a piece of a tensor at a
time. Results are cached per file by size and modification time, so that a check resumes where it ran out
of time.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from store.core.config import NO_CODE
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.core.model_folders import HEADED

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
INVALID_JSON_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)  # raised for unreadable or unexpected JSON
MAX_HEADER_BYTES = 100_000_000  # bytes, the limit of safetensors itself
PIECE = 2**24  # values checked at a time
GIB = 2**30
MAX_LISTED = 3  # tensors named in a message
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
SAVE_AGAIN = "Copy the folder again, or save the model again with save_pretrained(folder)."


class LoadingInfo(TypedDict):
    """The used part of transformers' loading info.

    Parameters missing from the files, and those of another shape, as (name, shape in the file, shape in the
    architecture).
    """

    missing_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class TensorHeader:
    """A tensor as described by a file's header."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WeightCheck:
    """Progress of a check in bytes of values; `names`: why names couldn't be compared, if so."""

    done: int
    of: int
    names: str = ""


FULLY_CHECKED = WeightCheck(0, 0)  # nothing left to check


def check_weights(
    source: str, architecture: PreTrainedConfig, home: Home, *, headed: bool, seconds: float
) -> WeightCheck:
    """Raise ModelError (field model), naming file and tensor, if a folder's weights are unusable.

    - headed: a new classification head is added
    - seconds: time limit for the values; the next call resumes

    A hub id is not checked: its files may have to be downloaded.
    """
    folder = Path(source)
    if not folder.is_dir():
        return FULLY_CHECKED
    tensors = read_headers(folder)
    files = sorted({tensor.file for tensor in tensors.values()})
    loaded = LoadedWeights(source, architecture, headed)
    names = _compare(loaded, tensors, files, home)
    return _check_values(files, tensors, home, seconds, names)


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Return name -> tensor for the files that transformers would load. Raises ModelError."""
    if (folder / SINGLE).exists():
        return _read_header(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise ModelError(
            f"The model folder {folder} has neither {SINGLE} nor {INDEX}.", fix=SAVE_AGAIN, field="model"
        )
    return _read_index(folder)


def refuse_pickled(source: str, index: Path | None) -> None:
    """Raise ModelError if an index names files that aren't safetensors.

    transformers reads those from pickle, even with use_safetensors.
    """
    if index is None:
        return
    try:
        files = {str(file) for file in json.loads(index.read_bytes())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} can't be read.", fix=SAVE_AGAIN, field="model") from error
    if other := sorted(file for file in files if not file.endswith(".safetensors")):
        raise ModelError(
            f"{INDEX} of {source} names {other[0]}, which is not safetensors: pickle can run code.",
            fix="Save the model again with save_pretrained(folder), which writes safetensors.",
            field="model",
        )


def _read_index(folder: Path) -> dict[str, TensorHeader]:
    try:
        places = json.loads((folder / INDEX).read_bytes())["weight_map"]
        named = {str(name): str(file) for name, file in places.items()}
    except INVALID_JSON_ERRORS as error:
        raise ModelError(f"{folder / INDEX} can't be read.", fix=SAVE_AGAIN, field="model") from error
    tensors: dict[str, TensorHeader] = {}
    for file in sorted(set(named.values())):
        if Path(file).name != file or not (folder / file).exists():
            raise ModelError(
                f"{INDEX} of {folder} names {file}, which is not there.", fix=SAVE_AGAIN, field="model"
            )
        tensors |= _read_header(folder / file)
    for name, file in named.items():
        if name not in tensors:
            raise ModelError(
                f"{folder / file} lacks the tensor {name}, which {INDEX} lists.",
                fix=SAVE_AGAIN,
                field="model",
            )
    return tensors


def _read_header(path: Path) -> dict[str, TensorHeader]:
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            document = json.loads(file.read(length))
        document.pop("__metadata__", None)
        tensors = {
            str(name): TensorHeader(path, str(entry["dtype"]), tuple(map(int, entry["shape"])))
            for name, entry in document.items()
        }
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in document.values()), default=0)
        if size == end:
            safe_open(path, framework="pt").__exit__(None, None, None)  # raises for any other defect
    except (*INVALID_JSON_ERRORS, struct.error, SafetensorError) as error:
        raise ModelError(
            f"{path} is not a safetensors file: its header can't be read.", fix=SAVE_AGAIN, field="model"
        ) from error
    if size != end:
        cut = "it is cut off" if size < end else "more follows its tensors"
        raise ModelError(
            f"{path} has {size:,} bytes, but its header requires {end:,}: {cut}.",
            fix=SAVE_AGAIN,
            field="model",
        )
    return tensors


# -- names and shapes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedWeights:
    """A folder of weights and the architecture to load it as; `headed`: with a new classification head."""

    source: str
    architecture: PreTrainedConfig
    headed: bool


def _compare(loaded: LoadedWeights, tensors: dict[str, TensorHeader], files: list[Path], home: Home) -> str:
    """Raise ModelError if names or shapes differ from the architecture's.

    Returns why they couldn't be compared, or "".
    """
    source, architecture, headed = loaded.source, loaded.architecture, loaded.headed
    if getattr(architecture, "quantization_config", None):
        return "the weights are stored quantized"
    about = [architecture.to_json_string(), headed, transformers.__version__, *map(_build_identity, files)]
    place = _build_cache_path(home, "names", about)
    if read_json(place) is not None:
        return ""
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    transformers_logging.disable_progress_bar()
    try:
        model, loading_info = auto.from_pretrained(
            source,
            config=architecture,
            use_safetensors=True,
            **NO_CODE,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # its code depends on values, which meta tensors lack
        return f"it can't be built without numbers ({type(error).__name__})"
    before = count_own_labels(Path(source) / "config.json")
    refuse_misfits(source, model, loading_info, headed, tensors, before=before)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {})
    return ""


def refuse_misfits(
    source: str,
    model: Any,
    loading_info: LoadingInfo,
    headed: bool,
    tensors: dict[str, TensorHeader] | None = None,
    *,
    before: int | None,
) -> None:
    """Raise ModelError for the architecture's tensors that the files lack or have in another shape.

    A new head, including an encoder's pooler, may be missing, and may replace one for other labels.

    - before: number of labels if the source is a classifier, otherwise None
    """
    alone = not hasattr(model, model.base_model_prefix)  # the model has no head
    body = "" if alone else f"{model.base_model_prefix}."
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(
        name
        for name in parameters & set(loading_info["missing_keys"])  # buffers are recomputed
        if not headed or (name.startswith(body) and not name.startswith(f"{body}pooler."))
    )
    if missing:
        some = ", ".join(missing[:MAX_LISTED]) + (
            f" and {len(missing) - MAX_LISTED} more" * (len(missing) > MAX_LISTED)
        )
        noun = "tensor" if len(missing) == 1 else "tensors"
        raise ModelError(
            f"{_find_file(source, tensors)} lacks the {noun} {some}, which the architecture in"
            " config.json has:"
            " they would be random.".replace("they", "it" if len(missing) == 1 else "they"),
            fix=SAVE_AGAIN,
            field="model",
        )
    replaced = headed and before not in (None, model.config.num_labels)
    for name, there, wanted in sorted(loading_info["mismatched_keys"], key=str):
        if replaced and not name.startswith(body):
            continue
        raise ModelError(
            f"The tensor {name} in {_find_file(source, tensors, name)} has the shape {list(there)}, and"
            f" config.json asks for {list(wanted)}.",
            fix="Use the config.json that belongs to these weights.",
            field="model",
        )


def count_own_labels(config_file: Path | None) -> int | None:
    """Return a classifier's number of labels by its config.json.

    None for other models or without that file.
    """
    config = (read_json(config_file) if config_file else None) or {}
    if not any(str(name).endswith(HEADED) for name in config.get("architectures") or ()):
        return None
    return len(config.get("id2label") or (0, 1))  # two labels, the default, aren't written


def _find_file(source: str, tensors: dict[str, TensorHeader] | None, name: str = "") -> str:
    """Return the file that holds the tensor, or that would be expected to."""
    folder = Path(source)
    if tensors and name:
        for own, tensor in tensors.items():
            if name == own or name.endswith(f".{own}") or own.endswith(f".{name}"):
                return str(tensor.file)
    if not folder.is_dir():
        return source
    return str(folder / (SINGLE if (folder / SINGLE).exists() else INDEX))


# -- values -------------------------------------------------------------------------------------------


def _check_values(
    files: list[Path], tensors: dict[str, TensorHeader], home: Home, seconds: float, names: str
) -> WeightCheck:
    end = time.monotonic() + seconds
    sizes = {file: file.stat().st_size for file in files}
    done = 0
    for file in files:
        place = _build_cache_path(home, "values", [_build_identity(file)])
        if read_json(place) is None:
            own = [(name, tensor) for name, tensor in tensors.items() if tensor.file == file]
            if not _check_finite(file, own, end):
                break
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {})
        done += sizes[file]
    return WeightCheck(done, sum(sizes.values()), names)


def _check_finite(file: Path, tensors: list[tuple[str, TensorHeader]], end: float) -> bool:
    """Return whether the whole file was checked in time. Raises ModelError for a value that is not finite."""
    with safe_open(file, framework="pt") as opened:
        for name, tensor in tensors:
            if tensor.dtype not in FLOATS:
                continue
            whole = opened.get_tensor(name).reshape(-1)  # memory-mapped, not read
            for piece in whole.split(PIECE):
                if time.monotonic() > end:
                    return False
                _refuse_not_finite(file, name, piece.float() if piece.element_size() == 1 else piece)
    return True


def _refuse_not_finite(file: Path, name: str, values: torch.Tensor) -> None:
    low, high = torch.aminmax(values)  # NaN if any value is
    if not (torch.isfinite(low) and torch.isfinite(high)):
        kind = "not a number" if bool(values.isnan().any()) else "infinite"
        raise ModelError(
            f"The tensor {name} in {file} has a value that is {kind}: nothing can be trained from it.",
            fix=SAVE_AGAIN,
            field="model",
        )


def _build_identity(file: Path) -> list[Any]:
    state = file.resolve().stat()
    return [str(file.resolve()), state.st_size, state.st_mtime_ns]


def _build_cache_path(home: Home, kind: str, about: list[Any]) -> Path:
    """Return the path that records a check without findings."""
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return home.cache / "weights" / f"{kind}-{name[:40]}.json"
