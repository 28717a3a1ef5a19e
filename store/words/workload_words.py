"""How far a round is and who is at it, in sentences, for page and terminal alike."""

from __future__ import annotations

import math

from store.documents.rating.workload import RaterWorkload, Workload

HOUR = 3_600.0
UNITS = ((24 * HOUR, "day"), (HOUR, "hour"), (60.0, "minute"))


def left_words(work: Workload) -> list[str]:
    """What is left until the round is done, and how long that takes."""
    if not work["ratings_left"]:
        return ["Every unit has its ratings: the round can be closed."]
    sentences = [f"{work['ratings_left']:,} of {work['wanted']:,} ratings are left."]
    if (seconds := work["seconds_of_work_left"]) is not None:
        sentences.append(f"That is about {_duration(seconds)} of work.")
    if (days := work["days_left"]) is not None:
        sentences.append(f"At the pace of the last day it is done in about {_duration(days * 24 * HOUR)}.")
    else:
        sentences.append("When it will be done can't be told: under five ratings came in the last day.")
    if work["for_everybody"]:
        sentences.append("Whoever may rate is given some of it.")
    return sentences


def rater_words(rater: RaterWorkload) -> str:
    """What one has rated, holds and is still to rate: "12 of 40 rated, 2 of them skipped, 4 held now"."""
    rated = f"{rater['rated']:,} rated"
    if rater["quota"] is not None:
        rated = f"{rater['rated']:,} of {rater['quota']:,} rated"
    skipped = [f"{rater['skipped']:,} of them skipped"] if rater["skipped"] else []
    held = [f"{rater['held']:,} held now"] if rater["held"] else []
    return ", ".join([rated, *skipped, *held])


def _duration(seconds: float) -> str:
    """ "5 minutes", "3 hours", "2 days", rounded up."""
    size, unit = next(each for each in UNITS if seconds > each[0] or each == UNITS[-1])
    count = max(1, math.ceil(seconds / size))
    return f"1 {unit}" if count == 1 else f"{count:,} {unit}s"
