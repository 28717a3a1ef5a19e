"""A model folder's weights before they are loaded: whole, of the architecture's names and shapes, and finite.

transformers gives a tensor that a file lacks random values without a word, and one that is not a number shows
as a loss that isn't one, hours later. So the headers are read first, then transformers itself "loads" the
folder on the meta device, where it reads headers alone and says what it missed, by its own rules of prefixes,
tied and converted weights; last every value is looked at, a piece of a tensor at a time. What was found is
remembered by the files' sizes and times of change, file by file: looking goes on where it ran out of time.
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
)  # of JSON that is none
MAX_HEADER_BYTES = 100_000_000  # bytes, as of safetensors itself
PIECE = 2**24  # values looked at at a time
GIB = 2**30
MAX_LISTED = 3  # tensors that a sentence names
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
SAVE_AGAIN = "Copy the folder again, or save the model again with save_pretrained(folder)."


class LoadingInfo(TypedDict):
    """What transformers says of a loading, as far as it is read: parameters that the files lack, and those of
    another shape, as name, shape in the file and shape of the architecture."""

    missing_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class TensorHeader:
    """As a header describes it."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WeightCheck:
    """How much of the values was looked at, in bytes; `names`: why names could not be compared, if so."""

    done: int
    of: int
    names: str = ""


FULLY_CHECKED = WeightCheck(0, 0)  # nothing is left to look at


def check_weights(
    source: str, architecture: PreTrainedConfig, home: Home, *, headed: bool, seconds: float
) -> WeightCheck:
    """Raise ModelError (field model) that names file and tensor where the weights of a folder are no good.

    headed: a new classification head is put on. seconds: for the values; the next call goes on. A hub id is
    not looked at: its files may have to be fetched.
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
    """Name -> tensor, of the files that transformers would load. Raises ModelError."""
    if (folder / SINGLE).exists():
        return _read_header(folder / SINGLE)
    if not (folder / INDEX).exists():
        raise ModelError(
            f"The model folder {folder} has neither {SINGLE} nor {INDEX}.", fix=SAVE_AGAIN, field="model"
        )
    return _read_index(folder)


def refuse_pickled(source: str, index: Path | None) -> None:
    """Raise ModelError where an index names files that are not safetensors: transformers reads such from
    pickle, even where it was told to take safetensors alone."""
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
                f"{folder / file} lacks the tensor {name}, which {INDEX} says is in it.",
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
            safe_open(path, framework="pt").__exit__(None, None, None)  # refuses what else is wrong with it
    except (*INVALID_JSON_ERRORS, struct.error, SafetensorError) as error:
        raise ModelError(
            f"{path} is no safetensors file: its header can't be read.", fix=SAVE_AGAIN, field="model"
        ) from error
    if size != end:
        cut = "it is cut off" if size < end else "more follows its tensors"
        raise ModelError(
            f"{path} has {size:,} bytes where its header says {end:,}: {cut}.", fix=SAVE_AGAIN, field="model"
        )
    return tensors


# -- names and shapes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedWeights:
    """A folder of weights and what it is loaded as; headed: with a new classification head."""

    source: str
    architecture: PreTrainedConfig
    headed: bool


def _compare(loaded: LoadedWeights, tensors: dict[str, TensorHeader], files: list[Path], home: Home) -> str:
    """Raise ModelError where names or shapes are not the architecture's; why they could not be compared."""
    source, architecture, headed = loaded.source, loaded.architecture, loaded.headed
    if getattr(architecture, "quantization_config", None):
        return "the weights are stored quantised"
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
    ) as error:  # code that decides by numbers, of which there are none
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
    """Raise ModelError for tensors that the architecture has and the files lack or have in another shape.

    A new head, and an encoder's pooler with it, may be missing; it takes the place of one for other labels.
    before: for how many labels the source is a classifier; None of what is none.
    """
    alone = not hasattr(model, model.base_model_prefix)  # what the model is without any head
    body = "" if alone else f"{model.base_model_prefix}."
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(
        name
        for name in parameters & set(loading_info["missing_keys"])  # buffers are made anew
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
    """How many labels a classifier has, by its config.json; None of what is no classifier, or has none."""
    config = (read_json(config_file) if config_file else None) or {}
    if not any(str(name).endswith(HEADED) for name in config.get("architectures") or ()):
        return None
    return len(config.get("id2label") or (0, 1))  # two labels are the default, and not written


def _find_file(source: str, tensors: dict[str, TensorHeader] | None, name: str = "") -> str:
    """The file that holds the tensor, or in which one would look for it."""
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
    """Whether all of the file was looked at in time. Raises ModelError for a value that is not finite."""
    with safe_open(file, framework="pt") as opened:
        for name, tensor in tensors:
            if tensor.dtype not in FLOATS:
                continue
            whole = opened.get_tensor(name).reshape(-1)  # mapped from the file, not read
            for piece in whole.split(PIECE):
                if time.monotonic() > end:
                    return False
                _refuse_not_finite(file, name, piece.float() if piece.element_size() == 1 else piece)
    return True


def _refuse_not_finite(file: Path, name: str, values: torch.Tensor) -> None:
    low, high = torch.aminmax(values)  # not a number where one value is
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
    """Where it is remembered that nothing was wrong."""
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return home.cache / "weights" / f"{kind}-{name[:40]}.json"
