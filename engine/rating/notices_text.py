"""Notices of a round: how its prompts, check items or imported ratings were selected, and what was left out.

Raters read the notices of a round, so those about requests name no version. Pure functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from store.core.formatting import plural
from store.data.cleaning_text import describe_filter
from store.data.filters import Filter

if TYPE_CHECKING:
    from engine.monitoring.label_candidates import CandidateSet
    from engine.monitoring.labelling import PickedCandidate
    from engine.rating.imports.reading import CollectedRatings

MAX_FILE_REASONS, MAX_ANSWER_REASONS, MAX_IMPORT_REASONS = 5, 3, 20
MIN_RATINGS = 10  # ratings of a model below which its statistics are unreliable
MAX_NAMED_MODELS = 3
NOUNS = {"votes": "vote", "scores": "rated answer", "passes": "rated answer", "labels": "label"}


def describe_filters(where: Filter | None, answered: Iterable[Filter]) -> list[str]:
    """Describe the filters of the evaluations whose answers are used, if they aren't the round's own."""
    return list(
        dict.fromkeys(
            f"One model has answers only for rows where {describe_filter(each)}."
            for each in answered
            if each != where
        )
    )


def describe_own_filter(where: Filter) -> str:
    """Describe the filter of the round."""
    return f"Only rows where {describe_filter(where)}."


def describe_prompts_file(prompts: int, name: str, left_out: Counter[str]) -> list[str]:
    """Describe the prompts of a file, and rows that are none."""
    return [
        f"{plural(prompts, 'prompt')} of the file {name}.",
        *(
            f"Left out {plural(count, 'row')}: {reason}."
            for reason, count in left_out.most_common(MAX_FILE_REASONS)
        ),
    ]


def describe_unanswered(prompts: int) -> str:
    """Describe prompts that not every model answered."""
    return f"Left out {plural(prompts, 'prompt')} without an answer from every model."


def describe_random_prompts(drawn: int, prompts: int) -> str:
    """Describe a random sample of prompts."""
    return f"A random {drawn:,} of {plural(prompts, 'prompt')}."


def describe_known_answers(
    left_out: Counter[str], used: int, wanted: int, *, lack_reference: bool
) -> list[str]:
    """Describe known answers that are not used; lack_reference: unlike the prompts of the round."""
    notices = [
        f"Known answers left out: {count:,}, as {reason}."
        for reason, count in left_out.most_common(MAX_ANSWER_REASONS)
    ]
    if used < wanted:
        notices.append(f"Only {plural(used, 'known answer')} of {wanted:,} asked for.")
    if lack_reference:
        notices.append("Some known answers lack a reference, which the round's own prompts show.")
    return notices


def describe_requests(looked: CandidateSet, picked: Sequence[PickedCandidate], total: int) -> list[str]:
    """Describe the requests of a round, out of `total` in its window."""
    random = sum(entry.random for entry in picked)
    of = plural(len(looked.candidates) + len(looked.reached), "different request")
    lines = [f"{random:,} of {of} drawn at random."]
    if again := sum(entry.place >= len(looked.candidates) for entry in picked):
        lines.append(
            f"{again:,} of these were rated or answered before, so sampling only the rest would be easier."
        )
    if telling := len(picked) - random:
        lines.append(
            f"{telling:,} selected as the most informative; they are not used for figures about all requests."
        )
    if total > looked.requests:
        lines.append(f"Only the newest {looked.requests:,} of {total:,} requests were considered.")
    lines += [f"Left out {plural(count, 'request')}: {why}." for why, count in looked.left_out.most_common()]
    return lines


def describe_collected(collected: CollectedRatings) -> list[str]:
    """Describe the ratings of an imported file, also in its preview."""
    parts = [plural(len(collected.ratings), NOUNS[collected.form.name])]
    if collected.form.name != "labels":
        parts.append(plural(len(collected.models), "model"))
    parts += [plural(len(collected.raters), "rater"), plural(len(collected.items), "prompt")]
    notices = [", ".join(parts) + "."]
    if collected.soft:
        notices.append(f"{plural(collected.soft, 'vote')} are soft: a preference between the two answers.")
    if collected.repeats:
        notices.append(
            f"{plural(collected.repeats, 'vote')} show a pair to its rater again with sides swapped: they"
            " measure consistency and count in no other metric."
        )
    if not collected.tells_raters and len(collected.raters) == 1 and collected.ratings:
        notices.append("No rater column: all ratings count as one rater's, so agreement can't be determined.")
    elif len(collected.raters) == 1:
        notices.append("There is one rater: agreement between raters can't be determined.")
    few = [name for name, count in collected.rated.items() if count < MIN_RATINGS]
    if few:
        named = ", ".join(few[:MAX_NAMED_MODELS]) + (
            f" and {len(few) - MAX_NAMED_MODELS} more" if len(few) > MAX_NAMED_MODELS else ""
        )
        notices.append(f"Fewer than {MIN_RATINGS} ratings each have {named}.")
    return notices + [
        f"Left out {count:,} times: {reason}."
        for reason, count in collected.reasons.most_common(MAX_IMPORT_REASONS)
    ]
