"""What people said of texts as rows for other tools: several labels, and spans. No data set holds a list of
labels or of spans, as no run trains on them here, so that they are lines of JSON.

A label is kept that more than half of a text's raters gave. Of spans each rater's are a row of their own:
where people part, which of them is right is not for this file to say.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from engine.diagnostics.rating.raters.flagged import count_ratings, rater_checks
from engine.diagnostics.rating.rows.judged_text import judged_text, last_asked
from engine.diagnostics.rating.rows.of_round import answer_of, rater_names
from engine.rounds.training_rows import RoundRows
from store.contract.errors import StateError
from store.documents.rating.round import COUNTING, DealtTask, RatingsCounted, Round, RoundItem


def text_rows(
    round: Round,
    tasks: Sequence[DealtTask],
    items: Iterable[RoundItem],
    by_hand: Collection[str] = (),
    *,
    agreement: float = 0.5,
    least_votes: int = 1,
    include_flagged: bool = False,
) -> tuple[RoundRows, RatingsCounted]:
    """The rows of a round of several labels or of spans, and whose ratings they rest on. by_hand: ids of
    raters whom somebody left out. Raises StateError for any other round."""
    listed = list(items)
    by_id = {item["item_id"]: item for item in listed}
    counted = count_ratings(rater_checks(round, tasks, listed), by_hand, include_flagged=include_flagged)
    left_out = {each["person_id"] for each in counted["left_out"]}
    counting = [task for task in tasks if task["purpose"] in COUNTING and task["person_id"] not in left_out]
    if round["protocol"] == "spans":
        return RoundRows(list(_marked(round, counting, by_id)), Counter[str]()), counted
    if round["config"].get("several_labels"):
        labels = round["config"].get("labels", [])
        made = _label_set_rows(labels, counting, by_id, agreement=agreement, least_votes=least_votes)
        return made, counted
    raise StateError(
        f"{round['name']} has neither several labels nor spans.",
        fix="Make a data set of it, which runs train on.",
    )


def json_lines(rows: RoundRows) -> str:
    """The rows as a file, a line each."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.rows)


def is_text_round(round: Round) -> bool:
    """Whether its rows are lines of JSON rather than a data set."""
    return round["protocol"] == "spans" or bool(round["config"].get("several_labels"))


def _label_set_rows(
    labels: Sequence[str],
    tasks: Sequence[DealtTask],
    items: Mapping[int, RoundItem],
    *,
    agreement: float,
    least_votes: int,
) -> RoundRows:
    """agreement: share of a text's raters that say the same of each label, at least so high, above half."""
    names = rater_names(tasks)
    given: dict[int, list[DealtTask]] = defaultdict(list)
    for task in tasks:
        if "labels" in answer_of(task):
            given[task["item_id"]].append(task)
    rows, reasons = [], Counter[str]()
    for item_id, votes in sorted(given.items()):
        counts = Counter(label for task in votes for label in answer_of(task)["labels"])
        share = min((max(count, len(votes) - count) / len(votes) for count in counts.values()), default=1.0)
        kept = [label for label in labels if 2 * counts[label] > len(votes)]
        text = last_asked(items[item_id]["prompt"])
        if len(votes) < least_votes:
            reasons[f"fewer than {least_votes} votes"] += 1
        elif share <= 0.5 or share < agreement:
            reasons["too little agreement"] += 1
        elif not kept:
            reasons["none of the labels fits"] += 1
        elif not text.strip():
            reasons["its text is empty"] += 1
        else:
            raters = sorted({names[task["person_id"]] for task in votes})
            rows.append(
                {"text": text, "labels": kept, "item_id": item_id, "agreement": round(share, 4),
                 "votes": len(votes), "raters": raters}
            )  # fmt: skip
    return RoundRows(rows, reasons)


def _marked(
    round: Round, tasks: Sequence[DealtTask], items: Mapping[int, RoundItem]
) -> Iterator[dict[str, object]]:
    names = rater_names(tasks)
    for task in tasks:
        answer = answer_of(task)
        if "spans" in answer:
            text = judged_text(
                round["config"].get("subject", "answer"), items[task["item_id"]], task["systems"]
            )
            spans = [{**span, "text": text[span["start"] : span["end"]]} for span in answer["spans"]]
            yield {
                "text": text,
                "spans": spans,
                "item_id": task["item_id"],
                "rater": names[task["person_id"]],
            }
