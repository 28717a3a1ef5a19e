"""Limits for tokenizers from untrusted models.

They cover the number, length and ids of added tokens, and that the model has an embedding row for each id;
errors of a regular expression that backtracks too often are explained.

transformers adds tokens one by one, at quadratic cost: 200,000 take minutes. `tokenizers` gives up on a
pattern that backtracks ten million times at one position of a text, and panics.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from store.core.errors import ModelError

MAX_ADDED_TOKENS = 20_000
MAX_CHARACTERS = 10_000  # characters of an added token
MAX_ID = 2**31
MAX_MIB = {
    "tokenizer.json": 256,
    "tokenizer_config.json": 32,
    "added_tokens.json": 32,
    "special_tokens_map.json": 32,
}
# Keys under which these files have added tokens: as lists, and by id.
LISTS = ("added_tokens", "extra_special_tokens", "additional_special_tokens")
DECODER = "added_tokens_decoder"
# Tokens that a tokenizer inserts by itself, as attributes in transformers.
SPECIAL_TOKEN_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "cls_token_id",
    "sep_token_id",
)
FIX = "Use another model, or repair its tokenizer.json."


def check_files(source: str, file_of: Callable[[str, str], Path | None]) -> None:
    """Raise ModelError for a tokenizer with invalid added tokens, before it is loaded."""
    for name in MAX_MIB:
        file = file_of(source, name)
        if file is None:
            continue
        state = file.stat()
        if why := _describe_fault(file, name, state.st_mtime_ns, state.st_size):
            fix = f"Use another model, or repair its {name}."
            raise ModelError(f"{name} of {source} {why}.", fix=fix, field="model")


@functools.lru_cache(maxsize=64)
def _describe_fault(file: Path, name: str, changed: int, size: int) -> str:
    """Describe what is wrong with the file; empty if nothing is.

    `changed`: modification time, part of the cache key.
    """
    if size > MAX_MIB[name] * 2**20:
        return f"has {size / 2**20:,.0f} MiB, over {MAX_MIB[name]}"
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON: {str(error)[:100]}"
    if not isinstance(document, dict):
        return f"is not an object, but {type(document).__name__}"
    try:
        tokens = list(document.items() if name == "added_tokens.json" else _iterate_special_tokens(document))
        # in a tokenizer.json, tokens with ids, without added ones; other files, or ids by position: none
        listed = (document.get("model") or {}).get("vocab") if name == "tokenizer.json" else None
        vocabulary = listed.items() if isinstance(listed, dict) else ()
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        return f"has added tokens of another form: {str(error)[:100]}"
    if len(tokens) > MAX_ADDED_TOKENS:
        return (
            f"adds {len(tokens):,} tokens; up to {MAX_ADDED_TOKENS:,} are allowed, because loading time"
            " grows with the square of their number"
        )
    length = document.get("model_max_length", 0) if name == "tokenizer_config.json" else 0
    if not isinstance(length, int | float):
        return f"has {str(length)[:40]!r} as model_max_length, which is not a number"
    wrong = next((why for text, _ in tokens if (why := _describe_token_fault(text))), "")
    return wrong or _describe_id_fault((*vocabulary, *((str(text), number) for text, number in tokens)))


def _describe_token_fault(text: object) -> str:
    if not isinstance(text, str):
        return f"has an added token that is not a string, but {type(text).__name__}"
    if len(text) > MAX_CHARACTERS:
        return f"has an added token of {len(text):,} characters; up to {MAX_CHARACTERS:,} are allowed"
    return ""


def _describe_id_fault(tokens: Iterable[tuple[str, object]]) -> str:
    """Describe an invalid id, or one shared by two tokens; empty if there is none.

    Ids are optional.
    """
    named: dict[int, str] = {}
    for text, number in tokens:
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_ID:
            return f"gives the token {text[:40]!r} the id {str(number)[:40]}"
        if named.setdefault(number, text) != text:
            return f"gives the id {number} to two tokens, {named[number][:40]!r} and {text[:40]!r}"
    return ""


def _iterate_special_tokens(document: dict[str, Any]) -> Iterator[tuple[object, object]]:
    """Yield tokens with their ids, or None without one."""
    for key in LISTS:
        listed = document.get(key) or []
        for entry in listed.values() if isinstance(listed, dict) and key != LISTS[0] else listed:
            yield (entry["content"], entry.get("id")) if isinstance(entry, dict) else (entry, None)
    for number, entry in (document.get(DECODER) or {}).items():
        yield entry["content"], int(number)
    for key, entry in document.items():
        if key.endswith("_token") and entry is not None and not isinstance(entry, bool):
            yield entry["content"] if isinstance(entry, dict) else entry, None


def check_rows(source: str, tokenizer: Any, rows: int, file_of: Callable[[str, str], Path | None]) -> None:
    """Raise ModelError if a token has an id beyond the model's `rows` embedding rows.

    Models reduced to text keep added tokens for images without rows. Those are accepted, and a text that
    contains one raises when it is encoded.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    spared = tokenizer.added_tokens_decoder.keys() - {getattr(tokenizer, own) for own in SPECIAL_TOKEN_IDS}
    number = min(beyond.keys() - spared, default=None)
    if number is not None:
        name, token = _find_file_with(source, beyond[number], file_of), beyond[number][:40]
        raise ModelError(
            f"{name} of {source} gives the token {token!r} the id {number}, and the model has {rows} rows of"
            f" embeddings (vocab_size in its config.json), for the ids 0 to {rows - 1}.",
            fix="Copy the tokenizer of this model into the folder, or save the model again after"
            " model.resize_token_embeddings(len(tokenizer)).",
            field="model",
        )
    tokenizer.beyond_rows = beyond


def _find_file_with(source: str, token: str, file_of: Callable[[str, str], Path | None]) -> str:
    """Return the file that adds a token, or else that of the vocabulary."""
    there = {name: file for name in MAX_MIB if (file := file_of(source, name))}
    for name, file in there.items():
        document = json.loads(file.read_bytes())
        listed = document.items() if name == "added_tokens.json" else _iterate_special_tokens(document)
        if token in (text for text, _ in listed):
            return name
    return "tokenizer.json" if "tokenizer.json" in there else "The vocabulary"


def _refuse_beyond(tokenizer: Any, encoded: Any) -> None:
    """Raise ModelError for a text with a token that has no embedding row."""
    for encoding in encoded.encodings:
        for number in sorted(tokenizer.beyond_rows.keys() & encoding.ids):
            raise ModelError(
                f"A text has the token {tokenizer.beyond_rows[number][:40]!r}, for which the model has no row"
                f" of embeddings: the tokenizer of {tokenizer.name_or_path} gives it the id {number}.",
                fix="Take the token out of the text, or use another model.",
                field="model",
            )


def limit_encoding() -> None:
    """Make encoding in this process raise ModelError for two kinds of texts.

    These are texts at which a pattern is given up, and texts with a token without embedding row.
    """
    own = PreTrainedTokenizerFast._encode_plus
    if not hasattr(own, "__wrapped__"):
        PreTrainedTokenizerFast._encode_plus = _explain_encoding_errors(own)  # type: ignore[method-assign]


def _explain_encoding_errors(encode: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(encode)
    def explained(tokenizer: Any, *arguments: Any, **options: Any) -> Any:
        try:
            encoded = encode(tokenizer, *arguments, **options)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # not an Exception, and not importable
                raise
            why = " ".join(str(error).split())[:200]
            message = f"The tokenizer of {tokenizer.name_or_path} gave a text up: {why}."
            raise ModelError(message, fix=FIX, field="model") from error
        if getattr(tokenizer, "beyond_rows", None):
            _refuse_beyond(tokenizer, encoded)
        return encoded

    return explained
