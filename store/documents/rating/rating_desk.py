"""What the page in which people rate gets from the engine, and what it sends.

None of it says which model wrote what: an answer is a text at a place, and the id of a task is random.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

RatingProtocol = Literal[
    "pairwise", "rank", "rubric", "pass_fail", "correction", "label", "spans", "free_text"
]
RatingSubject = Literal["answer", "prompt"]  # what spans and free text are about


class RatingCriterion(TypedDict):
    """What a rubric asks about one answer."""

    name: str
    question: str
    anchors: list[str]  # what each point means, worst to best; points are 1 to their number


class RoundForRater(TypedDict):
    """A rating round as a rater may see it."""

    round_id: str
    title: str
    protocol: RatingProtocol
    instruction: str
    criteria: list[RatingCriterion]  # of a rubric; else empty
    reasons: list[str]  # of pass or fail, to choose from
    ties: bool  # of pairwise: whether "equally good" may be answered
    both_bad: bool  # of pairwise: whether "neither is good" may be answered
    labels: list[str]  # of label and spans, to choose from
    several_labels: bool  # of label: a text may have any number of them
    subject: RatingSubject  # of spans and free text: what is marked or asked about
    overlapping: bool  # of spans: whether two may share characters
    state: Literal["open", "closed"]


class PromptTurn(TypedDict):
    """One turn of the conversation that is answered."""

    role: str  # system, user, assistant or tool; note of a prompt whose text is not in its file
    content: str


class RatingTask(TypedDict):
    """One thing to rate."""

    task_id: str  # random for each item and rater
    prompt: list[PromptTurn]
    answers: list[str]  # in the order to show: A, B, C…
    reference: str | None  # an answer that is known to be good


class PairChoice(TypedDict):
    """The answer of pairwise. A soft vote of elsewhere has a preference: A above 0.5, B below."""

    choice: Literal["A", "B", "tie", "both_bad"]
    preference: NotRequired[float]  # how far the vote is for A, 0 to 1


class AnswerRanks(TypedDict):
    """The answer of rank."""

    ranks: list[int]  # by place of the answer: 1 is best, equal numbers are ties


class RubricScores(TypedDict):
    """The answer of a rubric."""

    scores: dict[str, int]  # by name of the criterion: 1 to the number of its points


class PassOrFail(TypedDict):
    """The answer of pass or fail."""

    passed: bool
    reasons: list[str]


class CorrectedText(TypedDict):
    """The answer of a correction: the better text, or the same where nothing had to be changed."""

    text: str


class GivenLabel(TypedDict):
    """The answer of label: one of the round's labels, or null where none of them fits."""

    label: str | None
    note: str  # what would fit; with a label empty


class GivenLabels(TypedDict):
    """The answer of label where a text may have several: in the round's order, empty where none fits."""

    labels: list[str]
    note: str  # what would fit; with labels empty


class TextSpan(TypedDict):
    """A piece of the text that is marked. Characters are Unicode code points, as Python counts them."""

    start: int
    end: int  # the first character after it
    label: str


class MarkedSpans(TypedDict):
    """The answer of spans: by start, end and label; empty where nothing is to be marked."""

    spans: list[TextSpan]


class WrittenAnswer(TypedDict):
    """The answer of free text, in the rater's own words."""

    written: str


class SkippedTask(TypedDict):
    """The answer of whoever can't tell, whatever the protocol."""

    skipped: Literal[True]
    reason: str


RatingAnswer = (
    PairChoice
    | AnswerRanks
    | RubricScores
    | PassOrFail
    | CorrectedText
    | GivenLabel
    | GivenLabels
    | MarkedSpans
    | WrittenAnswer
    | SkippedTask
)


class RatingProgress(TypedDict):
    """How far one rater is."""

    done: int
    total: int | None  # null where there is no end to it
    seconds_each: float | None  # their own median; null until it can be known


class StoredRating(TypedDict):
    """A rating as it is stored, to go back to."""

    task: RatingTask
    revision: int  # 1 is the first
    answer: RatingAnswer
    comment: str


class RatingTasks(TypedDict):
    """What a page begins with (command `next_rating_tasks`)."""

    round: RoundForRater
    tasks: list[RatingTask]  # none that the page holds already
    progress: RatingProgress
    last: list[StoredRating]  # the person's own, newest first, at most 20
    notice: str | None  # why nothing more comes, in a sentence, where it is not that all is rated


class RatingReceipt(TypedDict):
    """A rating is stored (command `rate`)."""

    stored: Literal[True]
    revision: int  # that is stored now
    already: bool  # it had been stored before: sent twice, or rated in another tab
    progress: RatingProgress
    tasks: list[RatingTask]  # so that the page again holds as many as it may
