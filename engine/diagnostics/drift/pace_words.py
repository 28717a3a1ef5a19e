"""Slower answers and more failures, in sentences: why an alert is raised, and how both tests stand."""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.diagnostics.drift.drift_words import NO_INTERVAL, moment, odds
from engine.diagnostics.drift.pace import MARGIN, MIN_REFERENCE, MINUTE, RATIO_STEP, WARM_UP, threshold
from engine.diagnostics.drift.standing import LEAST_TESTED, DriftLine, Standing
from engine.diagnostics.phrasing import number, percent, plural
from store.documents.serving.drift import PaceName, PaceTest, PaceWatch

PACE_TITLES: dict[PaceName, str] = {"slower": "Time of answers", "failing": "Failed requests"}
PACE_ADVICE: dict[PaceName, str] = {
    "slower": "Look at the slowest: is the machine busy with something else, do more people ask at once, or"
    " does another version answer? A smaller form of the model, more workers, or the version before help.",
    "failing": "Look at the errors and at the log of the endpoint. A fallback, or the version before, answers"
    " meanwhile.",
}


def changed_at(test: PaceTest) -> float:
    """Since when it has most likely been so: Unix time, s."""
    minute = test["since"]["minute"]
    return float(minute * MINUTE) if minute is not None else test["alarm_at"] or 0.0


def times_as_long(test: PaceTest) -> float:
    """How many times as long as one of its length in the reference the middle answer took since then."""
    return _middle({int(place): n for place, n in test["since"]["bins"].items()})


def _middle(bins: Mapping[int, int]) -> float:
    left = (sum(bins.values()) + 1) // 2
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return math.exp(place * RATIO_STEP)
    return 1.0


def pace_reason(test: PaceTest, alpha: float) -> str:
    """Why a test has raised its alarm, with figures of the time since the change that it names."""
    since = test["since"]
    if test["name"] == "slower":
        change = (
            f"Answers have become slower, most likely since {moment(changed_at(test))}. Of the"
            f" {plural(since['n'], 'answer')} since then, up to this alert, half took over"
            f" {number(times_as_long(test), 1)} times as long as answers of their length in the reference."
        )
        unless = f"as long as half of the answers take at most {MARGIN:g} times as long"
    else:
        share = percent(since["over"] / max(1, since["n"]))
        change = (
            f"More requests fail, most likely since {moment(changed_at(test))}: {since['over']:,} of the"
            f" {plural(since['n'], 'request')} since then, up to this alert ({share}), against"
            f" {percent(test['usual'])} of {test['reference']:,} in the reference."
        )
        unless = f"as long as at most {percent(test['allowed'])} fail, which the reference can't rule out"
    chance = (
        f"The evidence is {odds(test['largest'])}; an alert of times or failures is raised at"
        f" {odds(threshold(alpha))}, which {unless} ever comes with a chance of at most {100 * alpha:g}%."
    )
    return " ".join((change, NO_INTERVAL, chance))


def pace_lines(watch: PaceWatch | None) -> list[DriftLine]:
    """How both tests stand, as the watched values do."""
    return [_line(test) for test in watch["tests"]] if watch else []


def _line(test: PaceTest) -> DriftLine:
    whole = test["reference"] >= test["wanted"]
    standing: Standing = "collecting"
    if test["alarm_place"] is not None:
        standing = "alarm"
    elif whole and test["tested"] >= LEAST_TESTED:
        standing = "quiet"
    return DriftLine(
        name=test["name"],
        title=PACE_TITLES[test["name"]],
        standing=standing,
        evidence=odds(test["log_wealth"]),
        strongest=odds(test["largest"]),
        tested=test["tested"],
        reference=test["reference"],
        wanted=test["wanted"],
        since=changed_at(test) if standing == "alarm" else None,
        window=_beside(test) if whole else "",
        note="",
    )


def _beside(test: PaceTest) -> str:
    """What the reference had, and from where on a request speaks for a change."""
    if test["times"] is None:
        failed, limit = percent(test["usual"]), percent(test["allowed"])
        if test["allowed"] >= 1:
            return f"reference: {failed} failed, and no more can"
        return f"reference: {failed} failed; tested is whether over {limit} do"
    unlike = plural(test["unlike"], "answer")
    left_out = f"; {unlike} left out, of lengths that it hasn’t" if test["unlike"] else ""
    return (
        f"reference: half within {number(test['usual'], 2)} s; slow is over"
        f" {number(test['times']['limit'], 1)} times what one of that length took{left_out}"
    )


def pace_reference_line(watch: PaceWatch | None, wanted: int) -> str:
    """What times and failures are held against."""
    tests = watch["tests"] if watch else []
    least = min((test["reference"] for test in tests), default=0)
    lacks = max((test["wanted"] - test["reference"] for test in tests), default=wanted)
    end = next((test["ends_at"] for test in tests if test.get("ends_at")), None)
    starts = [test["begins_at"] for test in tests if test["begins_at"] is not None]
    after = f" from {moment(min(starts))} on" if starts else f" after {WARM_UP} of warming up"
    what = "Times (beside answers of the same length) and failures"
    if lacks and end:
        return (
            f"{what} are watched against the window{after} up to {moment(end)}, if it has"
            f" {plural(MIN_REFERENCE, 'request')} or more."
        )
    if lacks:
        lacking = plural(lacks, "more request")
        return f"{what} are watched against the first {wanted:,} requests{after}: {lacking} until then."
    return f"{what} are held against {plural(least, 'request')}{after}; rows of data have no times."
