"""Limits for tokenizers, which come with models of strangers: how many tokens they add, and what a pattern of
theirs that goes back too often is called.

transformers takes the added tokens one by one, at a cost that grows with their square: 200,000 take minutes.
`tokenizers` gives up a pattern that goes back ten million times at one place of a text, and panics.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from store.contract.errors import ModelError

MAX_ADDED_TOKENS = 20_000
# By the file, where it has them.
FILES = {"tokenizer.json": "added_tokens", "tokenizer_config.json": "added_tokens_decoder"}
FIX = "Use another model, or repair its tokenizer.json."


def check_added_tokens(source: str, file_of: Callable[[str, str], Path | None]) -> None:
    """Raise ModelError for a tokenizer that adds more tokens than it may, before it is loaded."""
    for name, key in FILES.items():
        file = file_of(source, name)
        content = file.read_bytes() if file else b""
        if content.count(b"{") <= MAX_ADDED_TOKENS:  # each of them is an object: most files need no more
            continue
        try:
            added = json.loads(content)[key]
        except (ValueError, RecursionError, LookupError, TypeError):
            continue  # loading says what is wrong with it
        if isinstance(added, list | dict) and len(added) > MAX_ADDED_TOKENS:
            raise ModelError(
                f"The tokenizer of {source} adds {len(added):,} tokens in {name}; up to {MAX_ADDED_TOKENS:,}"
                " are taken, as the time to load them grows with the square of their number.",
                fix=FIX,
                field="model",
            )


def limit_patterns() -> None:
    """From now on in this process a tokenizer whose pattern is given up raises ModelError."""
    own = PreTrainedTokenizerFast._encode_plus
    if not hasattr(own, "__wrapped__"):
        PreTrainedTokenizerFast._encode_plus = _explained(own)  # type: ignore[method-assign]


def _explained(encode: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(encode)
    def explained(tokenizer: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return encode(tokenizer, *arguments, **options)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # which is no Exception, and has no module to import
                raise
            why = " ".join(str(error).split())[:200]
            message = f"The tokenizer of {tokenizer.name_or_path} gave a text up: {why}."
            raise ModelError(message, fix=FIX, field="model") from error

    return explained
