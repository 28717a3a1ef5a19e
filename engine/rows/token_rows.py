"""One row for people to look at: the text of each token, and whether it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.rows.pairs import Pairs
from engine.rows.render import Rows


def shown(tokenizer: Any, rows: Rows, limit: int, index: int) -> dict[str, Any]:
    """One training row as the model will see it, of a pair the rejected answer too under `rejected`; `index`
    beyond the ends takes the nearest."""
    if not isinstance(rows, Pairs):
        return shown_row(tokenizer, rows, limit, index)
    index = min(max(index, 0), len(rows) - 1)
    one = rows.take(np.asarray([index]))
    found = shown_row(tokenizer, one.chosen, limit, 0) | {"index": index, "of": len(rows)}
    return found | {"rejected": shown_row(tokenizer, one.rejected, limit, 0)}


def shown_row(tokenizer: Any, rows: Rows, limit: int, index: int) -> dict[str, Any]:
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
