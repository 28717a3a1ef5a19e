"""What a round came to, all of it in sentences: for its report and the command line. Pure."""

from __future__ import annotations

from typing import NamedTuple

from engine.diagnostics.rating.raters.alpha import outcome_alpha, pass_alpha, rank_alpha, score_alpha
from engine.diagnostics.rating.raters.kappa import kappas
from engine.diagnostics.rating.raters.profiles import profiles
from engine.diagnostics.rating.rows.of_round import RoundRatings
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.systems.criteria import pass_rates
from engine.diagnostics.rating.systems.strengths import strengths
from engine.diagnostics.rating.systems.win_rates import both_bad_rate, position, win_rates
from engine.diagnostics.rating.words import agreement_words, rating_words, rubric_words


class RoundSentences(NamedTuple):
    """verdict: the headline first."""

    verdict: list[str]
    agreement: list[str]
    raters: list[str]


def round_sentences(ratings: RoundRatings) -> RoundSentences:
    """Of any protocol; of one without figures, or without ratings, that it has none."""
    comparisons, scores, passes = ratings.comparisons, ratings.scores, ratings.passes
    if comparisons is not None and len(comparisons):
        alpha = outcome_alpha(comparisons) if ratings.ranks is None else rank_alpha(ratings.ranks)
        alphas = [agreement_words.alpha_line(alpha)]
        pairs = [agreement_words.kappa_line(kappa) for kappa in kappas(comparisons)]
        raters = [line for profile in profiles(comparisons) for line in agreement_words.rater_lines(profile)]
        return RoundSentences(_compared(comparisons), [*alphas, *pairs], raters)
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


def win_lines(comparisons: Comparisons) -> list[str]:
    """Wins, ties and losses of each system, of two by the other one's name; and how often both are bad."""
    names = comparisons.systems
    others = dict(zip(names, names[::-1], strict=True)) if len(names) == 2 else {}
    lines = [
        rating_words.win_rate_line(name, win_rates(comparisons, name), others.get(name, "the others"))
        for name in names
    ]
    return [*lines, rating_words.both_bad_line(both_bad_rate(comparisons))]


def _compared(comparisons: Comparisons) -> list[str]:
    plain = strengths(comparisons)
    lines = rating_words.strengths_lines(plain)
    lines += win_lines(comparisons)
    if comparisons.covariates and len(plain.systems) > 1:
        equal = strengths(comparisons, covariates=comparisons.covariates)
        first, second = (plain.systems[place] for place in plain.order[:2])
        pairs = plain.difference(first, second), equal.difference(first, second)
        lines.append(rating_words.held_equal_line(*pairs, " and ".join(comparisons.covariates)))
    if comparisons.differences is not None:  # of ranks the sides mean nothing
        lines.append(rating_words.position_line(position(comparisons)))
    return lines
