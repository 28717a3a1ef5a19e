"""What a round came to, all of it in sentences: for its report and the command line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.diagnostics import phrasing
from engine.diagnostics.rating.raters.alpha import outcome_alpha, pass_alpha, rank_alpha, score_alpha
from engine.diagnostics.rating.raters.kappa import kappas
from engine.diagnostics.rating.raters.profiles import RaterProfile, profiles
from engine.diagnostics.rating.rows.of_round import RoundRatings
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.systems.comparing import MAX_PAIRS, Comparing, best_two, compare
from engine.diagnostics.rating.systems.criteria import pass_rates
from engine.diagnostics.rating.systems.win_rates import both_bad_rate, position, win_rates
from engine.diagnostics.rating.words import agreement_words, rating_words, rubric_words


class RoundSentences(NamedTuple):
    """verdict: the headline first."""

    verdict: list[str]
    agreement: list[str]
    raters: list[str]


def round_sentences(ratings: RoundRatings, compared: Comparing | None = None) -> RoundSentences:
    """Of any protocol; of one without figures, or without ratings, that it has none. compared: of these
    ratings, where it is there already."""
    comparisons, scores, passes = ratings.comparisons, ratings.scores, ratings.passes
    if comparisons is not None and len(comparisons):
        alpha = outcome_alpha(comparisons) if ratings.ranks is None else rank_alpha(ratings.ranks)
        alphas = [agreement_words.alpha_line(alpha)]
        pairs = agreement_words.kappa_lines(kappas(comparisons, most=MAX_PAIRS))
        compared = compared or compare(comparisons)
        verdict = [] if compared is None else _compared(comparisons, compared)
        return RoundSentences(verdict, [*alphas, *pairs], _raters(profiles(comparisons)))
    if scores is not None and len(scores):
        lines = [*rubric_words.difference_lines(ratings), *rubric_words.mean_lines(ratings)]
        agreement = [
            f"{name}: {agreement_words.alpha_line(score_alpha(scores, name))}" for name in scores.criteria
        ]
        return RoundSentences(lines, agreement, [])
    if passes is not None and len(passes):
        rates = [rating_words.pass_line(name, rate) for name, rate in pass_rates(passes).items()]
        return RoundSentences(rates, [agreement_words.alpha_line(pass_alpha(passes))], [])
    return RoundSentences(["Nothing was rated of which there are figures."], [], [])


def win_lines(comparisons: Comparisons, names: Sequence[str]) -> list[str]:
    """Wins, ties and losses of these systems, of two by the other one's name; and how often both are bad."""
    every = comparisons.systems
    others = dict(zip(every, every[::-1], strict=True)) if len(every) == 2 else {}
    lines = [
        rating_words.win_rate_line(name, win_rates(comparisons, name), others.get(name, "the others"))
        for name in names
    ]
    return [*lines, rating_words.both_bad_line(both_bad_rate(comparisons))]


def _compared(comparisons: Comparisons, compared: Comparing) -> list[str]:
    plain = compared.plain
    lines = rating_words.strengths_lines(plain)
    first_ones = sorted(plain.order[:MAX_PAIRS])  # in the order of the round
    lines += win_lines(comparisons, [plain.systems[place] for place in first_ones])
    best = best_two(plain)
    if compared.equal is not None and best is not None:
        equal = compared.equal.difference(best.first, best.second)
        lines.append(rating_words.held_equal_line(best, equal, " and ".join(comparisons.covariates)))
    if comparisons.differences is not None:  # of ranks the sides mean nothing
        lines.append(rating_words.position_line(position(comparisons)))
    return lines


def _raters(profiles: Sequence[RaterProfile]) -> list[str]:
    """All of a few; of many those against whom something speaks, and how many there are."""
    listed = [profile for profile in profiles if profile.suspect or len(profiles) <= MAX_PAIRS]
    lines = [line for profile in listed for line in agreement_words.rater_lines(profile)]
    if len(listed) < len(profiles):
        rest = phrasing.plural(len(profiles) - len(listed), "rater")
        lines.append(f"Nothing speaks against the ratings of {rest} of {len(profiles):,}.")
    return lines
