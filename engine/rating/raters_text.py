"""Describe raters in sentences: agreement, profiles, check items, and comparisons with other measures.

Pure functions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.agreement import HumanAgreement, Kappa, PairwiseKappas
from engine.rating.analysis.comparisons import DisputedItem
from engine.rating.analysis.judge_correction import CorrectedEstimate
from engine.rating.analysis.krippendorff_alpha import Alpha
from engine.rating.analysis.prompt_selection import PromptSelection
from engine.rating.analysis.rater_checks import TOO_FAST, RaterChecks
from engine.rating.analysis.rater_reliability import (
    RaterProfile,
    RaterReliability,
    Reliabilities,
)
from engine.rating.results_text import format_number, format_share, join_names
from store.core import formatting
from store.core.monitoring_schemas import CorrectionRound
from store.core.rating_schemas import CheckKind, ExcludedRatings, RatingCounts

GOOD, TENTATIVE = 0.8, 0.667  # thresholds of alpha (Krippendorff 2004)


def describe_alpha(alpha: Alpha) -> str:
    """Describe agreement beyond chance."""
    at = alpha.interval
    if math.isnan(at.value):
        return f"Whether raters agree can't be determined: {at.why}."
    items = f"{formatting.plural(at.n, 'item')} with two ratings or more"
    return f"{_grade_alpha(at)}: Krippendorff's alpha {format_number(at)}, over {items}."


def _grade_alpha(at: Interval) -> str:
    if at.low is None or at.high is None:
        return "Agreement is uncertain"
    if at.high < 0:
        return "Raters disagree more than by chance"
    if at.low <= 0:
        return "Agreement is not distinguishable from chance"
    if at.value >= GOOD:
        return "Raters agree well"
    if at.value >= TENTATIVE:
        return "Raters agree well enough for tentative conclusions"
    return "Raters agree slightly more than chance"


def describe_kappa(kappa: Kappa) -> str:
    """Describe the agreement of two raters."""
    pair = f"{kappa.first} and {kappa.second}"
    items = formatting.plural(kappa.share.n, "common item")
    return (
        f"{pair} agree on {format_share(kappa.share)} of {items}; Cohen's kappa"
        f" {format_number(kappa.interval)}."
    )


def describe_kappas(kappas: PairwiseKappas) -> list[str]:
    """Describe the agreement of each pair of raters, and how many pairs there are if not all are listed."""
    lines = [describe_kappa(kappa) for kappa in kappas.of_pairs]
    if len(kappas.of_pairs) < kappas.pairs:
        pairs = f"{len(kappas.of_pairs)} of {formatting.plural(kappas.pairs, 'pair')} of raters"
        lines.append(f"These are the {pairs} with most items in common.")
    return lines


def describe_rater(profile: RaterProfile) -> list[str]:
    """Describe a rater; reasons for doubt come first."""
    lines = []
    if profile.suspect:
        lines.append(f"{profile.rater}: review these ratings: {'; '.join(list_doubts(profile))}.")
    n = formatting.plural(profile.n, "rating")
    pace = (
        ""
        if math.isnan(profile.seconds)
        else f", {formatting.format_point_value(profile.seconds)} seconds median"
    )
    lines.append(f"{profile.rater}: {n}{pace}.")
    same = profile.consistency
    if same.n:
        pairs = formatting.plural(same.n, "swapped pair")
        lines.append(f"Gave the same answer for {format_share(same)} of {pairs}.")
    if profile.left.n:
        decided = formatting.plural(profile.left.n, "decided rating")
        lines.append(f"Chose the left side in {format_share(profile.left)} of {decided}.")
    if profile.agreement.n:
        shared = formatting.plural(profile.agreement.n, "rating")
        lines.append(f"Others agree in {format_share(profile.agreement)} of {shared} of the same items.")
    return lines


def list_doubts(profile: RaterProfile) -> list[str]:
    """List the reasons to distrust a rater's ratings."""
    doubts = []
    if profile.always:
        doubts.append(f"nearly every rating is “{profile.always}”")
    elif profile.leans:
        side = "left" if profile.left.value > 0.5 else "right"
        doubts.append(f"leans to the {side} side, beyond chance")
    if profile.fast:
        doubts.append(f"took {profile.seconds:.1f} seconds median, too little to read two answers")
    if profile.inconsistent:
        doubts.append("answers most pairs otherwise when their sides are swapped")
    return doubts


LIMITATIONS = (
    "Errors that raters share look like the truth to this model, and it knows of no sides: a rater is called"
    " reliable who answers as most others do."
)


def describe_reliabilities(reliabilities: Reliabilities) -> list[str]:
    """Describe who gives the likely true label less or more often than others, and the model's
    limitations.
    """
    if reliabilities.why:
        return [f"Rater reliability can't be determined: {reliabilities.why}."]
    lines = []
    for standing in ("less", "more"):
        apart = [rater for rater in reliabilities.raters if rater.standing == standing]
        if apart:
            each = " each" if len(apart) > 1 else ""
            lines.append(
                f"{_format_raters(apart)}: right {standing} often than the others{each}, beyond chance "
                "(Dawid–Skene model)."
            )
    unclear = [rater for rater in reliabilities.raters if rater.standing == "unclear"]
    if unclear:
        others = "the others" if lines else "each other"
        lines.append(
            f"{_format_raters(unclear)}: no clear difference from {others} in how often they are right."
        )
    return [*lines, LIMITATIONS]


def _format_raters(raters: Sequence[RaterReliability]) -> str:
    return join_names([f"{rater.rater} ({formatting.plural(rater.n, 'rating')})" for rater in raters])


def describe_disputed_item(disputed: DisputedItem) -> str:
    """Describe the votes on a disputed item."""
    given = join_names([f"{count} for {name}" for name, count in disputed.votes.items()])
    return f"{disputed.item}: {formatting.plural(disputed.n, 'vote')}, {given}."


def describe_human_agreement(measure: HumanAgreement) -> str:
    """Describe how often a metric or judge agrees with people, compared with people among themselves."""
    if not measure.n:
        return f"Whether {measure.name} agrees with people can't be determined: no item has both."
    votes = formatting.plural(measure.n, "vote")
    lead = f"{measure.name} agrees with people in {format_share(measure.share)} of {votes}"
    beyond = f"kappa {format_number(measure.kappa)}"
    missing = f" It does not cover {measure.missing:,} more." if measure.missing else ""
    if not measure.between_people.n:
        return f"{lead}, {beyond}; agreement between raters is not known.{missing}"
    among = f"two people agree in {format_share(measure.between_people)}"
    return f"{lead}, {beyond}; {among}: {_describe_inter_rater_agreement(measure)}.{missing}"


def _describe_inter_rater_agreement(measure: HumanAgreement) -> str:
    ends = measure.share.low, measure.share.high, measure.between_people.low, measure.between_people.high
    low, high, least, most = ends
    if low is None or high is None or least is None or most is None:
        return "too few to compare"
    if high < least:
        return "less than people do"
    if low > most:
        return "more than people do"
    return "no clear difference from people"


def describe_corrected_estimate(corrected: CorrectedEstimate, what: str = "The figure") -> str:
    """Describe a judge's estimate corrected with people's ratings."""
    at = corrected.corrected
    if at.low is None or at.high is None:
        return f"{what} can't be corrected with people's ratings: {at.why}."
    rated, judged = (
        formatting.plural(corrected.rated, "item"),
        formatting.plural(corrected.judged, "item"),
    )
    lead = f"{what} of all {judged}, corrected by people's ratings of {rated}: {format_number(at)}"
    own = (
        f"people alone {format_number(corrected.people)}, the judge alone"
        f" {formatting.format_number(corrected.judge, 2)}"
    )
    if corrected.gain < 1.1:
        return f"{lead}; {own}: the judge adds nothing."
    return (
        f"{lead}; {own}. The judge is worth {formatting.format_number(corrected.gain, 1)}"
        " times as many ratings."
    )


def describe_correction(frame: CorrectionRound | None, reached: Collection[str]) -> str:
    """Describe the round that corrects the judge and its requests; an empty string if there is none.

    `reached` lists the reasons that appear in the round's notices when it left out requests people had
    already been asked about or had corrected.
    """
    if frame is None:
        return ""
    rest = any(why in notice for notice in frame.notices for why in reached)
    left = "; it was drawn from requests that had not been rated or corrected, not from all" if rest else ""
    days = f"{frame.start:%d %b %H:%M} to {frame.end:%d %b %H:%M}"
    return f"Corrected by the round {frame.name}, for requests of {days}{left}."


def describe_prompt_selection(choice: PromptSelection) -> str:
    """Describe the selected prompts and their effective number."""
    prompts, every = formatting.plural(len(choice.places), "prompt"), f"{len(choice.score):,}"
    return (
        f"{prompts} of {every}, sampled more often where models and measures disagree. Weighted for "
        f"figures about all prompts, they are worth {formatting.format_number(choice.effective, 0)} "
        "prompts sampled evenly."
    )


CHECK_ITEM_NOUNS: dict[CheckKind, str] = {
    "gold": "known answer",
    "attention": "attention item",
    "qualification": "qualification item",
}


def describe_rater_checks(checks: RaterChecks) -> list[str]:
    """Describe a rater's results by kind of check, with flags first.

    The flag "too fast" is left out, as it is described with the rater's pace.
    """
    failing = [flag for flag in checks.flags if flag != TOO_FAST]
    lines = [f"{checks.rater}: flagged as {' and '.join(checks.flags)}."] if failing else []
    for kind, share in checks.shares.items():
        lines.append(
            f"{checks.rater}: right in {format_share(share)} of"
            f" {formatting.plural(share.n, CHECK_ITEM_NOUNS[kind])}."
        )
    return lines


def describe_all_rater_checks(checks: Sequence[RaterChecks], left_out: Collection[str]) -> list[str]:
    """Describe the raters who saw a check item, and flagged raters whose ratings still count."""
    lines = [line for each in checks if each.shares for line in describe_rater_checks(each)]
    flagged = [each for each in checks if each.flags and each.ratings and each.person_id not in left_out]
    return [*lines, *([describe_flagged_raters(flagged)] if flagged else [])]


def describe_flagged_raters(flagged: Sequence[RaterChecks]) -> str:
    """Describe how many ratings are of flagged raters, and how to exclude them."""
    ratings = formatting.plural(sum(each.ratings for each in flagged), "rating")
    who = join_names([f"{each.rater} ({' and '.join(each.flags)})" for each in flagged])
    return (
        f"Of flagged raters: {ratings}, by {who}. Training rows leave them out; to exclude them from "
        "these results too, use the People tab."
    )


def format_counted_ratings(counted: RatingCounts) -> str:
    """Format the counts as "312 ratings of 4 raters; left out 41 ratings of 1 rater flagged as too fast"."""
    lines = [_format_ratings_of_raters(counted["ratings"], counted["raters"])]
    by_reason: dict[str, list[ExcludedRatings]] = defaultdict(list)
    for each in counted["left_out"]:
        by_reason[each["reason"]].append(each)
    for reason, out in by_reason.items():
        flagged = reason if reason == "left out by hand" else f"flagged as {reason}"
        lines.append(
            f"left out {_format_ratings_of_raters(sum(each['ratings'] for each in out), len(out))} {flagged}"
        )
    return "; ".join(lines)


def _format_ratings_of_raters(ratings: int, raters: int) -> str:
    return f"{formatting.plural(ratings, 'rating')} of {formatting.plural(raters, 'rater')}"
