"""All ratings of a round as one table, a row a rating: what was shown, who said what of it, and when.

Each field of an answer has a column of its own: scores one for each criterion, ranks one for each place at
which an answer was shown. Lists (labels, reasons, spans) are JSON, so that they are the same in CSV and in
Parquet. Items by which raters are checked name no model, as theirs are no model's answers. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.diagnostics.rating.rows.of_round import answer_of, rater_names, system_names
from store.documents.rating.round import DealtTask, Round, RoundItem

LISTS = ("labels", "reasons", "spans")  # fields of answers that are written as JSON
TYPES: Mapping[str, pa.DataType] = {"preference": pa.float64(), "passed": pa.bool_(), "skipped": pa.bool_()}
AT = pa.timestamp("us")


def rating_table(
    round: Round, tasks: Sequence[DealtTask], items: Sequence[RoundItem], left_out: Collection[str] = ()
) -> pa.Table:
    """Rated and skipped tasks, in their order. left_out: ids of raters who don't count, whose rows say so."""
    rated = [task for task in tasks if task["answer"]]
    by_id, names, raters = {item["item_id"]: item for item in items}, system_names(round), rater_names(tasks)
    width = max((len(task["systems"]) for task in rated), default=0)

    def of_item(read: Callable[[RoundItem], Any]) -> list[Any]:
        return [read(by_id[task["item_id"]]) for task in rated]

    def of_task(read: Callable[[DealtTask], Any]) -> list[Any]:
        return [read(task) for task in rated]

    columns: dict[str, pa.Array] = {
        "round": pa.array([round["name"]] * len(rated), pa.string()),
        "round_id": pa.array([round["round_id"]] * len(rated), pa.string()),
        "protocol": pa.array([round["protocol"]] * len(rated), pa.string()),
        "task_id": pa.array(of_task(lambda task: task["task_id"]), pa.string()),
        "item_id": pa.array(of_task(lambda task: task["item_id"]), pa.int64()),
        "row_id": pa.array(of_item(lambda item: item["row_id"]), pa.int64()),
        "prompt": pa.array(of_item(_prompt), pa.string()),
        "reference": pa.array(of_item(lambda item: item["reference"]), pa.string()),
    }
    for place in range(width):
        systems = [task["systems"][place] if place < len(task["systems"]) else None for task in rated]
        columns[f"system_{_letter(place)}"] = pa.array(
            [
                None if system is None or by_id[task["item_id"]]["check"] else names[system]
                for task, system in zip(rated, systems, strict=True)
            ],
            pa.string(),
        )
        columns[f"answer_{_letter(place)}"] = pa.array(
            [
                None if system is None else by_id[task["item_id"]]["answers"][system]
                for task, system in zip(rated, systems, strict=True)
            ],
            pa.string(),
        )
    columns["rater"] = pa.array(of_task(lambda task: raters[task["person_id"]]), pa.string())
    columns |= _answers(round, rated, width)
    columns |= {
        "comment": pa.array(of_task(lambda task: task["comment"] or ""), pa.string()),
        "seconds": pa.array(of_task(lambda task: task["seconds"]), pa.float64(), from_pandas=True),
        "purpose": pa.array(of_task(lambda task: task["purpose"]), pa.string()),
        "repeat_of": pa.array(of_task(lambda task: task["repeat_of"]), pa.string()),
        "revision": pa.array(of_task(lambda task: task["revision"]), pa.int64()),
        "rated_at": pa.array(of_task(lambda task: task["rated_at"]), AT),
        "left_out": pa.array(of_task(lambda task: task["person_id"] in left_out), pa.bool_()),
    }
    return pa.table(columns)


def _answers(round: Round, rated: Sequence[DealtTask], width: int) -> dict[str, pa.Array]:
    """A column for each field that answers have, in the order in which they come up."""
    rows: list[dict[str, Any]] = []
    for task in rated:
        row: dict[str, Any] = {}
        for field, value in answer_of(task).items():
            if field == "scores":
                row |= {f"score: {name}": score for name, score in value.items()}
            elif field == "ranks":
                row |= {f"rank_{_letter(place)}": rank for place, rank in enumerate(value)}
            else:
                row[field] = json.dumps(value, ensure_ascii=False) if field in LISTS else value
        rows.append(row)
    expected = [f"rank_{_letter(place)}" for place in range(width)] if round["protocol"] == "rank" else []
    fields = dict.fromkeys([*expected, *(field for row in rows for field in row)])
    return {field: pa.array([row.get(field) for row in rows], _type(field)) for field in fields}


def _type(field: str) -> pa.DataType:
    return TYPES.get(field, pa.int64() if field.startswith(("score: ", "rank_")) else pa.string())


def _prompt(item: RoundItem) -> str:
    """What was asked; of a conversation all turns, each with its role."""
    turns = item["prompt"]
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _letter(place: int) -> str:
    return chr(ord("a") + place)
