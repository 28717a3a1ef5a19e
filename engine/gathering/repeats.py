"""New rows beside each other and beside those that the run has: which repeat what, and which may judge.

A new row that repeats one that has judged is neither trained on nor judged by: a figure on the old rows would
rise for it. That holds for rows that judge elsewhere too, as earlier new rows and golden sets do. A row that
asks what a training row asks and answers it otherwise is a correction: it is trained on and never judges, as
the old answer was taught.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.convert.convert import Canonical
from engine.data.deal.leakage import questions
from engine.gathering.old_rows import ComparedRows, OldRows, compared
from engine.gathering.reworded import find_repeated
from engine.near.clusters import find_clusters
from engine.near.groups import join
from engine.near.minhash import Sketches
from engine.recipe.added_rows import Answer, contradicts
from engine.signals.group import Progress
from store.documents.data.row import Kind

THRESHOLD = 0.7  # Jaccard similarity of word 5-grams, as everywhere
BATCH = 4_000
COMPARING = "Comparing with the old rows"
HELD_TEXT = "the same as an old row that judges"
HELD_PROMPT = "asks what an old row asks that judges"
HELD_NEAR = "nearly an old row that judges"
HELD_ANSWER = "copies the answer, or much of it, of an old row that judges"
HELD_REWORDED = "asks in other words what an old row asks that judges"
HELD_ELSEWHERE = "repeats a row that judges: of an earlier improvement, a golden set or a probe"
TRAINED = "an old row already, which is trained on"
DISAGREE = "the same text as another new row, with another label"
DISAGREE_ANSWERS = "the same question as another new row, answered otherwise"
AGAIN = "the same as another new row"
NEARLY_AGAIN = "nearly another new row"


HELD = (HELD_TEXT, HELD_PROMPT, HELD_NEAR, HELD_ANSWER, HELD_REWORDED)


class SaidRow(NamedTuple):
    """A new row. from_people: somebody said it of one answer; a row of a data set is not. earlier: it was put
    aside to judge an earlier improvement, and may be among the rows that judge elsewhere."""

    row: Canonical
    from_people: bool
    earlier: bool = False


class NewRowStanding(NamedTuple):
    """Of each new row: `reasons`, why it is left out, "" where it is not; whether another one answers it
    otherwise, whatever the reason; whether it may only be trained on; whether it corrects an old row;
    `groups`: int64, equal where rows must not be parted; `partners`: int64, of a row that repeats one that
    judges the place of that among the old ones, else -1."""

    reasons: list[str]
    disputed: np.ndarray
    only_train: np.ndarray
    corrects: np.ndarray
    groups: np.ndarray
    partners: np.ndarray


def stand(
    rows: Sequence[SaidRow], old: OldRows, kind: Kind, folder: Path, progress: Progress
) -> NewRowStanding:
    """How the new rows stand to each other and to the old ones. `folder` takes a spool file. Where a new row
    answers otherwise what an earlier one asks, neither is right for sure, and both are left out. `progress`
    may raise to stop."""
    new = compared([each.row for each in rows])
    from_people = np.array([each.from_people for each in rows], bool)
    within, across = _near_pairs(new.texts, old.rows.texts, folder, progress)
    reasons, partners = [""] * len(rows), np.full(len(rows), -1)
    every, first_time = np.ones(len(rows), bool), np.array([not each.earlier for each in rows], bool)
    for held, meant, names in (
        (old.held, every, HELD),
        (old.held_elsewhere, first_time, (HELD_ELSEWHERE,) * len(HELD)),
    ):
        repeated = _held_partners(new, old, held, across, first_time, progress)
        for partner, name in zip(repeated, names, strict=True):
            fresh = meant & (partner >= 0) & (partners < 0)
            partners[fresh] = partner[fresh]
            _leave_out(reasons, fresh, name)
    contradicting, otherwise = _contradicting(new), _answered_otherwise(new, kind, from_people)
    _leave_out(reasons, contradicting, DISAGREE)
    _leave_out(reasons, otherwise, DISAGREE_ANSWERS)
    same, corrects = _beside_training(new, old, kind)
    _leave_out(reasons, same, TRAINED)
    _leave_out_repeats(reasons, new, within)
    learned = np.intersect1d(old.rows.asked.of(old.learned), old.questions)
    only_train = _near(across, old.learned, len(rows)) | corrects | new.asked.asking(learned)
    only_train |= np.isin(new.digests, old.rows.digests[old.learned])
    groups = _groups(new, within, progress)
    return NewRowStanding(reasons, contradicting | otherwise, only_train, corrects, groups, partners)


def _held_partners(
    new: ComparedRows,
    old: OldRows,
    held: np.ndarray,
    across: list[tuple[int, int]],
    first_time: np.ndarray,
    progress: Progress,
) -> list[np.ndarray]:
    """For each way of `HELD` the old row, of those in `held`, that a new row repeats in this way, -1 where
    none. Rows that judged before are not looked at for repeats in other words: they are not trained on."""
    places = np.flatnonzero(held)
    text, prompt, nearly, copied, reworded = (np.full(len(new.digests), -1) for _ in HELD)
    by_digest = dict(zip(old.rows.digests[places].tolist(), places.tolist(), strict=True))
    text[:] = [by_digest.get(digest, -1) for digest in new.digests.tolist()]
    mine = held[old.rows.asked.rows] & np.isin(old.rows.asked.keys, old.questions)
    by_key = dict(zip(old.rows.asked.keys[mine].tolist(), old.rows.asked.rows[mine].tolist(), strict=True))
    for number, key in zip(new.asked.rows.tolist(), new.asked.keys.tolist(), strict=True):
        prompt[number] = by_key.get(key, prompt[number])
    for number, place in across:
        if held[place]:
            nearly[number] = place
    fresh = np.flatnonzero(first_time)
    others = [old.rows.answered.answers[place] for place in np.flatnonzero(~held).tolist()]
    answered = old.rows.answered.chosen(places)
    repeats = find_repeated(new.answered.chosen(fresh), answered, others, progress)
    for partners, taken in zip((copied, reworded), repeats, strict=True):
        has = taken >= 0
        partners[fresh[has]] = places[taken[has]]
    return [text, prompt, nearly, copied, reworded]


def _leave_out(reasons: list[str], rows: np.ndarray, reason: str) -> None:
    for place in np.flatnonzero(rows):
        reasons[place] = reasons[place] or reason


def _near_pairs(
    new: list[str], old: list[str], folder: Path, progress: Progress
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Near duplicates among the new texts, the earlier one first; and (new, old) across the two."""

    def tell(done: int, total: int) -> None:
        progress(done, total, "bands", COMPARING)

    with Sketches(THRESHOLD, folder) as sketches:
        _sketch(sketches, new)
        sketches.close()
        low, high, _ = find_clusters(sketches, tell).all_pairs()
        within = sorted({(min(pair), max(pair)) for pair in zip(low.tolist(), high.tolist(), strict=True)})
    with Sketches(THRESHOLD, folder) as sketches:
        _sketch(sketches, new)
        _sketch(sketches, old)
        sketches.close()
        side = np.repeat([0, 1], [len(new), len(old)])
        low, high, _ = find_clusters(sketches, tell, side).all_pairs()
        across = [(min(pair), max(pair) - len(new)) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    return within, across


def _sketch(sketches: Sketches, texts: list[str]) -> None:
    for start in range(0, len(texts), BATCH):
        sketches.add(sketches.sketch(texts[start : start + BATCH]))


def _near(pairs: list[tuple[int, int]], old: np.ndarray, count: int) -> np.ndarray:
    """Which new rows are nearly one of these old ones."""
    near = np.zeros(count, bool)
    near[[new for new, other in pairs if old[other]]] = True
    return near


def _contradicting(new: ComparedRows) -> np.ndarray:
    """Rows with labels whose prompt another row has with another label: bool."""
    labels: dict[int, set[str]] = defaultdict(set)
    for prompt, answer in zip(new.prompts.tolist(), new.answers, strict=True):
        if prompt and answer[2] is not None:
            labels[prompt].add(answer[2])
    return np.array([len(labels[prompt]) > 1 for prompt in new.prompts.tolist()], bool)


def _answered_otherwise(new: ComparedRows, kind: Kind, from_people: np.ndarray) -> np.ndarray:
    """Rows whose question another row answers otherwise, where people said one of the answers: bool."""
    rows: dict[int, list[int]] = defaultdict(list)
    for number in np.flatnonzero(np.isin(new.prompts, questions(new.prompts))).tolist():
        rows[int(new.prompts[number])].append(number)
    disputed = np.zeros(len(new.prompts), bool)
    for alike in rows.values():
        answers = [new.answers[number] for number in alike]
        if len(alike) > 1 and from_people[alike].any():
            disputed[alike] = _disputed(kind, answers)
    return disputed


def _disputed(kind: Kind, answers: list[Answer]) -> bool:
    """Whether answers to one question can't all be right."""
    if kind == "preference":
        return bool({answer[0] for answer in answers} & {answer[1] for answer in answers})
    return any(contradicts(kind, answers[0], answer) for answer in answers[1:])


def _beside_training(new: ComparedRows, old: OldRows, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """New rows that an old training row is already, and those that answer one's question otherwise: bool."""
    places = np.flatnonzero(old.trained)
    by_prompt: dict[int, list[int]] = defaultdict(list)
    by_text: dict[int, list[int]] = defaultdict(list)
    for place in places.tolist():
        by_text[int(old.rows.digests[place])].append(place)
        if old.rows.prompts[place]:
            by_prompt[int(old.rows.prompts[place])].append(place)
    same, corrects = np.zeros(len(new.digests), bool), np.zeros(len(new.digests), bool)
    is_question = np.isin(new.prompts, questions(old.rows.prompts[: old.own]))
    for number, answer in enumerate(new.answers):
        equal = by_text.get(int(new.digests[number]), [])
        same[number] = any(old.rows.answers[place][1:] == answer[1:] for place in equal)
        if is_question[number]:
            earlier = by_prompt.get(int(new.prompts[number]), [])
            corrects[number] = any(contradicts(kind, old.rows.answers[place], answer) for place in earlier)
    return same & ~corrects, corrects


def _leave_out_repeats(reasons: list[str], new: ComparedRows, near: list[tuple[int, int]]) -> None:
    """Of rows that are equal, or nearly so with the same label, the first stays."""
    seen: set[tuple[int, str, str | None]] = set()
    for number, (digest, answer) in enumerate(zip(new.digests.tolist(), new.answers, strict=True)):
        if reasons[number]:
            continue
        key = (digest, answer[1], answer[2])
        if key in seen:
            reasons[number] = AGAIN
        seen.add(key)
    for first, second in near:
        if not reasons[first] and not reasons[second] and new.answers[first][1:] == new.answers[second][1:]:
            reasons[second] = NEARLY_AGAIN


def _groups(new: ComparedRows, near: list[tuple[int, int]], progress: Progress) -> np.ndarray:
    """Rows with equal questions, or nearly equal, or that repeat each other in other words, belong together,
    and so do the turns of a conversation."""
    groups = new.asked.grouped(np.arange(len(new.prompts)))
    if near:
        groups = join(groups, *np.array(near, np.int64).T)
    for partners in find_repeated(new.answered, new.answered, (), progress):
        has = np.flatnonzero(partners >= 0)
        groups = join(groups, has, partners[has]) if len(has) else groups
    return groups
