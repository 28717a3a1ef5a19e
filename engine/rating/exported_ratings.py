"""Export ratings for other tools: a round's ratings as a table, and labels and spans of texts as JSON lines.

A label is kept if more than half of a text's raters gave it; spans have one row per rater. Check items
name no model, as their answers are no model's.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.rating.analysis.rater_checks import compute_rater_checks, count_ratings
from engine.rating.analysis.round_ratings import assign_rater_names, get_task_answer, list_system_names
from engine.rating.training_rows import RoundRows, find_judged_text, find_last_question
from store.core.errors import StateError
from store.core.rating_schemas import COUNTING, AssignedTask, RatingCounts, Round, RoundItem

# The table has one row per rating. Each answer field has its own column: one per criterion for scores, one
# per position of an answer for ranks. Lists (labels, reasons, spans) are JSON, so that they are the same in
# CSV and Parquet.

LIST_FIELDS = ("labels", "reasons", "spans")  # answer fields that are written as JSON
FIELD_TYPES: Mapping[str, pa.DataType] = {
    "preference": pa.float64(),
    "passed": pa.bool_(),
    "skipped": pa.bool_(),
}
TIMESTAMP_TYPE = pa.timestamp("us")


def build_rating_table(
    round: Round, tasks: Sequence[AssignedTask], items: Sequence[RoundItem], left_out: Collection[str] = ()
) -> pa.Table:
    """Return rated and skipped tasks, in order; `left_out` are ids of excluded raters, whose rows
    are marked.
    """
    rated = [task for task in tasks if task.answer]
    by_id, names, raters = (
        {item.item_id: item for item in items},
        list_system_names(round),
        assign_rater_names(tasks),
    )
    width = max((len(task.systems) for task in rated), default=0)

    def of_item(read: Callable[[RoundItem], Any]) -> list[Any]:
        return [read(by_id[task.item_id]) for task in rated]

    def of_task(read: Callable[[AssignedTask], Any]) -> list[Any]:
        return [read(task) for task in rated]

    columns: dict[str, pa.Array] = {
        "round": pa.array([round.name] * len(rated), pa.string()),
        "round_id": pa.array([round.round_id] * len(rated), pa.string()),
        "protocol": pa.array([round.protocol] * len(rated), pa.string()),
        "task_id": pa.array(of_task(lambda task: task.task_id), pa.string()),
        "item_id": pa.array(of_task(lambda task: task.item_id), pa.int64()),
        "row_id": pa.array(of_item(lambda item: item.row_id), pa.int64()),
        "prompt": pa.array(of_item(_format_prompt), pa.string()),
        "reference": pa.array(of_item(lambda item: item.reference), pa.string()),
    }
    for place in range(width):
        systems = [task.systems[place] if place < len(task.systems) else None for task in rated]
        columns[f"system_{_format_letter(place)}"] = pa.array(
            [
                None if system is None or by_id[task.item_id].check else names[system]
                for task, system in zip(rated, systems, strict=True)
            ],
            pa.string(),
        )
        columns[f"answer_{_format_letter(place)}"] = pa.array(
            [
                None if system is None else by_id[task.item_id].answers[system]
                for task, system in zip(rated, systems, strict=True)
            ],
            pa.string(),
        )
    columns["rater"] = pa.array(of_task(lambda task: raters[task.person_id]), pa.string())
    columns |= _build_answer_columns(round, rated, width)
    columns |= {
        "comment": pa.array(of_task(lambda task: task.comment or ""), pa.string()),
        "seconds": pa.array(of_task(lambda task: task.seconds), pa.float64(), from_pandas=True),
        "purpose": pa.array(of_task(lambda task: task.purpose), pa.string()),
        "repeat_of": pa.array(of_task(lambda task: task.repeat_of), pa.string()),
        "revision": pa.array(of_task(lambda task: task.revision), pa.int64()),
        "rated_at": pa.array(of_task(lambda task: task.rated_at), TIMESTAMP_TYPE),
        "left_out": pa.array(of_task(lambda task: task.person_id in left_out), pa.bool_()),
    }
    return pa.table(columns)


def _build_answer_columns(round: Round, rated: Sequence[AssignedTask], width: int) -> dict[str, pa.Array]:
    """Return one column per answer field, in order of first occurrence."""
    rows: list[dict[str, object]] = []
    for task in rated:
        row: dict[str, Any] = {}
        for field, value in get_task_answer(task).items():
            if field == "scores":
                row |= {f"score: {name}": score for name, score in value.items()}
            elif field == "ranks":
                row |= {f"rank_{_format_letter(place)}": rank for place, rank in enumerate(value)}
            else:
                row[field] = json.dumps(value, ensure_ascii=False) if field in LIST_FIELDS else value
        rows.append(row)
    expected = [f"rank_{_format_letter(place)}" for place in range(width)] if round.protocol == "rank" else []
    fields = dict.fromkeys([*expected, *(field for row in rows for field in row)])
    columns = {}
    for field in fields:
        default = pa.int64() if field.startswith(("score: ", "rank_")) else pa.string()
        columns[field] = pa.array([row.get(field) for row in rows], FIELD_TYPES.get(field, default))
    return columns


def _format_prompt(item: RoundItem) -> str:
    """Return the prompt's text; a conversation has all turns, each with its role."""
    turns = item.prompt
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _format_letter(place: int) -> str:
    return chr(ord("a") + place)


# Several labels and spans are exported as JSON lines: data sets have no lists of labels or spans, as training
# doesn't support them. Spans have one row per rater, as this export doesn't decide who is right where raters
# disagree.


def build_text_rows(
    round: Round,
    tasks: Sequence[AssignedTask],
    items: Iterable[RoundItem],
    by_hand: Collection[str] = (),
    *,
    agreement: float = 0.5,
    least_votes: int = 1,
    include_flagged: bool = False,
) -> tuple[RoundRows, RatingCounts]:
    """Return the rows of a round of several labels or spans, and the ratings they are based on.

    `by_hand` are ids of raters excluded by hand. Raises StateError for any other round.
    """
    listed = list(items)
    by_id = {item.item_id: item for item in listed}
    counted = count_ratings(
        compute_rater_checks(round, tasks, listed), by_hand, include_flagged=include_flagged
    )
    left_out = {each["person_id"] for each in counted["left_out"]}
    counting = [task for task in tasks if task.purpose in COUNTING and task.person_id not in left_out]
    if round.protocol == "spans":
        return RoundRows(list(_list_span_rows(round, counting, by_id)), Counter[str]()), counted
    if round.config.get("several_labels"):
        labels = round.config.get("labels", [])
        made = _build_label_set_rows(labels, counting, by_id, agreement=agreement, least_votes=least_votes)
        return made, counted
    raise StateError(
        f"{round.name} has neither several labels nor spans.",
        fix="Create a data set from it instead.",
    )


def format_json_lines(rows: RoundRows) -> str:
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.rows)


def is_text_round(round: Round) -> bool:
    """Return whether the round's rows are JSON lines rather than a data set."""
    return round.protocol == "spans" or bool(round.config.get("several_labels"))


def _build_label_set_rows(
    labels: Sequence[str],
    tasks: Sequence[AssignedTask],
    items: Mapping[int, RoundItem],
    *,
    agreement: float,
    least_votes: int,
) -> RoundRows:
    """Return the label set of each text.

    `agreement` is the minimum share of a text's raters who agree on each label; it must also be above
    half.
    """
    names = assign_rater_names(tasks)
    given: dict[int, list[AssignedTask]] = defaultdict(list)
    for task in tasks:
        if "labels" in get_task_answer(task):
            given[task.item_id].append(task)
    rows, reasons = [], Counter[str]()
    for item_id, votes in sorted(given.items()):
        counts = Counter(label for task in votes for label in get_task_answer(task)["labels"])
        share = min((max(count, len(votes) - count) / len(votes) for count in counts.values()), default=1.0)
        kept = [label for label in labels if 2 * counts[label] > len(votes)]
        text = find_last_question(items[item_id].prompt)
        if len(votes) < least_votes:
            reasons[f"fewer than {least_votes} votes"] += 1
        elif share <= 0.5 or share < agreement:
            reasons["too little agreement"] += 1
        elif not kept:
            reasons["none of the labels fits"] += 1
        elif not text.strip():
            reasons["its text is empty"] += 1
        else:
            raters = sorted({names[task.person_id] for task in votes})
            rows.append(
                {"text": text, "labels": kept, "item_id": item_id, "agreement": round(share, 4),
                 "votes": len(votes), "raters": raters}
            )  # fmt: skip
    return RoundRows(rows, reasons)


def _list_span_rows(
    round: Round, tasks: Sequence[AssignedTask], items: Mapping[int, RoundItem]
) -> Iterator[dict[str, object]]:
    names = assign_rater_names(tasks)
    for task in tasks:
        answer = get_task_answer(task)
        if "spans" in answer:
            text = find_judged_text(round.config.get("subject", "answer"), items[task.item_id], task.systems)
            spans = [{**span, "text": text[span["start"] : span["end"]]} for span in answer["spans"]]
            yield {
                "text": text,
                "spans": spans,
                "item_id": task.item_id,
                "rater": names[task.person_id],
            }
