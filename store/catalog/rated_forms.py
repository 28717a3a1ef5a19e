"""What a file of ratings from elsewhere may hold, as one table: the roles that its columns play, and what the
values of the deciding ones may mean. Form, command line, reader and tests share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.documents.rating.rating_desk import RatingProtocol

RatedFormName = Literal["votes", "scores", "passes", "labels"]


@dataclass(frozen=True)
class RatedForm:
    """How rows of one kind are read. needs: groups of roles, of each of which one has to be played; optional:
    the others. several: roles that more than one column may play (`winner`, `winner_2` …). deciding: the role
    whose values mean something; meanings: what they may mean, any text where empty."""

    name: RatedFormName
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
        """All roles, the needed ones first."""
        return tuple(dict.fromkeys((*(role for group in self.needs for role in group), *self.optional)))

    def base_of(self, role: str) -> str | None:
        """The role that a mapping names: `winner` for `winner_2`; None for none of this form."""
        base, _, number = role.rpartition("_")
        if base in self.several and number.isdecimal() and int(number) > 1:
            return base
        return role if role in self.roles else None


_ASKED = ("prompt", "prompt_id", "input", "system")
_ABOUT = ("rater", "seconds", "time", "comment")

RATED_FORMS: dict[str, RatedForm] = {
    form.name: form
    for form in (
        RatedForm(
            "votes",
            "Votes on two answers",
            "pairwise",
            (("winner", "preference_a", "preference_b", "won_a"),),
            ("won_b", "won_tie", "model_a", "model_b", "models", "rater", *_ASKED, "answer_a", "answer_b",
             "turn", *_ABOUT),
            "winner",
            "A vote a row, with both models and who voted in columns; or a column of votes of each rater.",
            ("winner",),
            ("first", "second", "tie", "both_bad", "model", "leave_out"),
        ),
        RatedForm(
            "scores",
            "Scores of one answer",
            "rubric",
            (("score",),),
            ("answer", "model", "rater", *_ASKED, "turn", *_ABOUT),
            "score",
            "An answer a row, with its scores by one criterion or several: a column each.",
            ("score",),
        ),
        RatedForm(
            "passes",
            "Pass or fail of one answer",
            "pass_fail",
            (("passed",),),
            ("answer", "model", "rater", *_ASKED, "reason", "turn", *_ABOUT),
            "passed",
            "An answer a row, and whether it is good enough.",
            (),
            ("pass", "fail", "leave_out"),
        ),
        RatedForm(
            "labels",
            "Labels of texts",
            "label",
            (("text",), ("label",)),
            _ABOUT,
            "label",
            "A text a row with the label that one person gave it; or a column of labels for each rater.",
            ("label",),
        ),
    )
}  # fmt: skip

ROLE_WORDS = {  # of roles, for forms and sentences
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
    "input": "input beside the prompt",
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
    "both_bad": "both are bad",
    "model": "the model of that name is better",
    "pass": "it passes",
    "fail": "it fails",
    "leave_out": "no vote: left out",
}
