"""Forms of external rating files with the roles of their columns, and descriptions of how a file is read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from store.core.rating_schemas import RatingProtocol
from store.data.cleaning_text import describe_ignored_columns
from store.data.formats import list_columns
from store.rating.schemas import RatingFileSummary, UnclearValue, UnusedColumn

RatingFormName = Literal["votes", "scores", "passes", "labels"]


@dataclass(frozen=True)
class RatingForm:
    """How rows of one form are read.

    needs: groups of roles, of which one per group is required; optional: other roles. several: roles that
    more than one column may play (`winner`, `winner_2` …). deciding: the role whose values have meanings;
    meanings: the allowed meanings, any text if empty.
    """

    name: RatingFormName
    title: str
    protocol: RatingProtocol
    needs: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...]
    deciding: str
    help: str
    several: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles, the required ones first."""
        return tuple(dict.fromkeys((*(role for group in self.needs for role in group), *self.optional)))

    def base_of(self, role: str) -> str | None:
        """Return the base of a role in a mapping: `winner` for `winner_2`; None if it isn't a role of this
        form.
        """
        base, _, number = role.rpartition("_")
        if base in self.several and number.isdecimal() and int(number) > 1:
            return base
        return role if role in self.roles else None


_ASKED = ("prompt", "prompt_id", "input", "system")
_ABOUT = ("rater", "seconds", "time", "comment")

RATING_FORMS: dict[str, RatingForm] = {
    form.name: form
    for form in (
        RatingForm(
            "votes",
            "Votes on two answers",
            "pairwise",
            (("winner", "preference_a", "preference_b", "won_a"),),
            ("won_b", "won_tie", "model_a", "model_b", "models", "rater", *_ASKED, "answer_a", "answer_b",
             "turn", *_ABOUT),
            "winner",
            "One vote per row, with both models and the rater in columns; or one column of votes per "
            "rater.",
            ("winner",),
            ("first", "second", "tie", "both_bad", "model", "leave_out"),
        ),
        RatingForm(
            "scores",
            "Scores of one answer",
            "rubric",
            (("score",),),
            ("answer", "model", "rater", *_ASKED, "turn", *_ABOUT),
            "score",
            "One answer per row, with one column of scores per criterion.",
            ("score",),
        ),
        RatingForm(
            "passes",
            "Pass or fail of one answer",
            "pass_fail",
            (("passed",),),
            ("answer", "model", "rater", *_ASKED, "reason", "turn", *_ABOUT),
            "passed",
            "One answer per row, and whether it passes.",
            (),
            ("pass", "fail", "leave_out"),
        ),
        RatingForm(
            "labels",
            "Labels of texts",
            "label",
            (("text",), ("label",)),
            _ABOUT,
            "label",
            "One text per row with its label by one person; or one column of labels per rater.",
            ("label",),
        ),
    )
}  # fmt: skip

ROLE_WORDS = {  # role titles for forms and sentences
    "winner": "which is better",
    "preference_a": "how far for the first, 0 to 1",
    "preference_b": "how far for the second, 0 to 1 or 1 to 2",
    "won_a": "the first is better: yes or no",
    "won_b": "the second is better: yes or no",
    "won_tie": "neither is better: yes or no",
    "model_a": "first model",
    "model_b": "second model",
    "models": "both models, that of the first answer first",
    "rater": "who rated",
    "prompt": "prompt",
    "prompt_id": "id of the prompt",
    "input": "input in addition to the prompt",
    "system": "system prompt",
    "answer_a": "first answer",
    "answer_b": "second answer",
    "turn": "turn that was judged",
    "seconds": "seconds it took",
    "time": "when it was rated",
    "comment": "comment",
    "score": "score",
    "answer": "answer",
    "model": "model",
    "passed": "whether it passes",
    "reason": "why it fails",
    "text": "text",
    "label": "label",
}
MEANING_WORDS = {
    "first": "the first is better",
    "second": "the second is better",
    "tie": "neither is better",
    "both_bad": "both bad",
    "model": "the model of that name is better",
    "pass": "it passes",
    "fail": "it fails",
    "leave_out": "no vote: left out",
}


MAX_NAMED = 12  # maximum models, raters or meanings listed in a sentence


def describe_used_roles(read: RatingFileSummary) -> str:
    """Describe the column of each role: "which is better = winner; who rated = judge"."""
    form = RATING_FORMS[read.form or "votes"]
    parts = []
    for role in form.roles:
        several = role in form.several
        names = list_columns(read.mapping, role) if several else [read.mapping.get(role, "")]
        if names and names[0]:
            parts.append(f"{ROLE_WORDS[role]} = {', '.join(names)}")
    return "; ".join(parts)


def describe_meanings(values: Mapping[str, str]) -> str:
    """Describe the meanings of values: "a: the first is better"."""
    meanings = [f"{value}: {MEANING_WORDS.get(meaning, meaning)}" for value, meaning in values.items()]
    more = f" and {len(meanings) - MAX_NAMED} more" if len(meanings) > MAX_NAMED else ""
    return "; ".join(meanings[:MAX_NAMED]) + more


def describe_unused_column(column: UnusedColumn) -> str:
    """Describe why a column needs a decision: “worker” (58, 83 and 122 more) may say who rated."""
    more = column.distinct - len(column.values)
    values = ", ".join(column.values) + (f" and {more:,} more" if more > 0 else "")
    return f"“{column.name}” ({values}) {column.why}"


def describe_unclear_value(unclear: UnclearValue) -> str:
    """Describe a value without a clear meaning."""
    return f"“{unclear.value}” ({unclear.rows:,} of the first rows)"


def format_rating_file(read: RatingFileSummary) -> list[str]:
    """Format a file's summary as lines, with the options that resolve open decisions."""
    if read.form is None:
        return [f"Not detected: {read.problem}", f"columns: {', '.join(read.columns)}"]
    lines = [f"Read as: {RATING_FORMS[read.form].title}", f"  used: {describe_used_roles(read)}"]
    if read.values:
        lines.append(f"  meaning: {describe_meanings(read.values)}")
    lines.append(f"  ignored: {describe_ignored_columns(read.ignored)}")
    if read.problem:
        lines.append(f"  missing: {read.problem}")
    for value in read.unclear:
        lines.append(f"  unclear: {describe_unclear_value(value)}: --value {shlex.quote(value.value + '=…')}")
    for column in read.undecided:
        ways = [f"--column {shlex.quote(f'{role}=' + column.name)}" for role in column.roles[:2]]
        ways.append(f"--ignore {shlex.quote(column.name)}")
        lines.append(f"  asked: {describe_unused_column(column)}: {' or '.join(ways)}")
    if not read.whole and read.rows:
        lines.append(f"  counted: the first {read.rows:,} rows alone")
    lines += [f"  {notice}" for notice in read.notices]
    if read.models:
        lines.append(f"  models: {format_most_rated(read)}")
    return lines


def format_most_rated(read: RatingFileSummary) -> str:
    """Format the most rated models with their numbers of ratings."""
    most_rated = [f"{each.name} ({each.ratings:,})" for each in read.models[:MAX_NAMED]]
    more = read.model_count - len(most_rated)
    return ", ".join(most_rated) + (f" and {more:,} more" if more > 0 else "")
