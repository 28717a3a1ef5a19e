"""What is said of people's labels. Pure."""

from __future__ import annotations

import math

from engine.diagnostics import phrasing
from engine.diagnostics.rating.raters.label_figures import LabelFigures, VersionAccuracy
from engine.diagnostics.rating.words.agreement_words import alpha_line
from engine.diagnostics.rating.words.rating_words import share_text
from engine.diagnostics.rating.words.round_words import RoundSentences

HARD = "chosen because they are hard: no figure of all requests"


def settled_line(figures: LabelFigures) -> str:
    """How many texts have a label by now."""
    settled, disputed = len(figures.majority), len(figures.disputed)
    line = f"{phrasing.plural(settled, 'text')} of {settled + disputed:,} have a label"
    line += f" by {phrasing.plural(figures.ratings, 'rating')}"
    return f"{line}; on {disputed:,} people part." if disputed else f"{line}."


def version_line(accuracy: VersionAccuracy) -> str:
    """How often a version gave the label of people."""
    share, parts = accuracy.random, []
    if share.n and not math.isnan(share.value):
        texts = phrasing.plural(share.n, "text")
        parts.append(f"gave people's label to {share_text(share)} of {texts} drawn at random")
        if accuracy.unsettled:
            parts[-1] += (
                f" ({accuracy.unsettled:,} unsettled, which the interval counts as wrong and as right)"
            )
    else:
        parts.append("can't be judged: none of its texts was drawn at random")
    if accuracy.telling:
        parts.append(f"and to {accuracy.telling_right:,} of {accuracy.telling:,} {HARD}")
    return f"{accuracy.version} {', '.join(parts)}."


def label_sentences(figures: LabelFigures) -> RoundSentences:
    """All that is said of a round of labels."""
    if not figures.ratings:
        return RoundSentences(["Everything in this round was skipped, or its raters are left out."], [], [])
    versions = [version_line(each) for each in figures.accuracy]
    return RoundSentences([settled_line(figures), *versions], people_lines(figures), [])


def people_lines(figures: LabelFigures) -> list[str]:
    """Whether people agree, and each with themselves."""
    lines = [alpha_line(figures.alpha)]
    if figures.same_again.n:
        again = phrasing.plural(figures.same_again.n, "text")
        lines.append(f"Of {again} that came again {share_text(figures.same_again)} got the same label.")
    return lines
