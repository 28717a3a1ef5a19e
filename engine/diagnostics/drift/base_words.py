"""What asking the base model about answers costs, and what became of the answers of a look, in sentences."""

from __future__ import annotations

from engine.diagnostics.phrasing import number, plural
from store.documents.serving.served_base import BaseLook

MOST_ANSWERS = 200  # of a look that are measured
MOST_REASONS = 3


def cost_line(look: BaseLook | None) -> str:
    """What watching perplexity costs."""
    cost = (
        "Perplexity under the base costs time and memory: each look loads the base model and asks it about"
        f" {MOST_ANSWERS} answers at most."
    )
    if look is None or not look["measured"]:
        return f"{cost} How long that takes is said here after the first look."
    each = _seconds(look["seconds"])
    return f"{cost} The last look took {each} a request, after {_seconds(look['loading'])} of loading."


def look_line(look: BaseLook) -> str:
    """How many answers have a value, and why others have none."""
    parts = [f"{plural(look['measured'], 'answer')} measured"]
    if look["left_out"]:
        parts.append(f"{look['left_out']:,} not drawn, as a look takes {MOST_ANSWERS} at most")
    if look["cut"]:
        parts.append(f"{look['cut']:,} of the measured cut to the context of the base")
    text = f"Perplexity under the base, at the last look: {'; '.join(parts)}."
    reasons = sorted(look["reasons"].items(), key=lambda each: -each[1])
    if not reasons:
        return text
    why = "; ".join(f"{reason.rstrip('.')} ({n:,})" for reason, n in reasons[:MOST_REASONS])
    rest = sum(n for _, n in reasons[MOST_REASONS:])
    others = f"; other reasons ({rest:,})" if rest else ""
    return f"{text} Without a value: {why}{others}."


def _seconds(value: float) -> str:
    return f"{number(value, 0 if value >= 10 else 2 if value < 1 else 1)} s"
