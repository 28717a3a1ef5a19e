"""What is to be known of a file's ratings, in sentences: how many, what is thin, what is left out."""

from __future__ import annotations

from engine.diagnostics.phrasing import plural
from engine.rounds.elsewhere.collected import Collected

MIN_RATINGS = 10  # of a model, under which its figures say little
MAX_NAMED, MAX_REASONS = 3, 20
NOUNS = {"votes": "vote", "scores": "rated answer", "passes": "rated answer", "labels": "label"}


def notices_of(collected: Collected) -> list[str]:
    """For the round, and for the look at its file."""
    parts = [plural(len(collected.ratings), NOUNS[collected.form.name])]
    if collected.form.name != "labels":
        parts.append(plural(len(collected.models), "model"))
    parts += [plural(len(collected.raters), "rater"), plural(len(collected.items), "prompt")]
    notices = [", ".join(parts) + "."]
    if collected.soft:
        notices.append(f"{plural(collected.soft, 'vote')} are soft: a preference between the two answers.")
    if collected.repeats:
        notices.append(
            f"{plural(collected.repeats, 'vote')} show a pair to its rater again, sides swapped: they say"
            " how steady a rater is, and count in no other figure."
        )
    if not collected.tells_raters and len(collected.raters) == 1 and collected.ratings:
        notices.append(
            "No column says who rated: all ratings count as of one rater, so agreement can't be told."
        )
    elif len(collected.raters) == 1:
        notices.append("There is one rater: agreement between raters can't be told.")
    few = [name for name, count in collected.rated.items() if count < MIN_RATINGS]
    if few:
        named = ", ".join(few[:MAX_NAMED]) + (
            f" and {len(few) - MAX_NAMED} more" if len(few) > MAX_NAMED else ""
        )
        notices.append(f"Fewer than {MIN_RATINGS} ratings each have {named}.")
    return notices + [
        f"Left out {count:,} times: {reason}." for reason, count in collected.reasons.most_common(MAX_REASONS)
    ]
