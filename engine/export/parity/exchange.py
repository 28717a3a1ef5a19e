"""Shared parts of both processes of a parity check: files in a folder, order of texts, and the measure.

The measure is the Kullback–Leibler divergence of next-token distributions, from the most likely tokens of the
model. A sequential test of "its loss is within the limit of its format" ends the reading once it rejects.
Invariant: light to import, with numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.core.export_schemas import RenderingParity

if TYPE_CHECKING:
    from engine.models.forward.packed_forward import PackedForward

# Files exchanged between the processes of a parity check, with documents of these types:
#
# - questions.json: input of the reader (`ParityQuestions`), including the rows' content, as the process may
#   belong to another environment without a reader of data sets
# - likeliest.npz: the model's MAX_TOP_TOKENS most likely tokens at every place of each text, with their
#   log-probabilities; for a classifier those of all classes
# - reference.json: the model's output, for the job's own process
# - tokenizer/: the model's tokenizer
# - answered.json: output of the export (`ParityAnswers`), written last

# Engine that reads the export; "transformers alone": in an environment with little else.
ParityReader = Literal["transformers", "transformers alone", "llama.cpp", "vllm"]
MAX_TOP_TOKENS = 1_024  # tokens compared one by one; all others count as one token


@dataclass(kw_only=True)
class ParityTexts:
    """Texts as token ids; `places`: indices of the predicted tokens of each text."""

    ids: list[list[int]]
    places: list[list[int]]


@dataclass(kw_only=True)
class ParityQuestions:
    """One export and the rows to compare. Sampled prompts come first, then the longest."""

    reader: ParityReader
    export: str  # path of its folder, or of the GGUF file
    base: str | None  # base model of an adapter
    labels: list[str] | None
    row_ids: list[int]
    contents: list[Any]  # messages or text of each row; empty for a classifier
    drawn: int
    rendered: list[str]
    prompt_ids: list[list[int]]
    positions: int | None
    max_new_tokens: int
    kl_fails: float  # nats per token beyond which the format has failed
    device: str
    dtype: str
    rope_base: float | None
    begin_token: int | None
    answers: ParityTexts  # prompts with the model's responses
    rows: ParityTexts  # sampled rows with their own responses
    rows_of: list[int]  # index of each row's prompt
    joined: ParityTexts  # several rows joined, up to the model's context length


@dataclass(kw_only=True)
class ParityAnswers:
    """Output of the export for the questions.

    Lists have an entry for each text; null for a text whose prompt the export tokenizes differently.
    """

    engine: str
    rendering: RenderingParity
    kl: list[list[float] | None]
    same_best: list[list[bool] | None]
    joined_kl: list[list[float]]
    loss_sum: list[float]
    answers: list[list[int] | None]  # to sampled prompts
    classes: list[list[float]]  # log-probabilities of each sampled row, for a classifier
    tokens_per_second: float | None
    rope_base: float | None
    context: int | None
    zeroed: list[str]  # all-zero matrices
    not_finite: int  # places with non-finite logits
    sure_after: int | None  # rows after which it was certain that the format has failed; no more were read


class ParityFolder:
    """Files exchanged between the processes, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def questions(self) -> Path:
        return self.path / "questions.json"

    @property
    def likeliest(self) -> Path:
        return self.path / "likeliest.npz"

    @property
    def reference(self) -> Path:
        return self.path / "reference.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def answered(self) -> Path:
        return self.path / "answered.json"


# Model and export read the texts in the same order: the response to a sampled prompt, then the row's own
# response, which begins with the same prompt.
#
# Rounding depends on which texts are computed together. So both sides use the same functions, and a model
# exported unchanged gives the same numbers to the last bit.

Logits = Callable[[list[int], list[int]], np.ndarray]


class QuestionText(NamedTuple):
    """Text `number` of a list of the questions; `places`: indices of its predicted tokens."""

    kind: Literal["answers", "rows", "joined"]
    number: int
    ids: list[int]
    places: list[int]


def group_texts(asked: ParityQuestions) -> list[list[QuestionText]]:
    """Group the texts in the order in which they are read.

    Those of each sampled prompt come first, in random order, then those of the longest prompts, then
    joined rows. Texts without a predicted token are left out, so a group may be empty.
    """
    drawn, row_of = asked.drawn, {prompt: row for row, prompt in enumerate(asked.rows_of)}
    order = [
        *np.random.default_rng(0).permutation(drawn).tolist(),
        *range(drawn, len(asked.answers.ids)),
    ]
    groups = [
        [_get_text(asked, "answers", i), *([_get_text(asked, "rows", row_of[i])] if i in row_of else [])]
        for i in order
    ]
    groups += [[_get_text(asked, "joined", i)] for i in range(len(asked.joined.ids))]
    return [[text for text in group if text.places] for group in groups]


def _get_text(
    asked: ParityQuestions, kind: Literal["answers", "rows", "joined"], number: int
) -> QuestionText:
    texts: ParityTexts = getattr(asked, kind)
    return QuestionText(kind, number, texts.ids[number], texts.places[number])


def compute_loss(text: QuestionText, logs: np.ndarray) -> float:
    """Return the summed loss of its tokens in nats; logs: log-probabilities [places, vocabulary]."""
    tokens = [text.ids[place] for place in text.places]
    return -float(logs[np.arange(len(tokens)), tokens].sum())


def read_separately(logits: Logits, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
    """Yield, for each group, the logits [places, vocabulary] of its texts, one forward pass per text."""
    for group in groups:
        yield [logits(text.ids, text.places) for text in group]


def read_together(
    model: Any, logits: Logits, groups: Sequence[list[QuestionText]]
) -> Iterator[list[np.ndarray]]:
    """Do the same as `read_separately`, computing shared prefixes once where the model supports it.

    The model is in evaluation mode.
    """
    from engine.models.forward import llama_layers  # not available in environments of other engines
    from engine.models.forward.packed_forward import PackedForward

    longest = max((len(text.ids) for group in groups for text in group), default=0)
    parts = llama_layers.recognise_model(model, longest)
    if isinstance(parts, str):
        yield from read_separately(logits, groups)
        return
    forward, waiting = PackedForward(parts), list[list[QuestionText]]()
    for group in groups:
        if _count_shared_tokens(group):
            waiting.append(group)
            continue
        yield from _read_trees(forward, waiting)
        waiting = []
        yield from read_separately(logits, [group])
    yield from _read_trees(forward, waiting)


def _read_trees(forward: PackedForward, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
    from engine.models.forward.answer_likelihood import compute_branch_logits

    ahead = [_count_shared_tokens(group) for group in groups]
    prompts = [group[0].ids[:start] for group, start in zip(groups, ahead, strict=True)]
    branches = [
        [text.ids[start : text.places[-1] + 1] for text in group]
        for group, start in zip(groups, ahead, strict=True)
    ]
    made = compute_branch_logits(forward, prompts, branches)
    for group, start, arrays in zip(groups, ahead, made, strict=True):
        yield [
            array[[place - start for place in text.places]] for text, array in zip(group, arrays, strict=True)
        ]


def _count_shared_tokens(group: Sequence[QuestionText]) -> int:
    """Count the tokens of the prompt that all texts of the group share.

    0 if they share none, or are joined rows.
    """
    if not group or group[0].kind == "joined":
        return 0
    start = group[0].places[0]
    prompt = group[0].ids[:start]
    alike = all(text.places[0] >= start and text.ids[:start] == prompt for text in group)
    return start if alike else 0


# The Kullback–Leibler divergence of next-token distributions, from the most likely tokens of the first model.
#
# The model's MAX_TOP_TOKENS most likely tokens are compared one by one and all others as one token. This is a
# lower bound of the divergence over the whole vocabulary; it omits differences within the rest, which has
# almost no probability. Pure: arrays in and out.

MIN_SHARE = 1e-12  # minimum probability of the rest, which rounding can make smaller


class TopTokens(NamedTuple):
    """ids and log-probabilities [places, tokens], most likely first."""

    ids: NDArray[np.int32]
    logs: NDArray[np.float32]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-probabilities of logits."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def find_top_tokens(logs: NDArray[np.float32], count: int) -> TopTokens:
    """Return the `count` most likely tokens of log-probabilities [places, vocabulary]."""
    count = min(count, logs.shape[1])
    ids = np.argpartition(-logs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(logs, ids, 1), axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, 1)
    return TopTokens(ids.astype(np.int32), np.take_along_axis(logs, ids, 1).astype(np.float32))


def compute_kl(first: TopTokens, logs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return nats at each place, from the first model to the one with these log-probabilities."""
    own = first.logs.astype(np.float64)
    other = np.take_along_axis(logs, first.ids.astype(np.int64), 1).astype(np.float64)
    p = np.exp(own)
    rest = np.clip(1 - p.sum(axis=1), 0, 1)
    other_rest = np.clip(1 - np.exp(other).sum(axis=1), MIN_SHARE, 1)
    kl = (p * (own - other)).sum(axis=1)
    some = rest > 1e-6  # below this it is fp32 rounding
    kl[some] += rest[some] * np.log(rest[some] / other_rest[some])
    return np.where(np.isfinite(kl), np.maximum(kl, 0), np.inf)


def compare_argmax(first: TopTokens, logs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return, for each place, whether both models have the same most likely token."""
    same: NDArray[np.bool_] = logs.argmax(axis=1) == first.ids[:, 0]
    return same


# A sequential test by betting against "its loss is within the limit of its format": once the bet has won
# enough, no more rows are needed.
#
# Each row multiplies the capital by 1 + STAKE * (its nats - limit * its tokens) / (limit * most tokens). That
# is never negative, and on average at most 1 if the mean divergence over tokens is at most the limit: then
# the capital ever reaches 1 / ALPHA with a probability of at most ALPHA, however often it is checked (Ville).

ALPHA = 0.005
STAKE = 0.9
MIN_ROWS = 20  # minimum number of rows, so that figures have confidence intervals


class LossTest:
    """Sequential test of the format's limit.

    limit: nats per token beyond which the format has failed; most: maximum number of tokens per row.
    """

    def __init__(self, limit: float, most: int) -> None:
        self.limit, self.most = limit, most
        self.capital, self.rows = 1.0, 0

    def bet(self, row: Sequence[float]) -> bool:
        """Add a randomly drawn row; return whether the test rejects now."""
        gain = (sum(row) - self.limit * len(row)) / (self.limit * self.most)
        self.capital *= 1 + STAKE * gain
        self.rows += 1
        return self.rows >= MIN_ROWS and self.capital >= 1 / ALPHA
