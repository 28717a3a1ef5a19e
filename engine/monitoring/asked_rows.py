"""Questions and answers to be measured, wherever they come from: a log, an evaluation, a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.deal import dealing, split
from engine.rows import dataset
from engine.worker.job import WorkerJob
from store.config.training.train_config import Split
from store.contract.errors import DataError
from store.contract.jobdir import JobDir

PARTS = ("test", "validation")  # those that a model hasn't trained on, in the order in which they are taken


@dataclass(frozen=True)
class AskedRequests:
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


def of_log(requests: pa.Table) -> AskedRequests:
    """Of the columns of table `request`."""
    column = {name: requests[name].to_pylist() for name in requests.column_names}
    return AskedRequests(
        [_last_input(messages) for messages in column["messages"]],
        column["input_characters"],
        column["output"],
        column["output_characters"],
        column["label"],
        column["confidence"],
        column["mean_logprob"],
    )


def _last_input(messages: str | None) -> str | None:
    """The text of the last message that isn't the model's; of several parts, those that are text."""
    if messages is None:
        return None
    turns = [turn for turn in json.loads(messages) if isinstance(turn, dict)]
    asked = [turn for turn in turns if turn.get("role", "user") == "user"] or turns
    return _text_of(asked[-1].get("content")) if asked else None


def _text_of(content: Any) -> str | None:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def of_evaluation(job: WorkerJob, evaluation_id: str, most: int) -> AskedRequests:
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
    return AskedRequests(
        table["prompt"].to_pylist(),
        _lengths(table["prompt"].to_pylist()),
        answers,
        _lengths(answers),
        [answer if is_label else None for answer, is_label in zip(answers, labelled, strict=True)],
        table["probability"].to_pylist(),
        [None] * len(table),
    )


def of_dataset(job: WorkerJob, most: int) -> AskedRequests:
    """Held-out rows of a data set: what is asked in them. Its answers are people's and no model's, so that
    there are none. Raises DataError for a data set without held-out rows."""
    rows = held_out(job, most)
    inputs = [_asked_in(row) for row in rows.to_pylist()]
    nothing: list[Any] = [None] * len(inputs)
    return AskedRequests(inputs, _lengths(inputs), nothing, nothing, nothing, nothing, nothing)


def held_out(job: WorkerJob, most: int) -> pa.Table:
    """messages, text and label of so many held-out rows, the same ones each time. Raises DataError."""
    fingerprint = job.order["dataset"]["fingerprint"]
    dealt = dealing.deal_rows(job.home, fingerprint, Split.parse(job.order["split"])).ids()
    ids = next((dealt[part] for part in PARTS if len(dealt[part])), None)
    if ids is None:
        raise DataError(
            "The data set has no held-out rows.",
            fix="Give it a test part, or choose another reference.",
            field="dataset",
        )
    columns = ["digest", "messages", "text", "label"]
    table = dataset.load(job.home, fingerprint, columns=columns)
    ids = split.first_by_hash(table["digest"].to_numpy(), ids, most, 0) if len(ids) > most else ids
    return table.select(columns[1:]).take(pa.array(ids))


def _asked_in(row: dict[str, Any]) -> str | None:
    """The last question of a conversation; of a labelled text without one the text."""
    asked = [turn["content"] for turn in row["messages"] or () if turn["role"] == "user"]
    text: str | None = asked[-1] if asked else row["text"]
    return text


def _lengths(texts: list[str | None]) -> list[int | None]:
    return [None if text is None else len(text) for text in texts]
