"""What both processes of a parity check share: files in a folder, texts in their order, and the measure.

The measure is the Kullback–Leibler divergence of two models' next tokens, from the likeliest tokens of the
one. A bet against "it loses no more than its form may" ends the reading once it has won enough. Invariant:
light to import, with numpy alone.
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

# What crosses the processes of a parity check: files in a folder, documents of these types.
#
# questions.json   what the export is asked (`ParityQuestions`), the rows themselves among it: the process may
# belong to another environment, which has no reader of data sets
# likeliest.npz    what the model held for likely: of each text its LIKELIEST tokens at every place, and their
# log-probabilities; of a model that classifies those of all classes
# reference.json   what the model answered, for the job's own process
# tokenizer/       that of the model
# answered.json    what the export made of it (`ParityAnswers`), written last

# What reads it; "transformers alone": in an environment that has little else.
ParityReader = Literal["transformers", "transformers alone", "llama.cpp", "vllm"]
MAX_TOP_TOKENS = 1_024  # tokens whose probabilities are compared one by one; all others count as one


@dataclass(kw_only=True)
class ParityTexts:
    """Texts as token ids; `places` of each: those of its tokens that are predicted."""

    ids: list[list[int]]
    places: list[list[int]]


@dataclass(kw_only=True)
class ParityQuestions:
    """One export, and the rows that it is asked. Prompts that were drawn come first, the longest after."""

    reader: ParityReader
    export: str  # path of its folder, or of the GGUF file
    base: str | None  # beneath an adapter
    labels: list[str] | None
    row_ids: list[int]
    contents: list[Any]  # messages or text of each row; none of a model that classifies
    drawn: int
    rendered: list[str]
    prompt_ids: list[list[int]]
    positions: int | None
    max_new_tokens: int
    kl_fails: float  # nats a token, beyond which the form has failed
    device: str
    dtype: str
    rope_base: float | None
    begin_token: int | None
    answers: ParityTexts  # the prompts with the model's answers
    rows: ParityTexts  # the drawn rows with their own answers
    rows_of: list[int]  # of each of them its place among the prompts
    joined: ParityTexts  # several rows put together, as long as the model can read


@dataclass(kw_only=True)
class ParityAnswers:
    """What the export made of the questions. A list has an entry for each text; null for one whose prompt it
    reads otherwise."""

    engine: str
    rendering: RenderingParity
    kl: list[list[float] | None]
    same_best: list[list[bool] | None]
    joined_kl: list[list[float]]
    loss_sum: list[float]
    answers: list[list[int] | None]  # to drawn prompts
    classes: list[list[float]]  # log-probabilities of each drawn row, of a model that classifies
    tokens_per_second: float | None
    rope_base: float | None
    context: int | None
    zeroed: list[str]  # matrices that are nothing but zeros
    not_finite: int  # places at which it gives no numbers
    sure_after: int | None  # rows, after which it was sure that the form has failed; no more were asked


class ParityFolder:
    """The files by name."""

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


# The texts of a parity check in the order in which a model reads them, the one that was evaluated as well as
# its export: the answer to a drawn prompt, then the row's own, which begins with the same prompt.
#
# Rounding depends on what passes together. So both sides read by the same functions, and a model that was
# exported as it is gives the same numbers to the last bit.

Logits = Callable[[list[int], list[int]], np.ndarray]


class QuestionText(NamedTuple):
    """The text `number` of a list of the questions; `places`: those of its tokens that are predicted."""

    kind: Literal["answers", "rows", "joined"]
    number: int
    ids: list[int]
    places: list[int]


def group_texts(asked: ParityQuestions) -> list[list[QuestionText]]:
    """Of each drawn prompt its texts, in an order of chance; then those of the longest prompts, then texts of
    several rows. Texts without a place are left out, so that a group may be empty."""
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
    """Nats that its tokens cost; logs: log-probabilities [places, vocabulary]."""
    tokens = [text.ids[place] for place in text.places]
    return -float(logs[np.arange(len(tokens)), tokens].sum())


def read_separately(logits: Logits, groups: Sequence[list[QuestionText]]) -> Iterator[list[np.ndarray]]:
    """Of each group the logits [places, vocabulary] of its texts, each of which passes by itself."""
    for group in groups:
        yield [logits(text.ids, text.places) for text in group]


def read_together(
    model: Any, logits: Logits, groups: Sequence[list[QuestionText]]
) -> Iterator[list[np.ndarray]]:
    """As `read_separately`, where the model allows it with what texts have in common passed once; it is in
    evaluation mode."""
    from engine.models.forward import llama_layers  # not of an environment that has another engine alone
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
    """Tokens of the prompt after which all texts of the group are predicted; 0 where they share none, or are
    texts of several rows."""
    if not group or group[0].kind == "joined":
        return 0
    start = group[0].places[0]
    prompt = group[0].ids[:start]
    alike = all(text.places[0] >= start and text.ids[:start] == prompt for text in group)
    return start if alike else 0


# The Kullback–Leibler divergence of two models' next tokens, from the likeliest tokens of the first.
#
# The model's LIKELIEST tokens are compared one by one and all others as one token. That is never more than
# the divergence over the whole vocabulary, and less by what the two differ within the rest, which has next
# to no probability. Pure: arrays in and out.

MIN_SHARE = 1e-12  # of the rest: rounding makes smaller ones


class TopTokens(NamedTuple):
    """ids and log-probabilities [places, tokens], the likeliest first."""

    ids: NDArray[np.int32]
    logs: NDArray[np.float32]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of logits."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def find_top_tokens(logs: NDArray[np.float32], count: int) -> TopTokens:
    """Of log-probabilities [places, vocabulary]."""
    count = min(count, logs.shape[1])
    ids = np.argpartition(-logs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(logs, ids, 1), axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, 1)
    return TopTokens(ids.astype(np.int32), np.take_along_axis(logs, ids, 1).astype(np.float32))


def compute_kl(first: TopTokens, logs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Nats at each place, from the first model to the one with these log-probabilities."""
    own = first.logs.astype(np.float64)
    other = np.take_along_axis(logs, first.ids.astype(np.int64), 1).astype(np.float64)
    p = np.exp(own)
    rest = np.clip(1 - p.sum(axis=1), 0, 1)
    other_rest = np.clip(1 - np.exp(other).sum(axis=1), MIN_SHARE, 1)
    kl = (p * (own - other)).sum(axis=1)
    some = rest > 1e-6  # less is the rounding of fp32
    kl[some] += rest[some] * np.log(rest[some] / other_rest[some])
    return np.where(np.isfinite(kl), np.maximum(kl, 0), np.inf)


def compare_argmax(first: TopTokens, logs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether both hold the same token for the likeliest."""
    same: NDArray[np.bool_] = logs.argmax(axis=1) == first.ids[:, 0]
    return same


# A bet against "it loses no more than its form may": once it has won enough, no row more has to be asked.
#
# Each row multiplies the capital by 1 + STAKE * (its nats - limit * its tokens) / (limit * most tokens). That
# is never negative, and on average at most 1 where the mean divergence over tokens is at most the limit: then
# the capital ever reaches 1 / ALPHA with a chance of ALPHA at most, however often one looks (Ville).

ALPHA = 0.005
STAKE = 0.9
MIN_ROWS = 20  # that are asked in any case, so that figures have intervals


class LossTest:
    """One bet. limit: nats a token, from which on the form has failed; most: tokens of a row at most."""

    def __init__(self, limit: float, most: int) -> None:
        self.limit, self.most = limit, most
        self.capital, self.rows = 1.0, 0

    def bet(self, row: Sequence[float]) -> bool:
        """On a further row that was drawn at random; whether it is sure now."""
        gain = (sum(row) - self.limit * len(row)) / (self.limit * self.most)
        self.capital *= 1 + STAKE * gain
        self.rows += 1
        return self.rows >= MIN_ROWS and self.capital >= 1 / ALPHA
