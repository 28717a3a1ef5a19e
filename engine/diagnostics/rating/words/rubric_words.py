"""What is said of scores by criterion: which of the models score higher, and whose opinion that is. Pure."""

from __future__ import annotations

from itertools import combinations

from engine.diagnostics import phrasing
from engine.diagnostics.rating.rows.clustered import LEAST_RATERS
from engine.diagnostics.rating.rows.graded import CriterionScores
from engine.diagnostics.rating.rows.of_round import RoundRatings
from engine.diagnostics.rating.systems.criteria import (
    criterion_differences,
    criterion_means,
    fewest_raters,
)
from engine.diagnostics.rating.words.rating_words import criterion_lines, number_text


def score_tables(ratings: RoundRatings) -> list[CriterionScores]:
    """The scores by criterion, and those over all of them where that was chosen; none without a score."""
    return [table for table in (ratings.scores, ratings.overall) if table is not None and len(table)]


def difference_lines(ratings: RoundRatings) -> list[str]:
    """Of each two models by each criterion; of three models or more those that can be told apart, and how
    many others there are. Then for whom this holds, and that it is corrected."""
    tables = score_tables(ratings)
    rated = {name for table in tables for name in _present(table)}
    pairs = list(combinations([name for name in ratings.systems if name in rated], 2))
    compared = len(pairs) * sum(len(table.criteria) for table in tables)
    lines, unclear = [], 0
    for first, second in pairs:
        for table in tables:
            differences = criterion_differences(table, first, second, compared=compared)
            clear = {name: at for name, at in differences.items() if at.above or at.below}
            listed = differences if len(pairs) == 1 else clear
            unclear += len(differences) - len(listed)
            lines += criterion_lines(listed, first, second)
    if unclear:
        others = "other differences" if lines else "differences"
        lines.append(f"{unclear:,} {others} of two models by a criterion can't be told.")
    if compared > 1:
        lines.append(f"Intervals of differences are corrected for {compared:,} of them (Bonferroni).")
    return [*lines, *([line] if (line := opinion_line(ratings)) else [])]


def mean_lines(ratings: RoundRatings) -> list[str]:
    """Of each model by each criterion."""
    return [
        f"{name}, {criterion}: {number_text(at)}."
        for table in score_tables(ratings)
        for (name, criterion), at in criterion_means(table).items()
    ]


def opinion_line(ratings: RoundRatings) -> str:
    """Whose opinion the intervals hold for; empty where there is none."""
    tables = score_tables(ratings)
    has_interval = any(at.low is not None for table in tables for at in criterion_means(table).values())
    if not has_interval:
        return ""
    raters = max(len(set(table.rater.tolist())) for table in tables)
    fewest = min(fewest_raters(table) for table in tables)
    if fewest >= LEAST_RATERS:
        return f"This holds of people like these {raters:,} raters."
    who = "this one rater" if raters == 1 else f"these {raters:,} raters"
    few = (
        "so few"
        if raters < LEAST_RATERS
        else f"some figures rest on {phrasing.plural(fewest, 'rater')}, and so few"
    )
    return f"This holds for {who}: {few} say nothing of how others would score."


def _present(table: CriterionScores) -> set[str]:
    return {table.systems[place] for place in table.system.tolist()}
