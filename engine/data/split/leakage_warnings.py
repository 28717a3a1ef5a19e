"""Held-out rows that training repeats, as problems with a fix: they make the judgement too kind.

The cause decides what helps: parts that a file fixed are left as they are, other parts leak only where
rows could not be kept together.
"""

from __future__ import annotations

from typing import Literal

from store.core.row_schemas import LeakedRows, SplitMethod
from store.core.training_schemas import Problem


def make_problem(level: Literal["error", "warning"], field: str, message: str, fix: str) -> Problem:
    """level: "error" refuses the launch, "warning" does not; field: of the config."""
    return Problem(level=level, field=field, message=message, fix=fix)


# Held-out rows that training repeats, in sentences: they make the judgement too kind.
#
# The cause is named, as it says what helps: parts that a file fixed are left as they are, parts that were
# dealt leak only where rows could not be kept together.

GIVEN_PARTS = "The file fixed the parts, so equal and similar rows were not kept on one side."
FIX_GIVEN_PARTS = "Leave the leaking rows out of training, or split at random: the tab Split does either."
NOT_KEPT = (
    "More than half of the rows hang together, as rows made from one template do, and could not be kept on"
    " one side."
)
FIX_EXACT = "Clean the data set of its duplicates."
FIX_NEAR_DUPLICATES = (
    "Look at the near duplicates; clean the data set of them, or read the verdict with that in mind. Short"
    " texts with a changed word are not dropped by that."
)
FIX_PROMPT = (
    "Split by group if a column tells such rows apart; measure the duplicates of the data set, and rows with"
    " one prompt are kept on one side unless too many share it."
)


def find_warnings(
    leaks: LeakedRows, held: int, split_by: SplitMethod, field: str = "dataset"
) -> list[Problem]:
    """Of so many held-out rows; `field` is the one that the warnings stand at."""
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
            f"Leak: {count:,} of {held:,} held-out rows {'stands' if count == 1 else 'stand'} {how}."
            f" {GIVEN_PARTS if given else cause}".strip(),
            FIX_GIVEN_PARTS if given else fix,
        )
        for count, how, cause, fix in kinds
        if count
    ]
