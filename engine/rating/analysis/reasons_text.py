"""Reasons why a statistic of ratings, or its interval, can't be given: phrases that complete a sentence.

The statistics decide when a reason applies and pass their counts; a reason is the `why` of an `Interval`.
Pure functions.
"""

from __future__ import annotations

# Agreement
NO_RATINGS = "there are no ratings"
NOTHING_RATED = "nothing was rated"
NO_SHARED_VOTES = "no item has two votes"
NO_COMMON_ITEMS = "they have no items in common"
ALL_THE_SAME = "all ratings are the same, so no disagreement is expected by chance either"
SAME_BY_PAIR = "all ratings are the same for each two models, so no disagreement is expected by chance"
BOTH_CONSTANT = "both always gave the same answer, so no disagreement is expected by chance either"
ONE_CONSTANT = "one of the two always gave the same answer, so agreement is undefined"
NO_SET_INTERVAL = "no valid interval is known for sets of labels"
NONE_AT_RANDOM = "all texts were selected as the most informative, so they represent no others"
NONE_MARKED = "no text that two people had was marked by either"

# Raters
NO_REPEATS = "no pair was shown again with its sides swapped"
NO_OTHER_RATERS = "no other rater rated the same items"
TWO_RATERS = "where two raters part, either of them may be right: it takes three"
LOW_AGREEMENT = "people agree too little for one of them to be right"

# Models
STOOD_ON_ONE_SIDE = "models stood mostly on one side each"
NO_SCORED_PAIRS = "no rater scored both answers to an item"
NO_COMPARISONS = "there are no comparisons"
ONLY_TIES = "every comparison is a tie"
NO_TIES = "there was no tie"
NOT_CONNECTED = "no chain of comparisons leads from one to the other"
COMPARED_WITH_NONE = "it was compared with none of the others"
ALL_EQUAL = "so far all ratings are equal"
NOT_RATED_YET = "no item has its ratings yet"
PREFERENCE_CHANGED = "the preference has changed in the course of the round"
NOT_CONFIRMED = "the later half of the items does not confirm the earlier half"
NOT_BY_STRENGTHS = "by strengths, over items and raters, the two show no clear difference yet"

# Judges
NO_ROUND = "no round of requests asked people, pass or fail, about a random draw of all requests here"


def explain_unshared(*, by_pair: bool) -> str:
    """Explain that no item has two ratings, or none has another item of the same two models."""
    return f"no item has two ratings{' with another one of the same two models' if by_pair else ''}"


def explain_few_items(n: int, least: int, *, unequal: bool) -> str:
    """Explain that too few items have two ratings; unequal: n is their effective number."""
    items = "1 item with two ratings is" if n == 1 else f"{n} items with two ratings or more are"
    if unequal:
        items = f"items of unequal weight are equivalent to {n}, which are"
    return f"{items} too few (from {least} on there is an interval)"


def explain_few_other_ratings(others: int) -> str:
    """Explain that nearly all items have the most frequent rating."""
    only = "only 1 item has" if others == 1 else f"only {others} items have"
    return f"{only} another rating than the most frequent one, so chance agreement can't be estimated"


def explain_few_common_items(items: int, least: int, *, unequal: bool) -> str:
    """Explain that two raters have too few items in common; unequal: `items` is their effective number."""
    if unequal:
        return f"items of unequal weight are equivalent to {items}: too few (at least {least})"
    return f"{items} common {'item is' if items == 1 else 'items are'} too few (from {least} on)"


def explain_few_other_answers(others: int, n: int) -> str:
    """Explain that two raters nearly always gave the most frequent answer."""
    return (
        f"only {others} of {n} have another answer than the most frequent one, so chance agreement"
        " can't be estimated"
    )


def explain_few_texts(n: int, least: int) -> str:
    """Explain that too few texts have a span."""
    texts = "1 text is" if n == 1 else f"{n} texts are"
    return f"{texts} too few (from {least} on there is an interval)"


def explain_few_matches(matched: int, missed: int, n: int) -> str:
    """Explain that nearly all texts with spans match, or nearly none do."""
    what = "with a match" if matched < missed else "without a full match"
    return f"only {min(matched, missed)} of {n:,} texts are {what}"


def explain_few_units(units: int) -> str:
    """Explain that too few items have two votes to compare raters."""
    items = "1 item with two votes is" if units == 1 else f"{units} items with two votes or more are"
    return f"{items} too few to tell who is reliable"


def explain_many_raters(raters: int, resamples: int) -> str:
    """Explain that no p-value of the resamples is significant for this many raters together."""
    return f"of {raters} raters at once, {resamples} resamples could not distinguish any from the others"


def explain_few_decided(decided: int, n: int) -> str:
    """Explain that nearly all comparisons are ties."""
    return f"only {decided} of {n} comparisons {'was' if decided == 1 else 'were'} decided"


def explain_few_raters(raters: int, least: int) -> str:
    """Explain that too few raters compared two models to stop a round."""
    few = "1 rater is" if raters == 1 else f"{raters} raters are"
    return f"{few} too few to say that enough is known, as others may prefer otherwise (from {least} on)"


def explain_early_round(planned: int) -> str:
    """Explain that a round has too many items left to stop it."""
    return f"half of the {planned:,} items are to be rated first, as tastes may change"


def explain_few_rated_by_people(n: int, least: int) -> str:
    """Explain that people rated too few items to correct a judge."""
    few = "no item was" if not n else "only 1 item was" if n == 1 else f"only {n} items were"
    return f"{few} rated by people (from {least} on)"


def explain_few_other_values(others: int, n: int, least: int) -> str:
    """Explain that people gave nearly all items the same rating."""
    few = "no item has" if not others else "only 1 item has" if others == 1 else f"only {others} items have"
    return f"{few} another rating than the most frequent one of {n:,} (from {least} on)"


def explain_no_error(n: int) -> str:
    """Explain that no error of the estimate was observed."""
    return f"all raters agree on all {n:,} rated items"


def explain_few_passes(n: int, least: int, *, without_verdict: int = 0) -> str:
    """Explain that people rated too few of a judge's answers; without_verdict: it did not judge these."""
    if without_verdict:
        n, rated = n - without_verdict, n
        return (
            f"people have rated {rated}, and the judge gave a verdict on {n} of them;"
            f" from {least} on they can correct the judge"
        )
    return f"people have rated {n} of them; from {least} on they can correct the judge"
