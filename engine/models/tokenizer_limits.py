"""Limits for tokenizers, which come with models of strangers: how many tokens they add, how long
these are and with what ids, and what a pattern of theirs that goes back too often is called.

transformers takes the added tokens one by one, at a cost that grows with their square: 200,000 take minutes.
`tokenizers` gives up a pattern that goes back ten million times at one place of a text, and panics.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from store.contract.errors import ModelError

MAX_ADDED_TOKENS = 20_000
MAX_CHARACTERS = 10_000  # of an added token
MAX_ID = 2**31
MAX_MIB = {
    "tokenizer.json": 256,
    "tokenizer_config.json": 32,
    "added_tokens.json": 32,
    "special_tokens_map.json": 32,
}
# Where these files have added tokens: as a list, by their ids, by their names.
LISTS = ("added_tokens", "extra_special_tokens", "additional_special_tokens")
DECODER = "added_tokens_decoder"
FIX = "Use another model, or repair its tokenizer.json."


def check_files(source: str, file_of: Callable[[str, str], Path | None]) -> None:
    """Raise ModelError for a tokenizer that adds tokens which it may not add, before it is loaded."""
    for name in MAX_MIB:
        file = file_of(source, name)
        if file is None:
            continue
        state = file.stat()
        if why := _wrong(file, name, state.st_mtime_ns, state.st_size):
            fix = f"Use another model, or repair its {name}."
            raise ModelError(f"{name} of {source} {why}.", fix=fix, field="model")


@functools.lru_cache(maxsize=64)
def _wrong(file: Path, name: str, changed: int, size: int) -> str:
    """What is wrong with the file; empty where nothing is. changed: so that another one is looked at anew."""
    if size > MAX_MIB[name] * 2**20:
        return f"has {size / 2**20:,.0f} MiB, over {MAX_MIB[name]}"
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"is no JSON that can be read: {str(error)[:100]}"
    if not isinstance(document, dict):
        return f"is no object, but {type(document).__name__}"
    try:
        tokens = list(document.items() if name == "added_tokens.json" else _of_settings(document))
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        return f"has added tokens of another form: {str(error)[:100]}"
    if len(tokens) > MAX_ADDED_TOKENS:
        return (
            f"adds {len(tokens):,} tokens; up to {MAX_ADDED_TOKENS:,} are taken, as the time to load them"
            " grows with the square of their number"
        )
    length = document.get("model_max_length", 0) if name == "tokenizer_config.json" else 0
    if not isinstance(length, int | float):
        return f"has {str(length)[:40]!r} as model_max_length, which is no number"
    return next((why for text, number in tokens if (why := _wrong_token(text, number))), "")


def _wrong_token(text: object, number: object) -> str:
    if not isinstance(text, str):
        return f"has an added token that is no text, but {type(text).__name__}"
    if len(text) > MAX_CHARACTERS:
        return f"has an added token of {len(text):,} characters; up to {MAX_CHARACTERS:,} are taken"
    if number is None:
        return ""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_ID:
        return f"gives the added token {text[:40]!r} the id {str(number)[:40]}"
    return ""


def _of_settings(document: dict[str, Any]) -> Iterator[tuple[object, object]]:
    """Tokens with their ids, where they have one."""
    for key in LISTS:
        listed = document.get(key) or []
        for entry in listed.values() if isinstance(listed, dict) and key != LISTS[0] else listed:
            yield (entry["content"], entry.get("id")) if isinstance(entry, dict) else (entry, None)
    for number, entry in (document.get(DECODER) or {}).items():
        yield entry["content"], int(number)
    for key, entry in document.items():
        if key.endswith("_token") and entry is not None and not isinstance(entry, bool):
            yield entry["content"] if isinstance(entry, dict) else entry, None


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
