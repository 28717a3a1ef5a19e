"""How many repeats of rows that judge may have slipped through, by how many were recognised.

Each repeat is recognised by chance, at a rate that `bench/detection/reworded.py` measures. How many there
were in all is then bounded from above as the exact interval of a share is (Clopper and Pearson 1934): by the
largest number of which so few, or fewer, would be recognised in 5 of 100 cases.

A check has an interval of its own, and both seldom err together: so it allows for what is exceeded in 30 of
100 cases, with which it keeps its level (`bench/truths/monitoring/slipped.py`). With 5 of 100 next to none
would pass that is truly beyond its limit, and too few that are within.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from engine.gathering.old_rows import OldRows
from engine.near.trigrams import words_of
from store.config.shipping.improve_config import MAX_SLIPPING, MAX_SLIPPING_SHORT, SHORT_ANSWER
from store.documents.data.gathered import Slipping

LEVEL = 0.05  # of the cases, in which more may have slipped through
ALLOWED = 0.3  # of the cases, in which more may have than a check allows for: its interval has its own 5


class RepeatsOf(NamedTuple):
    """Of rows that judge and whose answers are alike in length: how many there are, how many new rows were
    recognised as repeats of them, and which share of such repeats is not, at most."""

    judging: int
    recognised: int
    missed: float


def most_slipped(recognised: int, missed: float, level: float = LEVEL) -> int:
    """The upper limit of repeats that were not recognised, beside so many that were."""
    every = recognised
    while special.bdtr(recognised, every + 1, 1 - missed) >= level:
        every += 1
    return every - recognised


def most_learned(kinds: Sequence[RepeatsOf], trained: int, level: float = LEVEL) -> int:
    """Rows that judge and may have been learned from such repeats, of all kinds together: no more than judge,
    nor than there are new rows that train. Each kind takes its part of the level."""
    there = [kind for kind in kinds if kind.judging]
    limits = [
        min(kind.judging, most_slipped(kind.recognised, kind.missed, level / len(there))) for kind in there
    ]
    return min(trained, sum(limits))


def slipping(partners: Sequence[int], old: OldRows, trained: int) -> Slipping | None:
    """What may have slipped through to the `trained` new rows of those old ones that judge: of the test part,
    or of the validation rows where there is none. partners: of each recognised repeat the old row. None where
    answers are labels: what asks in other words for one label is no repeat, and is in no bound."""
    judging = old.parts == "test"
    places = np.flatnonzero(judging if judging.any() else old.held)
    answered = old.rows.answered
    if answered.labelled[places].any():
        return None
    short = np.array(
        [len(words_of(answered.answers[place])) < SHORT_ANSWER for place in places.tolist()], bool
    )
    repeats = np.bincount(np.array(partners, np.int64), minlength=len(judging))[places]
    kinds = [
        RepeatsOf(int(of_kind.sum()), int(repeats[of_kind].sum()), missed)
        for of_kind, missed in ((~short, MAX_SLIPPING), (short, MAX_SLIPPING_SHORT))
    ]
    return {
        "judging": len(places),
        "short": int(short.sum()),
        "recognised": int(repeats.sum()),
        "most": most_learned(kinds, trained),
        "allowed": most_learned(kinds, trained, ALLOWED),
    }
