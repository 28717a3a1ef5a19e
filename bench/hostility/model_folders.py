"""Damaged or malicious model folders, refused by name.

Weights are truncated, flipped, renamed, reshaped or not finite; headers and tokenizers are malicious.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from bench.hostility import Attempt
from engine.models import loading, weight_files
from store.core.errors import ModelError
from store.core.home import Home
from tests.tiny import make_tokenizer
from tests.unit.reading.test_tokenizer_limits import (
    BEYOND,
    ODD_FILES,
    ROWS,
    hostile_tokenizers,
    with_added,
    write,
    write_beyond,
)

TOKENIZER_SECONDS = 60.0  # maximum time until it is refused
ROUNDS = 12  # of each kind
Random = np.random.Generator


def attempts(seed: int, folder: Path) -> list[Attempt]:
    """Try every kind of damage, `ROUNDS` times at different places."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    good = folder / "good"
    LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **sizes)).save_pretrained(good)
    make_tokenizer().save_pretrained(good)
    home = Home(folder / "home").create()
    made = [Attempt("a good folder", _refusal(good, home))]
    for name, harm in WAYS.items():
        for place in range(ROUNDS):
            bad = shutil.copytree(good, folder / f"{name.replace(' ', '-')}-{place}")
            harm(bad / weight_files.SINGLE, np.random.default_rng([seed, place]))
            refusal = _refusal(bad, home)
            held = str(bad) in refusal and not refusal.startswith("raised")
            if name == "bytes of values" or (name == "bytes of the header" and not refusal):
                held = not refusal.startswith("raised")  # most of these are valid
            made.append(Attempt(f"{name}, {place}", "" if held else refusal or "nothing was said"))
    return made + _header_attempts(good, folder, home)


def _headers(file: Path) -> dict[str, bytes]:
    """Return whole files with malicious headers, by name."""
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, values = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = next(key for key in header if key != "__metadata__")
    entry = header[name]

    def changed(**more: object) -> bytes:
        text = json.dumps({**header, name: {**entry, **more}}).encode()
        return len(text).to_bytes(8, "little") + text + values

    def headed(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + values

    plain = json.dumps(header).encode()
    return {
        "a length of 2**63": (2**63).to_bytes(8, "little") + whole[8:],
        "a length of 2**64 - 1": b"\xff" * 8 + whole[8:],
        "a shape of exabytes": changed(shape=[2**31, 2**31]),
        "a shape that overflows": changed(shape=[2**40, 2**40]),
        "a shape below 0": changed(shape=[-1, 2]),
        "offsets beyond the end": changed(data_offsets=[0, 2**60]),
        "offsets backwards": changed(data_offsets=[entry["data_offsets"][1], entry["data_offsets"][0]]),
        "offsets of another tensor": changed(data_offsets=[8, 8 + entry["data_offsets"][1]]),
        "the same name twice": headed(plain[:-1] + b"," + json.dumps(name).encode() + b": 5}"),
        "10,000 levels": headed(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        "100 MB": headed(plain + b" " * 10**8),
        "a name of 10 MB": headed(plain.replace(name.encode(), b"x" * 10**7)),
        "no JSON": headed(b"\0" * 64),
    }


def _tokenizers() -> dict[str, bytes]:
    """Return malicious tokenizer.json files, by name."""
    deep = b'{"model":' * 10**6 + b"1" + b"}" * 10**6
    many = [{"id": 300 + n, "content": f"<{n}>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True} for n in range(200_000)]  # fmt: skip
    return {
        "a million levels": deep,
        "a million lists": b"[" * 10**6,
        "no object": b"5",
        "nothing": b"",
        "200,000 tokens and no model": json.dumps({"version": "1.0", "added_tokens": many}).encode(),
    }


def _header_attempts(good: Path, folder: Path, home: Home) -> list[Attempt]:
    made = []
    for number, (name, content) in enumerate(_headers(good / weight_files.SINGLE).items()):
        bad = shutil.copytree(good, folder / f"header-{number}")
        (bad / weight_files.SINGLE).write_bytes(content)
        refusal = _refusal(bad, home)
        held = str(bad) in refusal and not refusal.startswith("raised")
        made.append(Attempt(f"a header with {name}", "" if held else refusal or "nothing was said"))
        shutil.rmtree(bad)
    for number, (name, content) in enumerate(_tokenizers().items()):
        bad = shutil.copytree(good, folder / f"tokenizer-{number}")
        (bad / "tokenizer.json").write_bytes(content)
        made.append(Attempt(f"a tokenizer of {name}", _tokenizer_failure(bad)))
    many = {f"<{number}>": 300 + number for number in range(100_000)}
    for number, (files, name) in enumerate(
        [
            *ODD_FILES,
            ({"added_tokens.json": many}, "100,000 tokens"),
            ({"added_tokens.json": {"x" * 10**7: 300}}, "a token of 10 MB"),
            ({"tokenizer_config.json": {"extra_special_tokens": list(many)}}, "100,000 special tokens"),
        ]
    ):
        bad = shutil.copytree(good, folder / f"added-{number}")
        write(bad, files)
        made.append(Attempt(f"{next(iter(files))}: {name}", _tokenizer_failure(bad)))
    for number, (beyond, config, says) in enumerate(BEYOND):
        bad = shutil.copytree(good, folder / f"beyond-{number}")
        write_beyond(bad, beyond, config)
        made.append(Attempt(f"an id without a row: {says}", _tokenizer_failure(bad)))
    bad = shutil.copytree(good, folder / "beyond-read")
    write_beyond(bad, with_added, {})
    made.append(Attempt("a text with a token without a row", _tokenizer_failure(bad, text="a <x> b")))
    bad = shutil.copytree(good, folder / "tokenizer-patterns")
    whole = json.loads((good / "tokenizer.json").read_text())
    for name, changes in hostile_tokenizers(whole).items():
        (bad / "tokenizer.json").write_text(json.dumps(whole | changes))
        made.append(Attempt(f"a tokenizer with {name}", _tokenizer_failure(bad, text="a" * 1000 + "!")))
    return made


def _tokenizer_failure(folder: Path, text: str = "") -> str:
    began = time.monotonic()
    try:
        loading.load_tokenizer(str(folder))(text)
    except ModelError:
        seconds = time.monotonic() - began
        return f"took {seconds:.0f} s" if seconds > TOKENIZER_SECONDS else ""
    except BaseException as error:  # noqa: BLE001 (what is looked for)
        return f"raised {type(error).__name__}: {error}"[:300]
    return "it was taken"


def _refusal(folder: Path, home: Home) -> str:
    try:
        architecture = AutoConfig.from_pretrained(folder)
        weight_files.check_weights(str(folder), architecture, home, headed=False, seconds=60)
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
    """Write a header that is JSON, but not a valid safetensors header."""
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
