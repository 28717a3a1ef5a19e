"""What is said of raters by check items: how often they were right, and what is of flagged raters."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.diagnostics import phrasing
from engine.diagnostics.rating.raters.flagged import TOO_FAST, RaterChecks
from engine.diagnostics.rating.words.rating_words import listed, share_text
from store.documents.rating.round import CheckKind

ITEMS: dict[CheckKind, str] = {
    "gold": "known answer",
    "attention": "attention item",
    "qualification": "qualification item",
}


def checks_lines(checks: RaterChecks) -> list[str]:
    """How a rater did on each kind of check; what the rater is flagged as comes first. Too fast is said with
    the seconds where a rater's pace is told."""
    failing = [flag for flag in checks.flags if flag != TOO_FAST]
    lines = [f"{checks.rater}: flagged as {' and '.join(checks.flags)}."] if failing else []
    for kind, share in checks.shares.items():
        lines.append(
            f"{checks.rater}: right in {share_text(share)} of {phrasing.plural(share.n, ITEMS[kind])}."
        )
    return lines


def raters_lines(checks: Sequence[RaterChecks], left_out: Collection[str]) -> list[str]:
    """Of all raters who saw a check, and of those who are flagged and still count."""
    lines = [line for each in checks if each.shares for line in checks_lines(each)]
    flagged = [each for each in checks if each.flags and each.ratings and each.person_id not in left_out]
    return [*lines, *([flagged_line(flagged)] if flagged else [])]


def flagged_line(flagged: Sequence[RaterChecks]) -> str:
    """How many ratings are of flagged raters, and what can be done."""
    ratings = phrasing.plural(sum(each.ratings for each in flagged), "rating")
    who = listed([f"{each.rater} ({' and '.join(each.flags)})" for each in flagged])
    return (
        f"Of flagged raters: {ratings}, by {who}. Training rows leave them out; people who look at them can"
        " leave them out of these results too, under People."
    )
