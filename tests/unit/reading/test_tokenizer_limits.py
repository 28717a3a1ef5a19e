"""Tokenizers that mean harm are refused in a sentence: too many tokens, ids that the model has no rows for,
patterns that go back without end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.models import loading
from engine.models.tokenization import tokenizer_limits
from engine.models.tokenization.tokenized_rows import compute_tokenizer_key
from store.core.errors import ModelError
from tests.tiny import make_tokenizer, write_model

PATTERNS = ("(a+)+$", "(a|aa)+b")
MILLIONS = 2_000_000


def hostile_tokenizers(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes of a tokenizer.json, by what they are."""
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    many = [{"id": 300 + number, "content": f"<{number}>", **token} for number in range(MILLIONS)]
    return {f"{MILLIONS:,} added tokens": {"added_tokens": many}} | {
        f"the pattern {pattern}": {"pre_tokenizer": _split(pattern, whole["pre_tokenizer"])}
        for pattern in PATTERNS
    }


def _split(pattern: str, before: Any) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, before]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, name: str, changes: dict[str, Any]) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_that_goes_back_without_end_is_one_sentence(
    folder: Path, pattern: str, batch: bool
) -> None:
    whole = json.loads((folder / "tokenizer.json").read_text())
    change(folder, "tokenizer.json", {"pre_tokenizer": _split(pattern, whole["pre_tokenizer"])})
    text = "a" * 1000 + "!"
    with pytest.raises(ModelError, match="gave a text up") as refused:
        loading.load_tokenizer(str(folder))([text, text] if batch else text)
    assert str(folder) in refused.value.message
    assert len(refused.value.message) < 500


def added(entry: object) -> dict[str, Any]:
    return {"tokenizer.json": {"added_tokens": [entry]}}


def added_twice(*numbers: int) -> dict[str, Any]:
    names = ("<x>", "<y>")
    tokens = [TOKEN | {"id": number, "content": name} for number, name in zip(numbers, names, strict=True)]
    return {"tokenizer.json": {"added_tokens": tokens}}


TOKEN = {"id": 300, "content": "<x>", "special": True}
LONG = "x" * (tokenizer_limits.MAX_CHARACTERS + 1)
# Changes of files, by the file, and what is said of them.
ODD_FILES: list[tuple[dict[str, Any], str]] = [
    (added(TOKEN | {"content": LONG}), "of 10,001 characters"),
    (added(TOKEN | {"content": 5}), "is not a string, but int"),
    (added(TOKEN | {"id": -1}), "the id -1"),
    (added(TOKEN | {"id": 2**31}), "the id 2147483648"),
    (added(TOKEN | {"id": 1.5}), "the id 1.5"),
    (added({"id": 5}), "of another form"),
    (added_twice(300, 300), "the id 300 to two tokens, '<x>' and '<y>'"),
    (added(TOKEN | {"id": 5}), "the id 5 to two tokens, '#' and '<x>'"),
    ({"added_tokens.json": {"<x>": 300, "<y>": 300}}, "the id 300 to two tokens"),
    ({"added_tokens.json": {LONG: 300}}, "of 10,001 characters"),
    ({"added_tokens.json": {"<x>": -1}}, "the id -1"),
    ({"added_tokens.json": {"<x>": 2**70}}, "the id 1180591"),
    ({"added_tokens.json": {"<x>": "5"}}, "the id 5"),
    ({"added_tokens.json": {"<x>": True}}, "the id True"),
    ({"added_tokens.json": [1]}, "not an object, but list"),
    ({"tokenizer_config.json": None}, "not an object, but NoneType"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"-1": TOKEN}}}, "the id -1"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"x": TOKEN}}}, "of another form"),
    ({"tokenizer_config.json": {"added_tokens_decoder": [1]}}, "of another form"),
    ({"tokenizer_config.json": {"eos_token": LONG}}, "of 10,001 characters"),
    ({"tokenizer_config.json": {"eos_token": 5}}, "is not a string, but int"),
    ({"tokenizer_config.json": {"model_max_length": "x"}}, "'x' as model_max_length"),
    ({"special_tokens_map.json": {"extra_special_tokens": [LONG]}}, "of 10,001 characters"),
]


def write(folder: Path, files: dict[str, Any]) -> None:
    """Change objects, and write everything else as it is."""
    for name, content in files.items():
        if isinstance(content, dict) and (folder / name).exists():
            change(folder, name, content)
        else:
            (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(("files", "says"), ODD_FILES)
def test_added_tokens_that_are_odd_are_refused_by_the_file(
    folder: Path, files: dict[str, Any], says: str
) -> None:
    write(folder, files)
    with pytest.raises(ModelError, match=f"^{next(iter(files))} of .*{says}") as refused:
        loading.load_tokenizer(str(folder))
    assert str(folder) in refused.value.message
    assert len(refused.value.message) < 500


def with_vocabulary(number: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changes(whole: dict[str, Any]) -> dict[str, Any]:
        model = whole["model"]
        return {"model": model | {"vocab": model["vocab"] | {"<x>": number}}}

    return changes


def with_added(whole: dict[str, Any]) -> dict[str, Any]:
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"added_tokens": [*whole["added_tokens"], token | {"id": ROWS, "content": "<x>"}]}


ROWS = 259  # of the model's embeddings
# Changes of tokenizer.json and tokenizer_config.json beside a whole model, and what is said of them.
BEYOND: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], dict[str, Any], str]] = [
    (with_vocabulary(ROWS), {}, f"tokenizer.json of .*'<x>' the id {ROWS}, and the model has {ROWS} rows"),
    (with_vocabulary(9999), {}, f"tokenizer.json of .*'<x>' the id 9999, and the model has {ROWS} rows"),
    (with_vocabulary(-1), {}, "tokenizer.json of .*'<x>' the id -1"),
    (with_vocabulary(5), {}, "tokenizer.json of .*the id 5 to two tokens, '#' and '<x>'"),
    (with_added, {"eos_token": "<x>"}, f"tokenizer.json of .*'<x>' the id {ROWS}, and the model has"),
    (with_added, {"pad_token": "<x>"}, f"tokenizer.json of .*'<x>' the id {ROWS}, and the model has"),
    (lambda whole: {}, {"pad_token": "<pad>"}, f"tokenizer_config.json of .*'<pad>' the id {ROWS}, and"),
]


def write_beyond(folder: Path, beyond: Callable[[dict[str, Any]], dict[str, Any]], config: object) -> None:
    """Change the tokenizer beside a model."""
    change(folder, "tokenizer.json", beyond(json.loads((folder / "tokenizer.json").read_text())))
    write(folder, {"tokenizer_config.json": config})


@pytest.mark.parametrize(("beyond", "config", "says"), BEYOND)
def test_an_id_for_which_the_model_has_no_row_is_refused_by_file_token_and_rows(
    tmp_path: Path, beyond: Callable[[dict[str, Any]], dict[str, Any]], config: dict[str, Any], says: str
) -> None:
    model = write_model(tmp_path / "model")
    assert loading.load_tokenizer(str(model))("hi").input_ids
    write_beyond(model, beyond, config)
    with pytest.raises(ModelError, match=says) as refused:
        loading.load_tokenizer(str(model))
    assert str(model) in refused.value.message
    assert refused.value.fix


@pytest.mark.parametrize("text", ["a <x> b", ["a", "b <x>"]])
def test_an_added_token_that_nothing_needs_may_lack_a_row_until_a_text_has_it(
    tmp_path: Path, text: str | list[str]
) -> None:
    """As that of images in models that were cut down to text."""
    model = write_model(tmp_path / "model")
    write_beyond(model, with_added, {})
    tokenizer = loading.load_tokenizer(str(model))
    assert max(tokenizer("a < x > b").input_ids) < ROWS
    with pytest.raises(ModelError, match=f"A text has the token '<x>', .* the id {ROWS}"):
        tokenizer(text)
    wider = loading.load_tokenizer(str(write_beyond_rows(tmp_path / "wider")))
    assert max(wider("a <x> b").input_ids) == ROWS
    assert compute_tokenizer_key(wider) != compute_tokenizer_key(
        tokenizer
    )  # rows that the one has read aren't the other's


def write_beyond_rows(folder: Path) -> Path:
    """A model that has a row for the added token."""
    model = write_model(folder, vocab_size=ROWS + 1)
    write_beyond(model, with_added, {})
    return model


def test_an_adapters_own_tokenizer_is_held_to_the_rows_of_its_base(tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path / "base"), tmp_path / "adapter"
    make_tokenizer().save_pretrained(adapter)
    assert loading.load_tokenizer(str(adapter), model=str(base))("hi").input_ids
    write_beyond(adapter, with_vocabulary(ROWS), {})
    with pytest.raises(ModelError, match=f"tokenizer.json of {adapter} .*'<x>' the id {ROWS}"):
        loading.load_tokenizer(str(adapter), model=str(base))


def test_a_template_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder, "tokenizer_config.json", {"chat_template": 5})
    with pytest.raises(ModelError, match="a chat template that is not a string, but int"):
        loading.load_tokenizer(str(folder))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tokenizer.json", "added_tokens"),
        ("tokenizer_config.json", "added_tokens_decoder"),
        ("tokenizer_config.json", "extra_special_tokens"),
        ("special_tokens_map.json", "additional_special_tokens"),
        ("added_tokens.json", ""),
    ],
)
def test_more_added_tokens_than_are_taken_are_counted_and_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setattr(tokenizer_limits, "MAX_ADDED_TOKENS", 50)
    assert loading.load_tokenizer(str(folder))("a").input_ids
    tokens = [{"id": 300 + number, "content": f"<{number}>"} for number in range(60)]
    content: dict[str, Any] = {
        "added_tokens": {key: tokens},
        "added_tokens_decoder": {key: dict(enumerate(tokens))},
        "": {f"<{number}>": 300 + number for number in range(60)},
    }.get(key, {key: [f"<{number}>" for number in range(60)]})
    write(folder, {name: content})
    with pytest.raises(ModelError, match=f"{name} of .* adds 6\\d tokens; up to 50"):
        loading.load_tokenizer(str(folder))
