"""The prompts as the export reads them, beside how the model read them: bytes first, then token ids."""

from __future__ import annotations

from engine.shipping.parity.asked import ParityQuestions
from store.documents.shipping.parity import RenderingExample, RenderingParity

AROUND = 60  # characters of an example that are shown


def compare(
    asked: ParityQuestions,
    texts: list[str],
    present: list[list[int]],
    begin_token: int | None,
    context: int | None,
) -> tuple[RenderingParity, list[bool]]:
    """The counts, and of each prompt whether its ids are the same. context: tokens that the export can read,
    as it says."""
    expected = asked["prompt_ids"]
    same = [ids == own for ids, own in zip(present, expected, strict=True)]
    other_bytes = [text != own for text, own in zip(texts, asked["rendered"], strict=True)]
    example = None
    for i in range(len(texts)):
        if other_bytes[i] or not same[i]:
            example = _example(asked, i, texts[i], present[i])
            break
    return {
        "prompts": len(texts),
        "other_bytes": sum(other_bytes),
        "other_ids": len(same) - sum(same),
        "doubled_bos": sum(
            _beginnings(ids, begin_token) > max(1, _beginnings(own, begin_token))
            for ids, own in zip(present, expected, strict=True)
        ),
        "cut": sum(_beyond(ids, context) != _beyond(ids, asked["positions"]) for ids in expected),
        "example": example,
    }, same


def _beginnings(ids: list[int], begin_token: int | None) -> int:
    """How many tokens of the beginning a prompt begins with."""
    return next((place for place, token in enumerate(ids) if token != begin_token), len(ids))


def _beyond(ids: list[int], limit: int | None) -> bool:
    return bool(limit) and len(ids) >= (limit or 0)


def _example(asked: ParityQuestions, place: int, text: str, ids: list[int]) -> RenderingExample:
    """Where the two part: by characters, else by tokens."""
    row_id, own, own_ids = asked["row_ids"][place], asked["rendered"][place], asked["prompt_ids"][place]
    if text != own:
        at = _parting(own, text)
        begin = max(0, at - AROUND // 3)
        return {
            "row_id": row_id,
            "place": at,
            "expected": own[begin : at + AROUND],
            "present": text[begin : at + AROUND],
        }
    at = _parting(own_ids, ids)
    few = slice(max(0, at - 2), at + 8)
    return {"row_id": row_id, "place": at, "expected": str(own_ids[few]), "present": str(ids[few])}


def _parting(own: str | list[int], other: str | list[int]) -> int:
    """The first place at which they differ."""
    both = zip(own, other, strict=False)
    return next((i for i, (a, b) in enumerate(both) if a != b), min(len(own), len(other)))
