"""What a judge and people say of logged answers, by version and by the group that callers name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.diagnostics.rating.raters.judged_share import JudgedShare, judged_share
from store.documents.serving.request_judging import JudgedAnswer


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


def _share(answers: Sequence[JudgedAnswer]) -> JudgedShare:
    """Of the judge's verdicts alone: what it gave none on is counted elsewhere."""
    judged = [answer for answer in answers if answer["passed"] is not None]
    rated = [answer for answer in judged if not answer["at_random"] and answer["people"] is not None]
    return judged_share(
        [float(bool(answer["passed"])) for answer in judged if answer["at_random"]],
        [float(bool(answer["passed"])) for answer in rated],
        [answer["people"] or 0.0 for answer in rated],
    )
