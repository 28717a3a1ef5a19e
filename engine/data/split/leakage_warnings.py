"""Held-out rows that training repeats, as problems with a fix: they make the judgement too kind.

The cause decides what helps: parts that a file fixed are left as they are, other parts leak only where
rows could not be kept together.
"""

from __future__ import annotations

from typing import Literal

from store.core.row_schemas import Leaks, SplitBy
from store.core.training_schemas import Problem


def problem(level: Literal["error", "warning"], field: str, message: str, fix: str) -> Problem:
    """level: "error" refuses the launch, "warning" does not; field: of the config."""
    return {"level": level, "field": field, "message": message, "fix": fix}


# Held-out rows that training repeats, in sentences: they make the judgement too kind.
#
# The cause is named, as it says what helps: parts that a file fixed are left as they are, parts that were
# dealt leak only where rows could not be kept together.

FIXED = "The file fixed the parts, so equal and similar rows were not kept on one side."
MEND_FIXED = "Leave the leaking rows out of training, or split at random: the tab Split does either."
NOT_KEPT = (
    "More than half of the rows hang together, as rows made from one template do, and could not be kept on"
    " one side."
)
MEND_EXACT = "Clean the data set of its duplicates."
MEND_NEAR = (
    "Look at the near duplicates; clean the data set of them, or read the verdict with that in mind. Short"
    " texts with a changed word are not dropped by that."
)
MEND_PROMPT = (
    "Split by group if a column tells such rows apart; measure the duplicates of the data set, and rows with"
    " one prompt are kept on one side unless too many share it."
)


def find(leaks: Leaks, held: int, split_by: SplitBy, field: str = "dataset") -> list[Problem]:
    """Of so many held-out rows; `field` is the one that the warnings stand at."""
    kinds = (
        (leaks["exact"], "in the training rows too, word for word", "", MEND_EXACT),
        (leaks["near"], "nearly the same in the training rows", NOT_KEPT, MEND_NEAR),
        (leaks["same_prompt"] or 0, "in training with another answer to their prompt", "", MEND_PROMPT),
    )
    given = split_by == "given"
    return [
        problem(
            "warning",
            field,
            f"Leak: {count:,} of {held:,} held-out rows {'stands' if count == 1 else 'stand'} {how}."
            f" {FIXED if given else cause}".strip(),
            MEND_FIXED if given else fix,
        )
        for count, how, cause, fix in kinds
        if count
    ]
