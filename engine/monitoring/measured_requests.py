"""Questions and answers to be measured, from a log, an evaluation or a data set, and which of the answers are
asked of the model beneath them.

At most MAX_ANSWERS of a look are measured, drawn by their place alone, so that the tests stay valid. What
can't be asked keeps its place and says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.split import dataset_split, partition
from engine.monitoring.text import MAX_ANSWERS
from engine.worker.job import WorkerJob
from store.core.errors import DataError, NotFoundError, TunebenchError
from store.core.job_folder import JobDir, read_json
from store.core.monitoring_schemas import BaseMeasurement, ServedBase
from store.core.row_schemas import Message
from store.data import dataset_files
from store.training.split import Split

PARTS = ("test", "validation")  # those that a model hasn't trained on, in the order in which they are taken


@dataclass(frozen=True)
class MeasuredRequests:
    """One entry a row; null where it isn't there. inputs: what the last message of the person says."""

    inputs: list[str | None]
    input_characters: list[int | None]
    outputs: list[str | None]
    output_characters: list[int | None]
    labels: list[str | None]
    confidences: list[float | None]  # of the label
    logprobs: list[float | None]  # mean of a token

    def __len__(self) -> int:
        return len(self.inputs)


def read_logged_requests(requests: pa.Table) -> MeasuredRequests:
    """Of the columns of table `request`."""
    column = {name: requests[name].to_pylist() for name in requests.column_names}
    return MeasuredRequests(
        [_extract_last_input(messages) for messages in column["messages"]],
        column["input_characters"],
        column["output"],
        column["output_characters"],
        column["label"],
        column["confidence"],
        column["mean_logprob"],
    )


def _extract_last_input(messages: str | None) -> str | None:
    """The text of the last message that isn't the model's; of several parts, those that are text."""
    if messages is None:
        return None
    turns = [turn for turn in json.loads(messages) if isinstance(turn, dict)]
    asked = [turn for turn in turns if turn.get("role", "user") == "user"] or turns
    return _extract_text(asked[-1].get("content")) if asked else None


def _extract_text(content: Any) -> str | None:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def read_evaluation_requests(job: WorkerJob, evaluation_id: str, most: int) -> MeasuredRequests:
    """The rows of an evaluation with the answers of its model. Raises DataError where they are gone."""
    path = JobDir(job.home.jobs / evaluation_id).predictions
    if not path.exists():
        raise DataError(
            "The answers of the evaluation are gone.",
            fix="Evaluate again, and choose that.",
            field="evaluation",
        )
    table = pq.read_table(path).slice(0, most)
    labelled = [value is not None for value in table["probability"].to_pylist()]
    answers = table["prediction"].to_pylist()
    return MeasuredRequests(
        table["prompt"].to_pylist(),
        _measure_lengths(table["prompt"].to_pylist()),
        answers,
        _measure_lengths(answers),
        [answer if is_label else None for answer, is_label in zip(answers, labelled, strict=True)],
        table["probability"].to_pylist(),
        [None] * len(table),
    )


def read_dataset_requests(job: WorkerJob, most: int) -> MeasuredRequests:
    """Held-out rows of a data set: what is asked in them. Its answers are people's and no model's, so that
    there are none. Raises DataError for a data set without held-out rows."""
    rows = read_held_out_rows(job, most)
    inputs = [_extract_question(row) for row in rows.to_pylist()]
    nothing: list[Any] = [None] * len(inputs)
    return MeasuredRequests(inputs, _measure_lengths(inputs), nothing, nothing, nothing, nothing, nothing)


def read_held_out_rows(job: WorkerJob, most: int) -> pa.Table:
    """messages, text and label of so many held-out rows, the same ones each time. Raises DataError."""
    fingerprint = job.spec["dataset"]["fingerprint"]
    dealt = dataset_split.assign_rows_unchecked(job.home, fingerprint, Split.parse(job.spec["split"])).ids()
    ids = next((dealt[part] for part in PARTS if len(dealt[part])), None)
    if ids is None:
        raise DataError(
            "The data set has no held-out rows.",
            fix="Give it a test part, or choose another reference.",
            field="dataset",
        )
    columns = ["digest", "messages", "text", "label"]
    table = dataset_files.load_rows(job.home, fingerprint, columns=columns)
    ids = partition.select_by_hash(table["digest"].to_numpy(), ids, most, 0) if len(ids) > most else ids
    return table.select(columns[1:]).take(pa.array(ids))


def _extract_question(row: dict[str, Any]) -> str | None:
    """The last question of a conversation; of a labelled text without one the text."""
    asked = [turn["content"] for turn in row["messages"] or () if turn["role"] == "user"]
    text: str | None = asked[-1] if asked else row["text"]
    return text


def _measure_lengths(texts: list[str | None]) -> list[int | None]:
    return [None if text is None else len(text) for text in texts]


NO_TEXT = "their texts are not kept"
ANSWER_IS_LABEL = "the answer is a label"
NO_CHAT = "they were not asked in a chat"
NOT_TEXT = "their messages hold more than text"
NO_ANSWER = "the row has no answer"
ROWS_GONE = "the rows of the evaluation are gone"


@dataclass(frozen=True)
class ServedAnswer:
    """place: of the request in its log, or of the row. messages: the answer is the last one; None: `why`."""

    place: int
    version: str
    messages: list[Message] | None
    why: str = ""


def read_logged_answers(requests: pa.Table) -> list[ServedAnswer]:
    """Of the columns of table `request`."""
    names = ("place", "version", "kind", "label", "messages", "output")
    return [
        _build_request_answer(*row)
        for row in zip(*(requests[name].to_pylist() for name in names), strict=True)
    ]


def _build_request_answer(
    place: int, version: str, kind: str, label: str | None, messages: str | None, output: str | None
) -> ServedAnswer:
    if label is not None or kind in ("labels", "decision"):
        return ServedAnswer(place, version, None, ANSWER_IS_LABEL)
    if kind != "chat":
        return ServedAnswer(place, version, None, NO_CHAT)
    if messages is None or output is None:
        return ServedAnswer(place, version, None, NO_TEXT)
    turns = [_parse_message(turn) for turn in json.loads(messages)]
    asked = [turn for turn in turns if turn is not None]
    if not asked or len(asked) < len(turns):
        return ServedAnswer(place, version, None, NOT_TEXT)
    return ServedAnswer(place, version, [*asked, _build_answer(output)])


def _parse_message(turn: Any) -> Message | None:
    """A turn as rows have it; None where it is more than a text, such as a picture or a call."""
    if not isinstance(turn, dict) or turn.get("tool_calls"):
        return None
    content = turn.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "\n".join(texts) if len(texts) == len(parts) else None
    return {"role": str(turn.get("role", "user")), "content": content} if isinstance(content, str) else None


def _build_answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def read_evaluation_answers(
    job: WorkerJob, evaluation_id: str, most: int, version: str
) -> list[ServedAnswer]:
    """The rows that an evaluation asked, each with the answer of its model."""
    folder = JobDir(job.home.jobs / evaluation_id)
    table = pq.read_table(folder.predictions).slice(0, most)
    outputs = table["prediction"].to_pylist()
    labelled = [value is not None for value in table["probability"].to_pylist()]
    try:
        fingerprint = (read_json(folder.config) or {}).get("dataset", {}).get("fingerprint", "")
        rows = dataset_files.load_rows(
            job.home, fingerprint, columns=["messages"], row_ids=table["row_id"].to_numpy()
        )
        conversations = rows["messages"].to_pylist()
    except (NotFoundError, KeyError):  # deleted since, or an evaluation of before rows had ids
        return [ServedAnswer(place, version, None, ROWS_GONE) for place in range(len(table))]
    return [
        _build_row_answer(place, version, messages, output, ANSWER_IS_LABEL if is_label else "")
        for place, (messages, output, is_label) in enumerate(
            zip(conversations, outputs, labelled, strict=True)
        )
    ]


def build_row_answers(rows: pa.Table, version: str) -> list[ServedAnswer]:
    """Rows of a data set, each with its own answer."""
    return [
        _build_row_answer(place, version, messages, None, "")
        for place, messages in enumerate(rows["messages"].to_pylist())
    ]


def _build_row_answer(
    place: int, version: str, messages: list[Message] | None, output: str | None, why: str
) -> ServedAnswer:
    """The row up to its last answer, which is `output` where that is given."""
    turns = messages or []
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    answer = output if output is not None else turns[last]["content"] if last < len(turns) else None
    if why or answer is None or not last:
        return ServedAnswer(place, version, None, why or NO_ANSWER)
    return ServedAnswer(place, version, [*turns[:last], _build_answer(answer)])


# Perplexity of served answers under their base: which answers are measured, and what is said of the others.
#
# A look measures MAX_ANSWERS at most, drawn by a number of their place alone: what an answer is like has no
# part in it, so that the tests stay valid. Bases are loaded one at a time, those of most answers first.

MAX_BASES = 2
TOO_MANY_BASES = f"of a look {MAX_BASES} bases are loaded, and this answer has another"


@dataclass(frozen=True)
class ScoredAnswers:
    """nats: of a token of each answer, None where `reasons` has why, at the same place. cut: of the measured.
    loading, seconds: until the base was there, and for all answers."""

    nats: list[float | None]
    reasons: list[str]
    cut: int
    loading: float
    seconds: float


class BaseModels(Protocol):
    """Finds bases and asks them."""

    def find(self, base: ServedBase) -> str:
        """What tells this base from others. Raises TunebenchError where it is not there."""
        ...

    def score(self, key: str, conversations: Sequence[list[Message]]) -> ScoredAnswers:
        """How likely the last turn of each is. Raises TunebenchError where the base can't be loaded."""
        ...


class BaseLosses(NamedTuple):
    """nats: of a token of each answer, None where it wasn't measured."""

    nats: list[float | None]
    look: BaseMeasurement

    @property
    def why(self) -> str:
        """That no answer could be measured; empty where one was."""
        if self.look.measured:
            return ""
        reason = max(self.look.reasons, key=lambda each: self.look.reasons[each], default="no answer")
        return (
            f"No answer of the reference can be measured: {reason.rstrip('.')}. To try again, take it out of"
            " what is watched, save, and put it back."
        )


def measure_answers(
    answers: Sequence[ServedAnswer],
    bases: Mapping[str, ServedBase],
    models: BaseModels,
    most: int = MAX_ANSWERS,
) -> BaseLosses:
    """Of answers in any order."""
    reasons: Counter[str] = Counter()
    asked, keys = _match_bases(answers, bases, models, reasons)
    common = [key for key, _ in Counter(keys[i] for i in asked).most_common()]
    reasons[TOO_MANY_BASES] += sum(keys[i] not in common[:MAX_BASES] for i in asked)
    asked = [i for i in asked if keys[i] in common[:MAX_BASES]]
    drawn = sorted(asked, key=lambda i: float(np.random.default_rng(answers[i].place).random()))[:most]
    nats: list[float | None] = [None] * len(answers)
    cut, loading, seconds = 0, 0.0, 0.0
    for key in common[:MAX_BASES]:
        mine = [i for i in drawn if keys[i] == key]
        if not mine:
            continue
        try:
            scored = models.score(key, [answers[i].messages or [] for i in mine])
        except TunebenchError as error:
            reasons[error.message] += len(mine)
            continue
        for i, value in zip(mine, scored.nats, strict=True):
            nats[i] = value
        reasons.update(reason for reason in scored.reasons if reason)
        cut, loading, seconds = cut + scored.cut, loading + scored.loading, seconds + scored.seconds
    measured = sum(value is not None for value in nats)
    look = BaseMeasurement(
        measured=measured, left_out=len(asked) - len(drawn), cut=cut,
        reasons={reason: n for reason, n in reasons.most_common() if n},
        seconds=seconds / max(1, measured), loading=loading,
    )  # fmt: skip
    return BaseLosses(nats, look)


def _match_bases(
    answers: Sequence[ServedAnswer],
    bases: Mapping[str, ServedBase],
    models: BaseModels,
    reasons: Counter[str],
) -> tuple[list[int], dict[int, str]]:
    """Which answers can be measured, and under which base each; why the others can't goes into `reasons`."""
    by_version: dict[str, str] = {}
    lacking: dict[str, str] = {}
    keys: dict[int, str] = {}
    for i, answer in enumerate(answers):
        version = answer.version
        if answer.messages is None:
            reasons[answer.why] += 1
            continue
        if version not in by_version and version not in lacking:
            try:
                by_version[version] = models.find(bases[version])
            except TunebenchError as error:
                lacking[version] = error.message
        if version in lacking:
            reasons[lacking[version]] += 1
        else:
            keys[i] = by_version[version]
    return list(keys), keys
