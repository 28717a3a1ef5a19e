"""Two tokenizers by their files: which id stands for which token, and how texts are parted into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.diagnostics.phrasing import plural

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding")
NAME = "tokenizer.json"


def differing_tokens(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Sentences about `other`, the export's tokenizer.json, beside the model's."""
    causes = differing_ids(tokens_by_id(own), tokens_by_id(other), NAME)
    first, second = _added(own), _added(other)
    if changed := [token for token in {**first, **second} if first.get(token) != second.get(token)]:
        causes.append(f"{NAME}: {plural(len(changed), 'added token')} of another kind, first {changed[0]!r}.")
    for part in PARTS:
        if own.get(part) != other.get(part):
            causes.append(f"{NAME}: the {part.replace('_', ' ')} isn't the model's.")
    causes += _of_model(own.get("model") or {}, other.get("model") or {})
    return causes


def tokens_by_id(document: Mapping[str, Any]) -> dict[int, str]:
    """Of the vocabulary and the tokens added to it."""
    vocabulary = (document.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, Mapping):
        ids = {int(place): str(token) for token, place in vocabulary.items()}
    else:  # pieces with their scores
        ids = {place: str(piece[0]) for place, piece in enumerate(vocabulary)}
    return ids | {int(each["id"]): str(each["content"]) for each in document.get("added_tokens") or ()}


def differing_ids(own: Mapping[int, str], other: Mapping[int, str], where: str) -> list[str]:
    """Tokens that are missing or more, and ids that stand for others."""
    causes = []
    if missing := sorted(own.keys() - other.keys()):
        causes.append(
            f"{where}: {plural(len(missing), 'token')} of the model's {len(own):,} missing, first id"
            f" {missing[0]:,}, {own[missing[0]]!r}."
        )
    if more := sorted(other.keys() - own.keys()):
        causes.append(
            f"{where}: {plural(len(more), 'token')} more than the model has, first id {more[0]:,},"
            f" {other[more[0]]!r}."
        )
    if swapped := sorted(place for place in own.keys() & other.keys() if own[place] != other[place]):
        first = swapped[0]
        causes.append(
            f"{where}: {plural(len(swapped), 'id')} for other tokens than in the model, first id {first:,}:"
            f" {other[first]!r} in the export, {own[first]!r} in the model."
        )
    return causes


def _added(document: Mapping[str, Any]) -> dict[str, Any]:
    return {str(each["content"]): each for each in document.get("added_tokens") or ()}


def _of_model(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Merges, scores of pieces, and how unknown signs are read."""
    causes = []
    if _pairs(own) != _pairs(other):
        causes.append(f"{NAME}: the merges of pairs aren't the model's.")
    if isinstance(own.get("vocab"), list) and own["vocab"] != other.get("vocab"):
        causes.append(f"{NAME}: pieces or their scores aren't the model's.")
    rest = [key for key in dict.fromkeys([*own, *other]) if key not in ("merges", "vocab")]
    changed = [key for key in rest if own.get(key) != other.get(key)]
    return causes + [
        f"{NAME}: {key} is {other.get(key)!r} in the export, {own.get(key)!r} in the model."
        for key in changed
    ]


def _pairs(model: Mapping[str, Any]) -> list[str]:
    """Merges; releases write a pair as a text or as a list of two."""
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges") or ()]
