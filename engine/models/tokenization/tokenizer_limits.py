"""Limits for tokenizers, which come with models of strangers: how many tokens they add, how long
these are and with what ids, that the model has a row for each id, and what a pattern of theirs that goes back
too often is called.

transformers takes the added tokens one by one, at a cost that grows with their square: 200,000 take minutes.
`tokenizers` gives up a pattern that goes back ten million times at one place of a text, and panics.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from store.core.errors import ModelError

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
# Tokens that a tokenizer puts into texts by itself, by the attributes of transformers.
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
    """Raise ModelError for a tokenizer that adds tokens which it may not add, before it is loaded."""
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
        tokens = list(document.items() if name == "added_tokens.json" else _iterate_special_tokens(document))
        vocabulary = _list_vocabulary(document) if name == "tokenizer.json" else ()
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
    wrong = next((why for text, _ in tokens if (why := _describe_token_fault(text))), "")
    return wrong or _describe_id_fault((*vocabulary, *((str(text), number) for text, number in tokens)))


def _describe_token_fault(text: object) -> str:
    if not isinstance(text, str):
        return f"has an added token that is no text, but {type(text).__name__}"
    if len(text) > MAX_CHARACTERS:
        return f"has an added token of {len(text):,} characters; up to {MAX_CHARACTERS:,} are taken"
    return ""


def _describe_id_fault(tokens: Iterable[tuple[str, object]]) -> str:
    """Of tokens with their ids, where they have one: ids that are none, and those of two tokens."""
    named: dict[int, str] = {}
    for text, number in tokens:
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_ID:
            return f"gives the token {text[:40]!r} the id {str(number)[:40]}"
        if named.setdefault(number, text) != text:
            return f"gives the id {number} to two tokens, {named[number][:40]!r} and {text[:40]!r}"
    return ""


def _list_vocabulary(document: dict[str, Any]) -> Collection[tuple[str, object]]:
    """Tokens of a tokenizer.json that are not added, with their ids; none where their places are these."""
    listed = (document.get("model") or {}).get("vocab")
    return listed.items() if isinstance(listed, dict) else ()


def _iterate_special_tokens(document: dict[str, Any]) -> Iterator[tuple[object, object]]:
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


def check_rows(source: str, tokenizer: Any, rows: int, file_of: Callable[[str, str], Path | None]) -> None:
    """Raise ModelError where a token has an id for which the model, of so many embeddings, has no row.

    Models cut down to text keep added tokens of images that have none. Those are taken, and a text that has
    one is refused as it is read.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    spared = tokenizer.added_tokens_decoder.keys() - {getattr(tokenizer, own) for own in SPECIAL_TOKEN_IDS}
    number = min(beyond.keys() - spared, default=None)
    if number is not None:
        name, token = _find_file_with(source, beyond[number], file_of), beyond[number][:40]
        raise ModelError(
            f"{name} of {source} gives the token {token!r} the id {number}, and the model has {rows} rows of"
            f" embeddings (vocab_size in its config.json), for the ids 0 to {rows - 1}.",
            fix="Put the tokenizer that came with this model into the folder, or save the model again after "
            "model.resize_token_embeddings(len(tokenizer)).",
            field="model",
        )
    tokenizer.beyond_rows = beyond


def _find_file_with(source: str, token: str, file_of: Callable[[str, str], Path | None]) -> str:
    """The file that adds a token, else that of the vocabulary."""
    there = {name: file for name in MAX_MIB if (file := file_of(source, name))}
    for name, file in there.items():
        document = json.loads(file.read_bytes())
        listed = document.items() if name == "added_tokens.json" else _iterate_special_tokens(document)
        if token in (text for text, _ in listed):
            return name
    return "tokenizer.json" if "tokenizer.json" in there else "The vocabulary"


def _refuse_beyond(tokenizer: Any, encoded: Any) -> None:
    """Raise ModelError for a text with a token for which the model has no row."""
    for encoding in encoded.encodings:
        for number in sorted(tokenizer.beyond_rows.keys() & encoding.ids):
            raise ModelError(
                f"A text has the token {tokenizer.beyond_rows[number][:40]!r}, for which the model has no row"
                f" of embeddings: the tokenizer of {tokenizer.name_or_path} gives it the id {number}.",
                fix="Take the token out of the text, or use another model.",
                field="model",
            )


def limit_encoding() -> None:
    """From now on in this process a tokenizer whose pattern is given up raises ModelError, and one that reads
    a token for which the model has no row."""
    own = PreTrainedTokenizerFast._encode_plus
    if not hasattr(own, "__wrapped__"):
        PreTrainedTokenizerFast._encode_plus = _explain_encoding_errors(own)  # type: ignore[method-assign]


def _explain_encoding_errors(encode: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(encode)
    def explained(tokenizer: Any, *arguments: Any, **options: Any) -> Any:
        try:
            encoded = encode(tokenizer, *arguments, **options)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # which is no Exception, and has no module to import
                raise
            why = " ".join(str(error).split())[:200]
            message = f"The tokenizer of {tokenizer.name_or_path} gave a text up: {why}."
            raise ModelError(message, fix=FIX, field="model") from error
        if getattr(tokenizer, "beyond_rows", None):
            _refuse_beyond(tokenizer, encoded)
        return encoded

    return explained
