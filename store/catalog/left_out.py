"""Why an import leaves out rows that nothing is wrong with: a bad answer, a tie, a part that nobody wants.

Every other reason is a fault of the row, which its file may be mended of.
"""

from __future__ import annotations

REJECTED_OF_A_PAIR = "used as the rejected answer of a pair"
WITHOUT_PARTNER = {
    "good": "no bad answer to the same prompt is left",
    "bad": "no good answer to the same prompt is left",
}
MARKED_BAD = "marked as bad: not trained on"
TIE = "a tie: neither answer is better"
LEFT_OUT = "left out: "  # and the value of the column of parts

_WHOLE = frozenset({REJECTED_OF_A_PAIR, *WITHOUT_PARTNER.values(), MARKED_BAD, TIE})


def is_meant(reason: str) -> bool:
    """Whether a row that is skipped for this reason is left out as it should be."""
    return reason in _WHOLE or reason.startswith(LEFT_OUT)
