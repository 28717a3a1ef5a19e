"""Model folders whose weights are cut off, flipped, renamed, reshaped or not finite: refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from bench.hostility import Attempt
from engine.models import weight_files
from store.contract.errors import ModelError
from store.contract.home import Home

ROUNDS = 12  # of each way
Random = np.random.Generator


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Every way, `ROUNDS` times at other places."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    good = folder / "good"
    LlamaForCausalLM(LlamaConfig(vocab_size=99, **sizes)).save_pretrained(good)
    home = Home(folder / "home").create()
    made = [Attempt("a good folder", _refusal(good, home))]
    for name, harm in WAYS.items():
        for place in range(ROUNDS):
            bad = shutil.copytree(good, folder / f"{name.replace(' ', '-')}-{place}")
            harm(bad / weight_files.SINGLE, np.random.default_rng([seed, place]))
            refusal = _refusal(bad, home)
            held = str(bad) in refusal and not refusal.startswith("raised")
            if name == "bytes of values" or (name == "bytes of the header" and not refusal):
                held = not refusal.startswith("raised")  # most such values and some such names are as good
            made.append(Attempt(f"{name}, {place}", "" if held else refusal or "nothing was said"))
    return made


def _refusal(folder: Path, home: Home) -> str:
    try:
        architecture = AutoConfig.from_pretrained(folder)
        weight_files.check(str(folder), architecture, home, headed=False, seconds=60)
    except ModelError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 (what is looked for)
        return f"raised {type(error).__name__}: {error}"
    return ""


def _cut(file: Path, rng: Random) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(rng.integers(0, len(whole)))])


def _longer(file: Path, rng: Random) -> None:
    file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 99))))


def _flip(file: Path, rng: Random, first: int, last: int) -> None:
    whole = bytearray(file.read_bytes())
    for place in rng.integers(first, last, 3):
        whole[place] = int(rng.integers(0, 256))
    file.write_bytes(bytes(whole))


def _header_bytes(file: Path, rng: Random) -> None:
    _flip(file, rng, 0, 8 + int.from_bytes(file.read_bytes()[:8], "little"))


def _value_bytes(file: Path, rng: Random) -> None:
    size = file.stat().st_size
    _flip(file, rng, 8 + int.from_bytes(file.read_bytes()[:8], "little"), size)


def _of_tensors(
    change: Callable[[dict[str, torch.Tensor], str, Random], object],
) -> Callable[[Path, Random], None]:
    def harm(file: Path, rng: Random) -> None:
        tensors = load_file(file)
        change(tensors, str(rng.choice(sorted(tensors))), rng)
        save_file(tensors, file, metadata={"format": "pt"})

    return harm


def _not_finite(tensors: dict[str, torch.Tensor], name: str, rng: Random) -> None:
    values = tensors[name].view(-1)
    values[int(rng.integers(0, len(values)))] = float(rng.choice([np.nan, np.inf, -np.inf]))


def _odd_header(file: Path, rng: Random) -> None:
    """A header that is JSON and no header."""
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    name = str(rng.choice([key for key in header if key != "__metadata__"]))
    odd = [5, None, [], {}, {"dtype": "F32"}, {"dtype": "X9", "shape": [-1], "data_offsets": [0, 4]},
           {"dtype": "F32", "shape": ["a"], "data_offsets": "b"}]  # fmt: skip
    header[name] = odd[int(rng.integers(0, len(odd)))]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


WAYS: dict[str, Callable[[Path, Random], None]] = {
    "cut off": _cut,
    "longer": _longer,
    "bytes of the header": _header_bytes,
    "bytes of values": _value_bytes,
    "an odd header": _odd_header,
    "a tensor missing": _of_tensors(lambda tensors, name, rng: tensors.pop(name)),
    "another name": _of_tensors(lambda tensors, name, rng: tensors.update({f"{name}x": tensors.pop(name)})),
    "another shape": _of_tensors(lambda tensors, name, rng: tensors.update({name: torch.zeros(3, 3)})),
    "not finite": _of_tensors(_not_finite),
}
