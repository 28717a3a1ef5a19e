"""Answers with the conversation that they end, as a model beneath them can be asked how likely they are.

What can't be asked keeps its place and says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.rows import dataset
from engine.worker.job import WorkerJob
from store.contract.errors import NotFoundError
from store.contract.jobdir import JobDir, read_json
from store.documents.data.row import Message

NO_TEXT = "their texts are not kept"
LABEL = "the answer is a label"
NO_CHAT = "they were not asked in a chat"
NOT_TEXT = "their messages hold more than text"
NO_ANSWER = "the row has no answer"
GONE = "the rows of the evaluation are gone"


@dataclass(frozen=True)
class ServedAnswer:
    """place: of the request in its log, or of the row. messages: the answer is the last one; None: `why`."""

    place: int
    version: str
    messages: list[Message] | None
    why: str = ""


def of_log(requests: pa.Table) -> list[ServedAnswer]:
    """Of the columns of table `request`."""
    names = ("place", "version", "kind", "label", "messages", "output")
    return [_of_request(*row) for row in zip(*(requests[name].to_pylist() for name in names), strict=True)]


def _of_request(
    place: int, version: str, kind: str, label: str | None, messages: str | None, output: str | None
) -> ServedAnswer:
    if label is not None or kind in ("labels", "decision"):
        return ServedAnswer(place, version, None, LABEL)
    if kind != "chat":
        return ServedAnswer(place, version, None, NO_CHAT)
    if messages is None or output is None:
        return ServedAnswer(place, version, None, NO_TEXT)
    turns = [_message(turn) for turn in json.loads(messages)]
    asked = [turn for turn in turns if turn is not None]
    if not asked or len(asked) < len(turns):
        return ServedAnswer(place, version, None, NOT_TEXT)
    return ServedAnswer(place, version, [*asked, _answer(output)])


def _message(turn: Any) -> Message | None:
    """A turn as rows have it; None where it is more than a text, such as a picture or a call."""
    if not isinstance(turn, dict) or turn.get("tool_calls"):
        return None
    content = turn.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "\n".join(texts) if len(texts) == len(parts) else None
    return {"role": str(turn.get("role", "user")), "content": content} if isinstance(content, str) else None


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def of_evaluation(job: WorkerJob, evaluation_id: str, most: int, version: str) -> list[ServedAnswer]:
    """The rows that an evaluation asked, each with the answer of its model."""
    folder = JobDir(job.home.jobs / evaluation_id)
    table = pq.read_table(folder.predictions).slice(0, most)
    outputs = table["prediction"].to_pylist()
    labelled = [value is not None for value in table["probability"].to_pylist()]
    try:
        fingerprint = (read_json(folder.config) or {}).get("dataset", {}).get("fingerprint", "")
        rows = dataset.load(job.home, fingerprint, columns=["messages"], row_ids=table["row_id"].to_numpy())
        conversations = rows["messages"].to_pylist()
    except (NotFoundError, KeyError):  # deleted since, or an evaluation of before rows had ids
        return [ServedAnswer(place, version, None, GONE) for place in range(len(table))]
    return [
        _of_row(place, version, messages, output, LABEL if is_label else "")
        for place, (messages, output, is_label) in enumerate(
            zip(conversations, outputs, labelled, strict=True)
        )
    ]


def of_rows(rows: pa.Table, version: str) -> list[ServedAnswer]:
    """Rows of a data set, each with its own answer."""
    return [
        _of_row(place, version, messages, None, "")
        for place, messages in enumerate(rows["messages"].to_pylist())
    ]


def _of_row(
    place: int, version: str, messages: list[Message] | None, output: str | None, why: str
) -> ServedAnswer:
    """The row up to its last answer, which is `output` where that is given."""
    turns = messages or []
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    answer = output if output is not None else turns[last]["content"] if last < len(turns) else None
    if why or answer is None or not last:
        return ServedAnswer(place, version, None, why or NO_ANSWER)
    return ServedAnswer(place, version, [*turns[:last], _answer(answer)])
