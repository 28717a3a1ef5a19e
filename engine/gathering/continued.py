"""Conversations that went on: the loss of a run covers every answer of a row, so a correction of the last one
would teach the earlier ones as well, which nobody corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.data.convert.convert import Canonical
from engine.data.deal.dealing import FEW_PROMPTS, SHARED_PROMPT
from engine.near.digest import digest

CONTINUED = "goes on from earlier answers of the model, which nobody corrected and which would be learned too"


def continuing(rows: Sequence[Canonical]) -> list[bool]:
    """Which rows have earlier answers of the model. Turns before the last question that many rows share were
    put there by the caller as examples, and are none."""
    before = [_before(row) for row in rows]
    often = Counter(before)
    few = max(FEW_PROMPTS, SHARED_PROMPT * len(rows))
    return [key is not None and often[key] <= few for key in before]


def _before(row: Canonical) -> bytes | None:
    """A hash of the turns through the last answer before the row's own; None where there is none."""
    turns = list(zip(row.roles or (), row.contents, strict=False))[:-1]
    answers = [place for place, (role, _) in enumerate(turns) if role == "assistant"]
    return digest("\n\n".join(content for _, content in turns[: answers[-1] + 1])) if answers else None
