"""What the evaluate job leaves: its figures, and what could not be asked or scored."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Figure


class EvaluationCounts(TypedDict):
    """Rows by what they lack; `rows` is how many were asked for."""

    no_prompt: int
    no_reference: int
    no_loss: int
    cut: int  # cut for the loss, as they are longer than the model sees
    empty: int  # answers without a character
    rows: int


class GeneralFigure(TypedDict):
    """What the model knows of one of the suite's probes."""

    probe: str
    suite: str  # fingerprint of questions and prose; numbers of different ones are never compared
    n: int  # items
    loss: Estimate  # nats a token; of choices nats an item
    accuracy: NotRequired[Estimate]  # of questions


class EvaluationDetails(TypedDict):
    """What an evaluation found beside its figures."""

    probes: list[GeneralFigure]
    counts: EvaluationCounts
    reasons: dict[str, int]  # why rows could not be asked or have no loss, and how many
    notices: list[str]
    seconds: dict[str, float]  # by part: loading, losses, answers, choices, tasks, scoring, probes
    peak_memory_gib: float
    device: str
    device_name: str
    dtype: str
    versions: dict[str, str]  # of libraries


class EvaluationResult(EvaluationDetails):
    """One evaluation of a model on rows of a data set."""

    n: int  # rows
    figures: list[Figure]  # one for each metric, and for each number of a harness's task
