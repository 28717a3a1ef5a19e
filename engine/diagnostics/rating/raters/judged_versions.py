"""What a judge and people say of logged answers, by version and by the group that callers name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from engine.diagnostics.rating.raters.judged_share import LEAST_RATED, JudgedShare, judged_share
from store.documents.serving.request_judging import CorrectingRound, JudgedAnswer

FROM = f"from {LEAST_RATED} on they can correct the judge"
NO_ROUND = "no round of requests asked people, pass or fail, about a random draw of all requests here"


def of_versions(answers: Sequence[JudgedAnswer]) -> dict[str, JudgedShare]:
    """Each version, the one with most answers first."""
    return _parted(answers, lambda answer: answer["version"])


def of_groups(answers: Sequence[JudgedAnswer]) -> dict[str, JudgedShare]:
    """Each group that was named, the largest first."""
    return _parted(answers, lambda answer: answer["grouped_by"])


def _parted(
    answers: Sequence[JudgedAnswer], name_of: Callable[[JudgedAnswer], str | None]
) -> dict[str, JudgedShare]:
    parts: dict[str, list[JudgedAnswer]] = {}
    for answer in answers:
        if (name := name_of(answer)) is not None:
            parts.setdefault(name, []).append(answer)
    return {name: _share(parts[name]) for name in sorted(parts, key=lambda name: -len(parts[name]))}


def draw_words(frame: CorrectingRound | None, reached: Collection[str]) -> str:
    """Which round corrects the judge, on which requests; empty where none does. reached: reasons in its
    notices by which it left out what people had said something of before."""
    if frame is None:
        return ""
    rest = any(why in notice for notice in frame["notices"] for why in reached)
    left = "; it drew from what nobody had been asked about or corrected before, not from all" if rest else ""
    days = f"{frame['start']:%d %b %H:%M} to {frame['end']:%d %b %H:%M}"
    return f"Corrected by the round {frame['name']}, for requests of {days}{left}."


def _share(answers: Sequence[JudgedAnswer]) -> JudgedShare:
    """Of the judge's verdicts alone: what it gave none on is counted elsewhere. It is corrected on requests
    that the round drew from; what it says alone is of all that it was asked about."""
    judged = [answer for answer in answers if answer["passed"] is not None]
    people = [answer for answer in answers if not answer["at_random"] and answer["people"] is not None]
    rated = [answer for answer in people if answer["passed"] is not None]
    alone = [float(bool(answer["passed"])) for answer in judged if answer["at_random"]]
    framed = [
        float(bool(answer["passed"])) for answer in judged if answer["at_random"] and answer["in_frame"]
    ]
    seen = judged_share(
        framed if len(framed) >= LEAST_RATED else [],
        [float(bool(answer["passed"])) for answer in rated],
        [answer["people"] or 0.0 for answer in rated],
    )
    seen = replace(seen, judge=sum(alone) / len(alone) if alone else None, judged=len(alone))
    if seen.by != "nothing":
        return seen
    why = seen.corrected.why
    if not any(answer["in_frame"] for answer in answers):
        why = NO_ROUND
    elif len(people) > len(rated):
        why = f"people have rated {len(people)}, and the judge gave a verdict on {len(rated)} of them; {FROM}"
    nothing = replace(seen.corrected, why=why)
    return replace(seen, corrected=nothing, people=nothing)
