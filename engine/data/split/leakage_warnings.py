"""Warnings about held-out rows that training rows repeat, which make the evaluation too optimistic.

The cause decides the fix: parts fixed by a file are left as they are, other parts only leak if rows could
not be kept together.
"""

from __future__ import annotations

from typing import Literal

from store.core.row_schemas import LeakedRows, SplitMethod
from store.core.training_schemas import Problem


def make_problem(level: Literal["error", "warning"], field: str, message: str, fix: str) -> Problem:
    """Build a problem. level: "error" refuses the launch, "warning" doesn't. field: of the config."""
    return Problem(level=level, field=field, message=message, fix=fix)


GIVEN_PARTS = "The split comes from the file, so identical and similar rows may be in different parts."
FIX_GIVEN_PARTS = "Leave the leaking rows out of training, or split at random: the tab Split does either."
NOT_KEPT = (
    "More than half of the rows are similar, for example from one template, and could not be kept in one"
    " part."
)
FIX_EXACT = "Clean the data set of its duplicates."
FIX_NEAR_DUPLICATES = (
    "Look at the near duplicates; clean the data set of them, or read the verdict with that in mind. Short"
    " texts with a changed word are not dropped by that."
)
FIX_PROMPT = (
    "Split by group if a column identifies such rows. If duplicates are measured, rows with the same prompt"
    " stay in one part unless too many share it."
)


def find_warnings(
    leaks: LeakedRows, held: int, split_by: SplitMethod, field: str = "dataset"
) -> list[Problem]:
    """Return the warnings about leaks among `held` held-out rows, shown at `field`."""
    kinds = (
        (leaks["exact"], "in the training rows too, word for word", "", FIX_EXACT),
        (leaks["near"], "nearly the same in the training rows", NOT_KEPT, FIX_NEAR_DUPLICATES),
        (leaks["same_prompt"] or 0, "in training with another answer to their prompt", "", FIX_PROMPT),
    )
    given = split_by == "given"
    return [
        make_problem(
            "warning",
            field,
            f"Leak: {count:,} of {held:,} held-out rows {'is' if count == 1 else 'are'} {how}."
            f" {GIVEN_PARTS if given else cause}".strip(),
            FIX_GIVEN_PARTS if given else fix,
        )
        for count, how, cause, fix in kinds
        if count
    ]
