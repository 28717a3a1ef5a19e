"""Prompts and responses to measure, from a log, an evaluation or a data set, and which responses are scored
under their base model.

At most MAX_ANSWERS responses are scored per check, sampled by place only, so that the tests stay valid. A
response that cannot be scored keeps its place, with a reason.
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

PARTS = ("test", "validation")  # parts without training rows, in order of preference


@dataclass(frozen=True)
class MeasuredRequests:
    """One entry per row; null if missing. inputs: text of the last user message."""

    inputs: list[str | None]
    input_characters: list[int | None]
    outputs: list[str | None]
    output_characters: list[int | None]
    labels: list[str | None]
    confidences: list[float | None]  # of the label
    logprobs: list[float | None]  # mean per token

    def __len__(self) -> int:
        return len(self.inputs)


def read_logged_requests(requests: pa.Table) -> MeasuredRequests:
    """From columns of table `request`."""
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
    """The text of the last message that is not the model's; only text parts."""
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
    """Rows of an evaluation with its responses. Raises DataError if they were deleted."""
    path = JobDir(job.home.jobs / evaluation_id).predictions
    if not path.exists():
        raise DataError(
            "The evaluation's responses have been deleted.",
            fix="Run the evaluation again and select the new one.",
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
    """Prompts of held-out rows of a data set. Their responses are not a model's, so they are left out. Raises
    DataError for a data set without held-out rows."""
    rows = read_held_out_rows(job, most)
    inputs = [_extract_question(row) for row in rows.to_pylist()]
    nothing: list[Any] = [None] * len(inputs)
    return MeasuredRequests(inputs, _measure_lengths(inputs), nothing, nothing, nothing, nothing, nothing)


def read_held_out_rows(job: WorkerJob, most: int) -> pa.Table:
    """messages, text and label of a fixed sample of held-out rows. Raises DataError."""
    fingerprint = job.spec["dataset"]["fingerprint"]
    dealt = dataset_split.assign_rows_unchecked(job.home, fingerprint, Split.parse(job.spec["split"])).ids()
    ids = next((dealt[part] for part in PARTS if len(dealt[part])), None)
    if ids is None:
        raise DataError(
            "The data set has no held-out rows.",
            fix="Add a test split, or select another reference.",
            field="dataset",
        )
    columns = ["digest", "messages", "text", "label"]
    table = dataset_files.load_rows(job.home, fingerprint, columns=columns)
    ids = partition.select_by_hash(table["digest"].to_numpy(), ids, most, 0) if len(ids) > most else ids
    return table.select(columns[1:]).take(pa.array(ids))


def _extract_question(row: dict[str, Any]) -> str | None:
    """The last user message of a conversation, or the text of a labeled text."""
    asked = [turn["content"] for turn in row["messages"] or () if turn["role"] == "user"]
    text: str | None = asked[-1] if asked else row["text"]
    return text


def _measure_lengths(texts: list[str | None]) -> list[int | None]:
    return [None if text is None else len(text) for text in texts]


NO_TEXT = "text not stored"
ANSWER_IS_LABEL = "response is a label"
NO_CHAT = "not a chat request"
NOT_TEXT = "messages with non-text content"
NO_ANSWER = "row without a response"
ROWS_GONE = "evaluation rows deleted"


@dataclass(frozen=True)
class ServedAnswer:
    """place: of the request in its log, or of the row. messages: ending with the response; None with a reason
    `why`."""

    place: int
    version: str
    messages: list[Message] | None
    why: str = ""


def read_logged_answers(requests: pa.Table) -> list[ServedAnswer]:
    """From columns of table `request`."""
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
    """A message in row format; None if it contains more than text, such as an image or a call."""
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
    """Rows of an evaluation, each with the response of its model."""
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
    except (NotFoundError, KeyError):  # deleted, or an old evaluation without row ids
        return [ServedAnswer(place, version, None, ROWS_GONE) for place in range(len(table))]
    return [
        _build_row_answer(place, version, messages, output, ANSWER_IS_LABEL if is_label else "")
        for place, (messages, output, is_label) in enumerate(
            zip(conversations, outputs, labelled, strict=True)
        )
    ]


def build_row_answers(rows: pa.Table, version: str) -> list[ServedAnswer]:
    """Rows of a data set, each with its own response."""
    return [
        _build_row_answer(place, version, messages, None, "")
        for place, messages in enumerate(rows["messages"].to_pylist())
    ]


def _build_row_answer(
    place: int, version: str, messages: list[Message] | None, output: str | None, why: str
) -> ServedAnswer:
    """The row up to its last response, which `output` replaces if given."""
    turns = messages or []
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    answer = output if output is not None else turns[last]["content"] if last < len(turns) else None
    if why or answer is None or not last:
        return ServedAnswer(place, version, None, why or NO_ANSWER)
    return ServedAnswer(place, version, [*turns[:last], _build_answer(answer)])


# Perplexity of responses under their base model: which responses are scored, and why others are not.
#
# At most MAX_ANSWERS responses are scored per check, sampled by place only: their content must not affect the
# selection, so that the tests stay valid. Base models are loaded one at a time, those with the most responses
# first.

MAX_BASES = 2
TOO_MANY_BASES = f"other base model (a check loads at most {MAX_BASES})"


@dataclass(frozen=True)
class ScoredAnswers:
    """nats: per token of each response, None with a reason in `reasons` at the same place. cut: truncated
    ones among the scored. loading, seconds: time to load the model, and to score all responses."""

    nats: list[float | None]
    reasons: list[str]
    cut: int
    loading: float
    seconds: float


class BaseModels(Protocol):
    """Finds and runs base models."""

    def find(self, base: ServedBase) -> str:
        """A key of the base model. Raises TunebenchError if it does not exist."""
        ...

    def score(self, key: str, conversations: Sequence[list[Message]]) -> ScoredAnswers:
        """The likelihood of the last turn of each. Raises TunebenchError if the base model cannot be
        loaded."""
        ...


class BaseLosses(NamedTuple):
    """nats: per token of each response, None if not scored."""

    nats: list[float | None]
    look: BaseMeasurement

    @property
    def why(self) -> str:
        """Why no response could be scored; empty if one was."""
        if self.look.measured:
            return ""
        reason = max(self.look.reasons, key=lambda each: self.look.reasons[each], default="no responses")
        return (
            f"No response of the reference can be scored: {reason.rstrip('.')}. To retry, remove it from the"
            " monitored values, save, and add it again."
        )


def measure_answers(
    answers: Sequence[ServedAnswer],
    bases: Mapping[str, ServedBase],
    models: BaseModels,
    most: int = MAX_ANSWERS,
) -> BaseLosses:
    """Score responses in any order."""
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
    """Which responses can be scored, and their base models. Reasons of the others are added to `reasons`."""
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
