"""Build training rows from a round's ratings, and find the text that a rating is about.

A preference row is a pair of answers to one prompt of which one got more votes than all other outcomes
together; a label row has a label that more people gave than all others together. What is left out is
counted. Light to import.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from store.core.rating_schemas import COUNTING, AssignedTask, PromptTurn, RatingSubject, Round, RoundItem


def find_last_question(prompt: Sequence[PromptTurn]) -> str:
    """Return the last user turn."""
    return next((turn["content"] for turn in prompt[::-1] if turn["role"] == "user"), "")


def find_judged_text(subject: RatingSubject, item: RoundItem, systems: Sequence[int]) -> str:
    """Return the text that was rated: the shown answer or the prompt; `systems` are those of the task."""
    return item.answers[systems[0]] or "" if subject == "answer" else find_last_question(item.prompt)


# Left out and counted are ties, pairs and texts with too little agreement or too few votes, and equal texts.

FURTHER_TURN = "\n\nUser: "  # separator in an imported answer with several turns
NOTE = "note"  # role of a placeholder turn for a prompt whose text is not in the file


class PairVote(NamedTuple):
    """One person's vote on two answers; `verdict` is the index of the better model, or tie or both_bad."""

    item_id: int
    pair: tuple[int, int]
    verdict: int | str
    rater: str
    order: tuple[int, ...]  # as shown to the rater


class RoundRows(NamedTuple):
    """Training rows, and the number of those left out by reason."""

    rows: list[dict[str, Any]]
    left_out: Counter[str]


def list_pair_votes(tasks: Iterable[AssignedTask], left_out: Collection[str] = ()) -> Iterator[PairVote]:
    """Yield the votes of a round of pairs or ranks, without those of excluded raters."""
    for task in tasks:
        answer: Mapping[str, Any] = task.answer or {"skipped": True}
        if "skipped" in answer or task.purpose not in COUNTING or task.person_id in left_out:
            continue
        order = tuple(task.systems)
        if "choice" in answer:
            verdict = {"A": order[0], "B": order[-1]}.get(answer["choice"], answer["choice"])
            pair = (min(order[0], order[-1]), max(order[0], order[-1]))
            yield PairVote(task.item_id, pair, verdict, task.person_name, order)
        elif "ranks" in answer:
            ranks = dict(zip(order, answer["ranks"], strict=True))
            for one_system, other in itertools.combinations(sorted(order), 2):
                better = min(one_system, other, key=ranks.__getitem__)
                tied = ranks[one_system] == ranks[other]
                verdict = "tie" if tied else better
                yield PairVote(task.item_id, (one_system, other), verdict, task.person_name, order)


def build_preference_rows(
    votes: Iterable[PairVote],
    items: Mapping[int, RoundItem],
    *,
    agreement: float,
    least_votes: int = 1,
) -> RoundRows:
    """Return rows with chosen and rejected conversations.

    `agreement` is the minimum share of a pair's votes for the chosen answer; it must also be above half.
    """
    by_pair: dict[tuple[int, tuple[int, int]], list[PairVote]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.item_id, vote.pair].append(vote)
    rows, left_out = [], Counter[str]()
    for (item_id, pair), cast_votes in sorted(by_pair.items()):
        item = items[item_id]
        better, count = Counter(vote.verdict for vote in cast_votes).most_common(1)[0]
        share = count / len(cast_votes)
        if len(cast_votes) < least_votes:
            left_out[f"fewer than {least_votes} votes"] += 1
        elif not isinstance(better, int):
            left_out["neither answer is preferred"] += 1
        elif share <= 0.5 or share < agreement:
            left_out["too little agreement"] += 1
        else:
            worse = pair[1] if better == pair[0] else pair[0]
            chosen, rejected = item.answers[better], item.answers[worse]
            if fault := _find_fault(item, chosen, rejected):
                left_out[fault] += 1
            else:
                rows.append(_build_preference(item, chosen or "", rejected or "", share, better, cast_votes))
    return RoundRows(rows, left_out)


def _find_fault(item: RoundItem, chosen: str | None, rejected: str | None) -> str:
    """Return why two answers can't be a training pair; an empty string if they can."""
    if any(turn["role"] == NOTE for turn in item.prompt):
        return "the prompt's text is not in the file"
    if chosen is None or rejected is None:
        return "an answer's text is not in the file"
    if chosen == rejected:
        return "both answers are the same"
    if not chosen.strip() or not rejected.strip():
        return "an answer is empty"
    return "an answer has several turns" if FURTHER_TURN in chosen + rejected else ""


def _build_preference(
    item: RoundItem, chosen: str, rejected: str, share: float, better: int, votes: Sequence[PairVote]
) -> dict[str, object]:
    asked = [dict(turn) for turn in item.prompt]
    return {
        "chosen": [*asked, {"role": "assistant", "content": chosen}],
        "rejected": [*asked, {"role": "assistant", "content": rejected}],
        "prompt_id": _find_prompt_id(item),
        "agreement": round(share, 4),
        "votes": len(votes),
        "raters": ", ".join(sorted({vote.rater for vote in votes})),
        "chosen_shown_first": sum(vote.order[0] == better for vote in votes),
    }


def build_correction_rows(
    tasks: Iterable[AssignedTask], items: Mapping[int, RoundItem], left_out: Collection[str] = ()
) -> RoundRows:
    """Return conversations that end with a corrected answer, without duplicates."""
    rows: list[dict[str, object]] = []
    reasons, seen = Counter[str](), set()
    for task in tasks:
        answer: Mapping[str, Any] = task.answer or {"skipped": True}
        if "text" not in answer or task.purpose not in COUNTING:
            continue
        if task.person_id in left_out:
            reasons["by an excluded rater"] += 1
            continue
        item = items[task.item_id]
        if (item.item_id, answer["text"]) in seen:
            reasons["duplicate correction"] += 1
            continue
        seen.add((item.item_id, answer["text"]))
        turns = [*(dict(turn) for turn in item.prompt), {"role": "assistant", "content": answer["text"]}]
        before = item.answers[task.systems[0]]
        rows.append(
            {
                "messages": turns,
                "prompt_id": _find_prompt_id(item),
                "rater": task.person_name,
                "changed": answer["text"] != before,
            }
        )
    return RoundRows(rows, reasons)


def build_label_rows(
    tasks: Iterable[AssignedTask],
    items: Mapping[int, RoundItem],
    left_out: Collection[str] = (),
    *,
    agreement: float = 0.5,
    least_votes: int = 1,
) -> RoundRows:
    """Return texts with their majority label.

    The text is the last user turn, which is what a classifier reads. `agreement` is the minimum share of
    people who gave the label; it must also be above half.
    """
    given: dict[int, list[tuple[str | None, str]]] = defaultdict(list)
    skipped: set[int] = set()
    for task in tasks:
        answer: Mapping[str, Any] = task.answer or {"skipped": True}
        if task.purpose not in COUNTING or task.person_id in left_out or task.answer is None:
            continue
        if "label" in answer:
            given[task.item_id].append((answer["label"], task.person_name))
        else:
            skipped.add(task.item_id)
    rows, reasons = [], Counter[str]()
    if only := skipped - set(given):
        reasons["skipped by every rater"] = len(only)
    for item_id, labels in sorted(given.items()):
        label, count = Counter(name for name, _ in labels).most_common(1)[0]
        share = count / len(labels)
        text = find_last_question(items[item_id].prompt)
        if len(labels) < least_votes:
            reasons[f"fewer than {least_votes} votes"] += 1
        elif share <= 0.5 or share < agreement:
            reasons["too little agreement"] += 1
        elif label is None:
            reasons["none of the labels fits"] += 1
        elif not text.strip():
            reasons["its text is empty"] += 1
        else:
            raters = ", ".join(sorted({name for _, name in labels}))
            rows.append(
                {"text": text, "label": label, "prompt_id": _find_prompt_id(items[item_id]),
                 "item_id": item_id, "agreement": round(share, 4), "votes": len(labels), "raters": raters}
            )  # fmt: skip
    return RoundRows(rows, reasons)


def build_written_rows(
    round: Round,
    tasks: Iterable[AssignedTask],
    items: Mapping[int, RoundItem],
    left_out: Collection[str] = (),
) -> RoundRows:
    """Return conversations that end with what a person wrote.

    It answers the prompt or, in rounds about answers, the round's question about the given answer.
    """
    rows: list[dict[str, object]] = []
    reasons = Counter[str]()
    for task in tasks:
        answer: Mapping[str, Any] = task.answer or {"skipped": True}
        if "written" not in answer or task.purpose not in COUNTING:
            continue
        if task.person_id in left_out:
            reasons["by an excluded rater"] += 1
            continue
        item = items[task.item_id]
        turns = [dict(turn) for turn in item.prompt]
        if round.config.get("subject", "answer") == "answer":
            turns += [
                {"role": "assistant", "content": item.answers[task.systems[0]]},
                {"role": "user", "content": round.config["instruction"]},
            ]
        turns.append({"role": "assistant", "content": answer["written"]})
        rows.append({"messages": turns, "prompt_id": _find_prompt_id(item), "rater": task.person_name})
    return RoundRows(rows, reasons)


def _find_prompt_id(item: RoundItem) -> str:
    """Return an id that groups the rows of one prompt when a data set is split.

    It is based on the row id, or on the prompt's text, as a file may repeat prompts.
    """
    if item.row_id is not None:
        return f"prompt-{item.row_id}"
    words = json.dumps(item.prompt, ensure_ascii=False)
    return f"prompt-{hashlib.sha256(words.encode('utf-8', 'replace')).hexdigest()[:16]}"
