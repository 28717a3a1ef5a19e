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


@pytest.mark.parametrize("name", tokenizer_limits.FILES)
def test_more_added_tokens_than_are_taken_are_counted_and_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tokenizer_limits, "MAX_ADDED_TOKENS", 50)
    assert models.load_tokenizer(str(folder))("a").input_ids
    tokens = [{"id": 300 + number, "content": f"<{number}>"} for number in range(51)]
    key = tokenizer_limits.FILES[name]
    change(folder, name, {key: tokens if name == "tokenizer.json" else dict(enumerate(tokens))})
    with pytest.raises(ModelError, match=f"adds 51 tokens in {name}; up to 50"):
        models.load_tokenizer(str(folder))
