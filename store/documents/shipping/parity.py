"""Whether an export answers as the model that was evaluated."""

from __future__ import annotations

from typing import Literal, TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Difference

ParityStatus = Literal["passed", "untold", "warned", "failed"]
PARITY_WORDS: dict[ParityStatus, str] = {
    "passed": "passed",
    "untold": "can't be told",  # nothing was seen, by too few rows
    "warned": "not sure",
    "failed": "failed",
}


class RenderingExample(TypedDict):
    """The first prompt that two engines read differently, and from which character or token on."""

    row_id: int
    place: int
    expected: str
    present: str


class RenderingParity(TypedDict):
    """The prompts as bytes and as token ids, before any model is asked."""

    prompts: int
    other_bytes: int  # prompts whose rendered bytes differ
    other_ids: int
    doubled_bos: int  # prompts that begin with the token of the beginning twice
    cut: int  # prompts that one of the two shortens
    example: RenderingExample | None


class LongPrompts(TypedDict):
    """The longest held-out prompts, and texts of several rows put together: where positions are counted in
    another way than in training, it shows there first. Not in the estimates over drawn rows."""

    prompts: int
    tokens: int  # of the longest
    mean_kl: Estimate | None


class ParityReport(TypedDict):
    """An export beside its model, on the same held-out prompts, in another process."""

    status: ParityStatus
    reasons: list[str]  # each a sentence, with its limit; why it is not `passed`
    engine: str  # that read the export, with its version
    rendering: RenderingParity
    prompts: int  # drawn at random
    positions: int  # tokens whose distributions were compared
    long: LongPrompts | None  # null for a model that classifies
    mean_kl: Estimate | None  # nats a token, from the model to its export; null where no prompt is the same
    largest_kl: float | None
    argmax_agreement: Estimate | None
    answer_agreement: Estimate | None  # greedy answers that are the same to the last token
    figures: list[Difference]  # the evaluation's metrics, export minus model
    tokens_per_second: float | None
    seconds: float
