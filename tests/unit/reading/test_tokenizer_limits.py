"""Tokenizers that mean harm are refused in a sentence: too many tokens, patterns that go back without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.models import models, tokenizer_limits
from store.contract.errors import ModelError
from tests.tiny import make_tokenizer

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
        models.load_tokenizer(str(folder))([text, text] if batch else text)
    assert str(folder) in refused.value.message
    assert len(refused.value.message) < 500


def added(entry: object) -> dict[str, Any]:
    return {"tokenizer.json": {"added_tokens": [entry]}}


TOKEN = {"id": 300, "content": "<x>", "special": True}
LONG = "x" * (tokenizer_limits.MAX_CHARACTERS + 1)
# Changes of files, by the file, and what is said of them.
ODD_FILES: list[tuple[dict[str, Any], str]] = [
    (added(TOKEN | {"content": LONG}), "of 10,001 characters"),
    (added(TOKEN | {"content": 5}), "is no text, but int"),
    (added(TOKEN | {"id": -1}), "the id -1"),
    (added(TOKEN | {"id": 2**31}), "the id 2147483648"),
    (added(TOKEN | {"id": 1.5}), "the id 1.5"),
    (added({"id": 5}), "of another form"),
    ({"added_tokens.json": {LONG: 300}}, "of 10,001 characters"),
    ({"added_tokens.json": {"<x>": -1}}, "the id -1"),
    ({"added_tokens.json": {"<x>": 2**70}}, "the id 1180591"),
    ({"added_tokens.json": {"<x>": "5"}}, "the id 5"),
    ({"added_tokens.json": {"<x>": True}}, "the id True"),
    ({"added_tokens.json": [1]}, "no object, but list"),
    ({"tokenizer_config.json": None}, "no object, but NoneType"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"-1": TOKEN}}}, "the id -1"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"x": TOKEN}}}, "of another form"),
    ({"tokenizer_config.json": {"added_tokens_decoder": [1]}}, "of another form"),
    ({"tokenizer_config.json": {"eos_token": LONG}}, "of 10,001 characters"),
    ({"tokenizer_config.json": {"eos_token": 5}}, "is no text, but int"),
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
        models.load_tokenizer(str(folder))
    assert str(folder) in refused.value.message
    assert len(refused.value.message) < 500


def test_a_template_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder, "tokenizer_config.json", {"chat_template": 5})
    with pytest.raises(ModelError, match="a chat template that is no text, but int"):
        models.load_tokenizer(str(folder))


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
    assert models.load_tokenizer(str(folder))("a").input_ids
    tokens = [{"id": 300 + number, "content": f"<{number}>"} for number in range(60)]
    content: dict[str, Any] = {
        "added_tokens": {key: tokens},
        "added_tokens_decoder": {key: dict(enumerate(tokens))},
        "": {f"<{number}>": 300 + number for number in range(60)},
    }.get(key, {key: [f"<{number}>" for number in range(60)]})
    write(folder, {name: content})
    with pytest.raises(ModelError, match=f"{name} of .* adds 6\\d tokens; up to 50"):
        models.load_tokenizer(str(folder))
