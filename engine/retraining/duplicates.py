"""New rows beside each other and beside the rows that a run was trained and judged on, here and elsewhere:
which repeat what, and which can't be used for that.

Rows that judge must not be trained on, in the same or in other words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.cleaning.added_rows import (
    IGNORED_ROLES,
    Answer,
    QuestionKeys,
    build_answer_key,
    contradicts,
    find_question_keys,
)
from engine.data.cleaning.working_rows import read_canonical_rows
from engine.data.conversion.row_conversion import CanonicalRow
from engine.data.signals.protocol import Progress
from engine.data.similarity.equality import hash_folded_text, merge_groups, normalise_text
from engine.data.similarity.minhash_clusters import Sketches, find_clusters
from engine.data.split.dataset_split import compute_parts_by_split
from engine.data.split.leakage import find_questions
from engine.retraining.paraphrases import AnsweredQuestions, find_repeated
from store.core.home import Home
from store.core.row_schemas import Kind
from store.data.dataset_files import iterate_batches, open_rows
from store.jobs.schemas import ComparisonRows
from store.training.split import Split

BATCH_ROWS = 10_000
ELSEWHERE_TEXTS = {
    "judge": "held out elsewhere",
    "train": "trained elsewhere",
}  # parts of rows beside the run's own


class ComparedRows(NamedTuple):
    """Rows as they are compared. digests: uint64, equal where texts are equal when folded. prompts: of all
    turns but the last, 0 for plain texts. asked: what they ask, however the caller put it. texts: what is
    looked at for near duplicates. answered: what is looked at for repeats in other words."""

    digests: np.ndarray
    prompts: np.ndarray
    asked: QuestionKeys
    answers: list[Answer]
    texts: list[str]
    answered: AnsweredQuestions


class OldRows(NamedTuple):
    """The run's own rows, then those beside them. `parts`: object, of each row train, validation or test,
    one of `ELSEWHERE_TEXTS`, or None where the run did not take it. questions: the keys of what is asked
    and is no instruction among the rows of its own data set. own: how many rows are the run's. origins: of
    each row the fingerprint of its data set and its number there."""

    rows: ComparedRows
    parts: np.ndarray
    labels: list[str]  # of the run's training rows, sorted
    questions: np.ndarray
    own: int
    origins: list[tuple[str, int]]

    @property
    def held(self) -> np.ndarray:
        """Which rows have judged the run: bool."""
        return np.isin(self.parts.astype(str), ["validation", "test"])

    @property
    def held_elsewhere(self) -> np.ndarray:
        """Which others judge: bool."""
        judged: np.ndarray = self.parts.astype(str) == ELSEWHERE_TEXTS["judge"]
        return judged

    @property
    def trained(self) -> np.ndarray:
        """Which rows the run was trained on: bool."""
        trained: np.ndarray = self.parts.astype(str) == "train"
        return trained

    @property
    def learned(self) -> np.ndarray:
        """Which rows the model was trained on, by this run or before: bool."""
        return np.isin(self.parts.astype(str), ["train", ELSEWHERE_TEXTS["train"]])


def read_old_rows(
    home: Home, fingerprint: str, parts: np.ndarray, beside: Sequence[ComparisonRows] = ()
) -> OldRows:
    """The rows of the run's data set, and those beside. A row that the run did not take may be one of these
    too; what it took stays what it is."""
    rows = _read_rows(home, fingerprint)
    origins = [(fingerprint, number) for number in range(len(rows))]
    labels = {
        row.label for row, part in zip(rows, parts, strict=True) if part == "train" and row.label is not None
    }
    parts = parts.copy()
    every = [parts]
    untaken = np.array([part is None for part in parts], bool)
    for other in beside:
        mine = mask_selected_rows(home, other)
        if other.fingerprint == fingerprint:
            parts[mine & untaken] = ELSEWHERE_TEXTS[other.why]
            continue
        others = _read_rows(home, other.fingerprint)
        rows += [row for row, meant in zip(others, mine, strict=True) if meant]
        origins += [(other.fingerprint, number) for number in np.flatnonzero(mine).tolist()]
        every.append(np.full(int(mine.sum()), ELSEWHERE_TEXTS[other.why], object))
    old = build_compared_rows(rows)
    ends = np.cumsum([len(some) for some in every]).tolist()
    asked = [
        old.asked.between(end - len(some), end).questions() for some, end in zip(every, ends, strict=True)
    ]
    questions = np.unique(np.concatenate(asked))
    return OldRows(old, np.concatenate(every), sorted(labels), questions, ends[0], origins)


def _read_rows(home: Home, fingerprint: str) -> list[CanonicalRow]:
    return [
        row
        for batch in iterate_batches(open_rows(home, fingerprint), BATCH_ROWS)
        for row in read_canonical_rows(batch)
    ]


def mask_selected_rows(home: Home, other: ComparisonRows) -> np.ndarray:
    """Which rows of its data set: bool."""
    if other.part == "all":
        return np.ones(open_rows(home, other.fingerprint).metadata.num_rows, bool)
    parts = compute_parts_by_split(home, other.fingerprint, Split.parse(other.split))
    return np.array([part == other.part for part in parts], bool)


def build_compared_rows(rows: Sequence[CanonicalRow]) -> ComparedRows:
    """What of these rows is compared."""
    digests = b"".join(hash_folded_text(row.text) for row in rows)
    prompts = [
        0 if row.roles is None else int.from_bytes(hash_folded_text("\n\n".join(row.contents[:-1])), "little")
        for row in rows
    ]
    return ComparedRows(
        np.frombuffer(digests, "<u8").copy(),
        np.array(prompts, np.uint64),
        find_question_keys(
            [] if row.roles is None else list(zip(row.roles, row.contents, strict=True)) for row in rows
        ),
        [build_answer_key(row.contents[-1] if row.contents else "", row.rejected, row.label) for row in rows],
        [_extract_compared_text(row) for row in rows],
        AnsweredQuestions(
            [_extract_question(row) for row in rows],
            [normalise_text(row.text if row.roles is None else row.contents[-1]) for row in rows],
            np.array([_is_labelled(row) for row in rows], bool),
        ),
    )


def _extract_compared_text(row: CanonicalRow) -> str:
    """Its text without what is said with every row, and without an answer that is a label: one word of
    another class makes no other question."""
    if row.roles is None:
        return row.text
    return _extract_question(row) if _is_labelled(row) else "\n\n".join(_list_spoken_turns(row))


def _extract_question(row: CanonicalRow) -> str:
    """What it asks, with the turns before; "" of plain texts."""
    return "" if row.roles is None else "\n\n".join(_list_spoken_turns(row)[:-1])


def _list_spoken_turns(row: CanonicalRow) -> list[str]:
    """Its turns without those of system and tools; the last one is the answer."""
    turns = list(zip(row.roles or (), row.contents, strict=True))
    last = len(turns) - 1
    return [
        content for place, (role, content) in enumerate(turns) if role not in IGNORED_ROLES or place == last
    ]


def _is_labelled(row: CanonicalRow) -> bool:
    """Whether its answer is its label."""
    return row.label is not None and row.roles is not None and row.contents[-1].strip() == row.label


# New rows beside each other and beside those that the run has: which repeat what, and which may judge.
#
# A new row that repeats one that has judged is neither trained on nor judged by: a figure on the old rows
# would rise for it. That holds for rows that judge elsewhere too, as earlier new rows and golden sets do. A
# row that asks what a training row asks and answers it otherwise is a correction: it is trained on and
# never judges, as the old answer was taught.

THRESHOLD = 0.7  # Jaccard similarity of word 5-grams, as everywhere
BATCH = 4_000
COMPARING_ROWS = "Comparing with the old rows"
HELD_TEXT = "duplicate of a held-out old row"
HELD_PROMPT = "same question as a held-out old row"
HELD_SIMILAR = "near duplicate of a held-out old row"
HELD_ANSWER = "copies the answer, or much of it, of a held-out old row"
HELD_REWORDED = "paraphrases the question of a held-out old row"
HELD_ELSEWHERE = "repeats a held-out row of an earlier improvement, a golden set or a probe"
TRAINED = "already among the old training rows"
DISAGREE = "same text as another new row, with a different label"
DISAGREE_ANSWERS = "same question as another new row, with a different answer"
REPEATED = "duplicate of another new row"
NEARLY_REPEATED = "near duplicate of another new row"


HELD_REASONS = (HELD_TEXT, HELD_PROMPT, HELD_SIMILAR, HELD_ANSWER, HELD_REWORDED)


class IncomingRow(NamedTuple):
    """A new row. from_people: somebody said it of one answer; a row of a data set is not. earlier: it was put
    aside to judge an earlier improvement, and may be among the rows that judge elsewhere."""

    row: CanonicalRow
    from_people: bool
    earlier: bool = False


class NewRowComparison(NamedTuple):
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


def compare_new_rows(
    rows: Sequence[IncomingRow], old: OldRows, kind: Kind, folder: Path, progress: Progress
) -> NewRowComparison:
    """How the new rows stand to each other and to the old ones. `folder` takes a spool file. Where a new row
    answers otherwise what an earlier one asks, neither is right for sure, and both are left out. `progress`
    may raise to stop."""
    new = build_compared_rows([each.row for each in rows])
    from_people = np.array([each.from_people for each in rows], bool)
    within, across = _find_similar_pairs(new.texts, old.rows.texts, folder, progress)
    reasons, partners = [""] * len(rows), np.full(len(rows), -1)
    every, first_time = np.ones(len(rows), bool), np.array([not each.earlier for each in rows], bool)
    for held, meant, names in (
        (old.held, every, HELD_REASONS),
        (old.held_elsewhere, first_time, (HELD_ELSEWHERE,) * len(HELD_REASONS)),
    ):
        repeated = _find_held_partners(new, old, held, across, first_time, progress)
        for partner, name in zip(repeated, names, strict=True):
            fresh = meant & (partner >= 0) & (partners < 0)
            partners[fresh] = partner[fresh]
            _leave_out(reasons, fresh, name)
    contradicting, otherwise = _mask_contradicting(new), _mask_conflicting_answers(new, kind, from_people)
    _leave_out(reasons, contradicting, DISAGREE)
    _leave_out(reasons, otherwise, DISAGREE_ANSWERS)
    same, corrects = _mask_training_repeats(new, old, kind)
    _leave_out(reasons, same, TRAINED)
    _leave_out_repeats(reasons, new, within)
    learned = np.intersect1d(old.rows.asked.of(old.learned), old.questions)
    only_train = _mask_similar(across, old.learned, len(rows)) | corrects | new.asked.asking(learned)
    only_train |= np.isin(new.digests, old.rows.digests[old.learned])
    groups = _group_rows(new, within, progress)
    return NewRowComparison(reasons, contradicting | otherwise, only_train, corrects, groups, partners)


def _find_held_partners(
    new: ComparedRows,
    old: OldRows,
    held: np.ndarray,
    across: list[tuple[int, int]],
    first_time: np.ndarray,
    progress: Progress,
) -> list[np.ndarray]:
    """For each way of `HELD_REASONS` the old row, of those in `held`, that a new row repeats in this way,
    -1 where
    none. Rows that judged before are not looked at for repeats in other words: they are not trained on."""
    places = np.flatnonzero(held)
    text, prompt, nearly, copied, reworded = (np.full(len(new.digests), -1) for _ in HELD_REASONS)
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


def _find_similar_pairs(
    new: list[str], old: list[str], folder: Path, progress: Progress
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Near duplicates among the new texts, the earlier one first; and (new, old) across the two."""

    def tell(done: int, total: int) -> None:
        progress(done, total, "bands", COMPARING_ROWS)

    with Sketches(THRESHOLD, folder) as sketches:
        _add_sketches(sketches, new)
        sketches.close()
        low, high, _ = find_clusters(sketches, tell).all_pairs()
        within = sorted({(min(pair), max(pair)) for pair in zip(low.tolist(), high.tolist(), strict=True)})
    with Sketches(THRESHOLD, folder) as sketches:
        _add_sketches(sketches, new)
        _add_sketches(sketches, old)
        sketches.close()
        side = np.repeat([0, 1], [len(new), len(old)])
        low, high, _ = find_clusters(sketches, tell, side).all_pairs()
        across = [(min(pair), max(pair) - len(new)) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    return within, across


def _add_sketches(sketches: Sketches, texts: list[str]) -> None:
    for start in range(0, len(texts), BATCH):
        sketches.add(sketches.sketch(texts[start : start + BATCH]))


def _mask_similar(pairs: list[tuple[int, int]], old: np.ndarray, count: int) -> np.ndarray:
    """Which new rows are nearly one of these old ones."""
    near = np.zeros(count, bool)
    near[[new for new, other in pairs if old[other]]] = True
    return near


def _mask_contradicting(new: ComparedRows) -> np.ndarray:
    """Rows with labels whose prompt another row has with another label: bool."""
    labels: dict[int, set[str]] = defaultdict(set)
    for prompt, answer in zip(new.prompts.tolist(), new.answers, strict=True):
        if prompt and answer[2] is not None:
            labels[prompt].add(answer[2])
    return np.array([len(labels[prompt]) > 1 for prompt in new.prompts.tolist()], bool)


def _mask_conflicting_answers(new: ComparedRows, kind: Kind, from_people: np.ndarray) -> np.ndarray:
    """Rows whose question another row answers otherwise, where people said one of the answers: bool."""
    rows: dict[int, list[int]] = defaultdict(list)
    for number in np.flatnonzero(np.isin(new.prompts, find_questions(new.prompts))).tolist():
        rows[int(new.prompts[number])].append(number)
    disputed = np.zeros(len(new.prompts), bool)
    for alike in rows.values():
        answers = [new.answers[number] for number in alike]
        if len(alike) > 1 and from_people[alike].any():
            disputed[alike] = _is_disputed(kind, answers)
    return disputed


def _is_disputed(kind: Kind, answers: list[Answer]) -> bool:
    """Whether answers to one question can't all be right."""
    if kind == "preference":
        return bool({answer[0] for answer in answers} & {answer[1] for answer in answers})
    return any(contradicts(kind, answers[0], answer) for answer in answers[1:])


def _mask_training_repeats(new: ComparedRows, old: OldRows, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """New rows that an old training row is already, and those that answer one's question otherwise: bool."""
    places = np.flatnonzero(old.trained)
    by_prompt: dict[int, list[int]] = defaultdict(list)
    by_text: dict[int, list[int]] = defaultdict(list)
    for place in places.tolist():
        by_text[int(old.rows.digests[place])].append(place)
        if old.rows.prompts[place]:
            by_prompt[int(old.rows.prompts[place])].append(place)
    same, corrects = np.zeros(len(new.digests), bool), np.zeros(len(new.digests), bool)
    is_question = np.isin(new.prompts, find_questions(old.rows.prompts[: old.own]))
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
    for number, (text_digest, answer) in enumerate(zip(new.digests.tolist(), new.answers, strict=True)):
        if reasons[number]:
            continue
        key = (text_digest, answer[1], answer[2])
        if key in seen:
            reasons[number] = REPEATED
        seen.add(key)
    for first, second in near:
        if not reasons[first] and not reasons[second] and new.answers[first][1:] == new.answers[second][1:]:
            reasons[second] = NEARLY_REPEATED


def _group_rows(new: ComparedRows, near: list[tuple[int, int]], progress: Progress) -> np.ndarray:
    """Rows with equal questions, or nearly equal, or that repeat each other in other words, belong together,
    and so do the turns of a conversation."""
    groups = new.asked.grouped(np.arange(len(new.prompts)))
    if near:
        groups = merge_groups(groups, *np.array(near, np.int64).T)
    for partners in find_repeated(new.answered, new.answered, (), progress):
        has = np.flatnonzero(partners >= 0)
        groups = merge_groups(groups, has, partners[has]) if len(has) else groups
    return groups
