"""Rounds of logged requests, chosen for information with some at random: coverage of a version's accuracy.

The accuracy is over all requests, after the sixth of such rounds. Two people label each text. On a
disputed one they differ, and one of them gives the true label.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import numpy as np

from bench.made.shapes.votes import LabelledRequests, draw_labelled
from bench.truths import Rate
from engine.evaluation.statistics.intervals import Interval
from engine.monitoring.label_candidates import LabelCandidate
from engine.monitoring.labelling import LabelRanking, pick_candidates
from engine.rating.analysis.labels import ServedLabel, compute_label_statistics
from store.core.rating_schemas import AssignedTask

REQUESTS, ROUNDS = 3_000, 6
TRUE, FALSE = "yes", "no"
AT = datetime(2026, 1, 1)


def last_round(
    rng: np.random.Generator, items: int, accuracy: float, disputes: bool
) -> tuple[Interval, float]:
    """Return the interval after the sixth round, and the truth. Earlier rounds have taken the requests
    selected for them.
    """
    drawn = draw_labelled(rng, items, ROUNDS - 1, accuracy, REQUESTS)
    gone = set(drawn.chosen.tolist())
    fresh = [place for place in range(REQUESTS) if place not in gone]
    sides = [[_candidate(place) for place in places] for places in (fresh, sorted(gone))]
    picked = pick_candidates(
        sides[0],
        _ranking(len(fresh)),
        items,
        random_share=0.5,
        seed=int(rng.integers(2**32)),
        reached=sides[1],
    )
    places = [*fresh, *sorted(gone)]
    asked = [(number, places[each.place], each.random) for number, each in enumerate(picked)]
    served = [ServedLabel(number, "m@1", _served(drawn, place), random) for number, place, random in asked]
    tasks = [
        _task(number, rater, label)
        for number, place, _ in asked
        for rater, label in enumerate(_labels(rng, drawn, place, disputes))
    ]
    no_agreement: dict[int, float] = {}  # weights only matter for agreement
    return compute_label_statistics(tasks, served, no_agreement).accuracy[0].random, drawn.truth


def _candidate(place: int) -> LabelCandidate:
    return LabelCandidate([{"role": "user", "content": f"request {place}"}], [])


def _ranking(n: int) -> LabelRanking:
    zero = np.zeros(n)
    return LabelRanking(zero, zero, zero, zero, [[] for _ in range(n)])


def _served(drawn: LabelledRequests, place: int) -> str:
    return TRUE if drawn.right[place] else FALSE


def _labels(rng: np.random.Generator, drawn: LabelledRequests, place: int, disputes: bool) -> tuple[str, str]:
    parts = disputes and rng.random() < (0.05 if drawn.right[place] else 0.3)
    return (TRUE, FALSE if parts else TRUE)


def _task(item: int, rater: int, label: str) -> AssignedTask:
    return AssignedTask(
        task_id=f"{item}-{rater}", item_id=item, person_id=f"p{rater}", person_name=f"p{rater}",
        purpose="first", repeat_of=None, answer={"label": label}, systems=[], seconds=1.0,
        place=item, given_at=AT, revision=1, comment=None, rated_at=AT,
    )  # fmt: skip


def covers(rng: np.random.Generator, items: int, accuracy: float, disputes: bool) -> bool | None:
    """Whether the interval covers the accuracy over all requests; None without an interval."""
    interval, truth = last_round(rng, items, accuracy, disputes)
    if interval.low is None or interval.high is None:
        return None
    return interval.low <= truth <= interval.high


RATES = [
    Rate(
        "labelled", f"sixth round of {items}, {accuracy:.0%} right{', disputes' if disputes else ''}: covers",
        0.95, 0.92, 1.0, partial(covers, items=items, accuracy=accuracy, disputes=disputes), 300,
    )
    for items in (40, 100)
    for accuracy in (0.8, 0.9)
    for disputes in (False, True)
]  # fmt: skip
