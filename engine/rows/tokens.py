"""Tokenised rows, kept in the cache by what they depend on: rows, tokenizer, template and mask.

A data set of up to `WHOLE` rows is tokenised whole, so that another split, seed or size finds it there.
The file is safetensors, written aside and renamed; the oldest files go when there are more than `KEPT`.

One row for people to look at: the text of each token, and whether it is trained.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.rows.pairs import TokenPairs
from engine.rows.render import TokenRows, render
from store.contract.home import Home
from store.contract.jobdir import written_aside
from store.documents.data.rendering import RenderedRow, RowTokens

VERSION = 1  # of what `render` does: another number, another key
WHOLE = 20_000
KEPT = 24
CHUNK = 5_000  # rows tokenised between two reports

LoadRows = Callable[[np.ndarray], Sequence[Any]]  # row ids -> their messages or texts, in that order
Encode = Callable[[Any, np.ndarray, Any], TokenRows]  # tokenizer, row ids and what `LoadRows` gives -> rows


@dataclass(frozen=True)
class RowsToTokenise:
    """The rows `row_ids` of a data set of `row_count`.

    `variant` names what `load` makes of the rows where that is not their own text. encode: in place of
    `render`, which makes a variant too.
    """

    fingerprint: str
    row_count: int
    row_ids: np.ndarray
    completion_only: bool
    load: LoadRows
    variant: str = ""
    encode: Encode | None = None


def tokenised(
    home: Home,
    tokenizer: Any,
    order: RowsToTokenise,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> TokenRows:
    """The rows of an order, tokenised; `on_rows(done, total)` may raise."""
    whole = order.row_count <= WHOLE
    wanted = np.arange(order.row_count) if whole else np.unique(order.row_ids)
    key = _key(order.fingerprint + order.variant, tokenizer, order.completion_only, wanted)
    path = home.cache / "tokens" / f"{key}.safetensors"
    rows = read_rows(path)
    if rows is None:
        parts = []
        for first in range(0, len(wanted), CHUNK):
            on_rows(first, len(wanted))
            chunk = wanted[first : first + CHUNK]
            loaded = order.load(chunk)
            if order.encode is not None:
                parts.append(order.encode(tokenizer, chunk, loaded))
            else:
                parts.append(render(tokenizer, chunk, loaded, completion_only=order.completion_only))
        rows = TokenRows.joined(parts)
        write_rows(path, rows)
    return rows.select(order.row_ids)


def tokenizer_key(tokenizer: Any) -> str:
    """Names everything of a tokenizer that decides ids and template."""
    parts = (
        tokenizer.backend_tokenizer.to_str(),
        str(tokenizer.chat_template),
        str(sorted(tokenizer.special_tokens_map.items())),
        # Tokens that another model with the same tokenizer may have rows for.
        *map(str, sorted(getattr(tokenizer, "beyond_rows", ()))),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _key(fingerprint: str, tokenizer: Any, completion_only: bool, row_ids: np.ndarray) -> str:
    digest = hashlib.sha256(row_ids.astype(np.int64).tobytes()).hexdigest()
    parts = [VERSION, fingerprint, tokenizer_key(tokenizer), completion_only, digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def read_rows(path: Path) -> TokenRows | None:
    """The rows that `write_rows` left, or None."""
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError):  # absent, or cut off by a full disk
        return None
    os.utime(path)
    return TokenRows(**arrays)


def write_rows(path: Path, rows: TokenRows) -> None:
    """Keep the rows; of more than `KEPT` files of the folder the oldest go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path, flush=False) as unfinished:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(rows).items()}, unfinished)
    files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT]:
        old.unlink(missing_ok=True)


def rendered_row(tokenizer: Any, rows: TokenRows, limit: int, index: int) -> RenderedRow:
    """One training row as the model will see it, of a pair the rejected answer too under `rejected`; `index`
    beyond the ends takes the nearest."""
    if not isinstance(rows, TokenPairs):
        return {**row_tokens(tokenizer, rows, limit, index)}
    index = min(max(index, 0), len(rows) - 1)
    pair = rows.take(np.asarray([index]))
    return {
        **row_tokens(tokenizer, pair.chosen, limit, 0),
        "index": index,
        "of": len(rows),
        "rejected": row_tokens(tokenizer, pair.rejected, limit, 0),
    }


def row_tokens(tokenizer: Any, rows: TokenRows, limit: int, index: int) -> RowTokens:
    """One training row as the model will see it; `index` beyond the ends takes the nearest."""
    index = min(max(index, 0), len(rows) - 1)
    ids, trained = rows.row(index)
    seen = ids[:limit].tolist()
    texts = pieces(tokenizer, seen)
    return {
        "row_id": int(rows.row_ids[index]),
        "index": index,
        "of": len(rows),
        "tokens": [
            {"text": text, "id": token, "trained": bool(flag)}
            for text, token, flag in zip(texts, seen, trained, strict=False)
        ],
        "truncated": len(ids) > limit,
    }


def pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text of each token; of tokens that share one character, the last has it and the others none."""
    texts, pending = [], []
    for token, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        pending.append(token)
        text = tokenizer.decode(pending, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 4:
            texts.append("")
            continue
        if name.startswith("▁") and not text.startswith(" "):
            text = " " + text  # a lone token of SentencePiece loses its space
        texts.append(text)
        pending = []
    return texts
