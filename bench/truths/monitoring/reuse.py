"""Rows used for one improvement after another: whether their check still keeps its level.

A sequence of improvements, each with new held-out rows beside the earlier ones. A version that passed is
in use from then on, so the version in use was selected by these very rows. Then a version comes that is
truly worse by exactly the margin, or truly as good, and it is counted how often the check passes or fails
it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from bench.truths import Rate
from bench.truths.models.gates import as_gate_row
from engine.registry import gate_statistics
from store.registry.schemas import CheckAnswer
from store.retraining.config import MAX_JUDGED

MARGIN = 0.02
NEW_ROWS = 44  # new held-out rows per improvement
IMPROVEMENTS = 10
RIGHT = 0.75  # accuracy of the first version over all rows
SHARED = 0.8  # correlation of a row's standing with the earlier version's, and so with its difficulty
TRUE_GAIN = 0.03  # standard deviation of an improvement's true gain


class Judged(NamedTuple):
    """A version on the held-out rows. skill: normal quantile of its accuracy over all rows; stands: its
    standing on each row, N(0, 1) over the population of rows.
    """

    skill: float
    stands: np.ndarray

    def right(self) -> np.ndarray:
        """Return 1 or 0 for each row; over all rows, a share Φ(skill) is right."""
        return (self.stands < self.skill).astype(float)


Chosen = Callable[[Judged, Judged, np.ndarray], bool]  # candidate, version in use, held-out rows


def passes(candidate: Judged, in_use: Judged, rows: np.ndarray) -> bool:
    """Whether the candidate passes the check."""
    return _answer(candidate, in_use, rows) == "passed"


def wins(candidate: Judged, in_use: Judged, rows: np.ndarray) -> bool:
    """Whether the candidate is right on more of these rows, significantly or not. This selects the most by
    luck.
    """
    return bool(candidate.right()[rows].sum() > in_use.right()[rows].sum())


def _answer(candidate: Judged, in_use: Judged, rows: np.ndarray) -> CheckAnswer:
    pair = as_gate_row(candidate.right()[rows]), as_gate_row(in_use.right()[rows])
    return gate_statistics.check_above(gate_statistics.estimate_advantage(*pair), -MARGIN)


def _after(rng: np.random.Generator, in_use: Judged, first: Judged, kin: str, share: float) -> Judged:
    """Draw a version that is right on `share` of all rows: its predecessor changed slightly, or trained anew
    from the first one's starting point.
    """
    forebear = {"changed": in_use, "anew": first}[kin].stands
    own = rng.normal(size=len(forebear))
    return Judged(
        float(special.ndtri(np.clip(share, 0.02, 0.98))), SHARED * forebear + np.sqrt(1 - SHARED**2) * own
    )


def last(
    rng: np.random.Generator, most: int, chosen: Chosen, kin: str, gap: float
) -> tuple[CheckAnswer, float]:
    """Return the check's answer for the last of `IMPROVEMENTS`, truly worse by `gap`, if a row is used `most`
    times; and by how much the version in use looks better than it is on the rows already used for it.
    """
    total = NEW_ROWS * IMPROVEMENTS
    first = Judged(float(special.ndtri(RIGHT)), rng.normal(size=total))
    in_use = first
    for number in range(IMPROVEMENTS):
        rows = np.arange(max(0, number + 1 - most) * NEW_ROWS, (number + 1) * NEW_ROWS)
        truth = float(special.ndtr(in_use.skill))
        if number + 1 == IMPROVEMENTS:
            before = rows[:-NEW_ROWS]
            flattered = float(in_use.right()[before].mean()) - truth if len(before) else 0.0
            return _answer(_after(rng, in_use, first, kin, truth - gap), in_use, rows), flattered
        candidate = _after(rng, in_use, first, kin, truth + rng.normal(0, TRUE_GAIN))
        if chosen(candidate, in_use, rows):
            in_use = candidate
    raise AssertionError("there is a last one")


def says(
    rng: np.random.Generator, most: int, chosen: Chosen, kin: str, gap: float, answer: CheckAnswer
) -> bool:
    """Whether the check gives this answer for the last one."""
    return last(rng, most, chosen, kin, gap)[0] == answer


def one_gets_through(rng: np.random.Generator, most: int) -> bool:
    """Whether any of up to `IMPROVEMENTS` new versions, each truly worse by the margin, passes compared with
    the same version in use.
    """
    total = NEW_ROWS * IMPROVEMENTS
    first = Judged(float(special.ndtri(RIGHT)), rng.normal(size=total))
    for number in range(IMPROVEMENTS):
        rows = np.arange(max(0, number + 1 - most) * NEW_ROWS, (number + 1) * NEW_ROWS)
        if passes(_after(rng, first, first, "anew", RIGHT - MARGIN), first, rows):
            return True
    return False


HISTORIES: dict[str, Chosen] = {"what passed": passes, "what won": wins}
EVERY = IMPROVEMENTS  # no limit
TENTH = "the 10th of a line"


def _says(name: str, high: float, draws: int, /, nominal: float = 0.025, low: float = 0.0, **of: Any) -> Rate:
    return Rate("reuse", f"{TENTH}, {name}: {of['answer']}", nominal, low, high, partial(says, **of), draws)


RATES = [
    *(
        _says(
            f"{kin}, {name} was promoted, rows judge {MAX_JUDGED} times, truly worse by the margin",
            *(0.05, 2_000), most=MAX_JUDGED, chosen=chosen, kin=kin, gap=MARGIN, answer=answer,
        )
        for kin in ("changed", "anew")
        for name, chosen in HISTORIES.items()
        for answer in ("passed", "failed")
    ),
    _says(
        "anew, what won was promoted, rows judge without end, truly worse by the margin (why not so)",
        *(0.14, 2_000), low=0.05, most=EVERY, chosen=wins, kin="anew", gap=MARGIN, answer="failed",
    ),
    *(
        _says(
            f"anew, what passed was promoted, rows judge {most} times, truly 6 points better (how often)",
            *(high, 1_000), nominal=nominal, low=low, most=most, chosen=passes, kin="anew", gap=-0.06,
            answer="passed",
        )
        for most, nominal, low, high in ((1, 0.2, 0.1, 0.3), (MAX_JUDGED, 0.65, 0.55, 0.75))
    ),
    *(
        Rate(
            "reuse", f"10 versions, each truly worse by the margin, rows judge {most} times: one passes",
            0.22, 0.0, 0.27, partial(one_gets_through, most=most), 1_000,
        )
        for most in (1, MAX_JUDGED)
    ),
]  # fmt: skip
