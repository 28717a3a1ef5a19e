"""Compare new rows with each other and with training and held-out rows, of the run and elsewhere.

Held-out rows must not be trained on, neither verbatim nor paraphrased.
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
}  # parts of rows that are not the run's own


class ComparedRows(NamedTuple):
    """Rows in the form in which they are compared.

    digests: uint64, equal for equal folded texts. prompts: uint64 digests of all turns but the last, 0 for
    plain texts. asked: keys of the questions, independent of system turns. texts: for near duplicates.
    answered: for paraphrases.
    """

    digests: np.ndarray
    prompts: np.ndarray
    asked: QuestionKeys
    answers: list[Answer]
    texts: list[str]
    answered: AnsweredQuestions


class OldRows(NamedTuple):
    """The run's rows, followed by rows from elsewhere.

    parts: object array of train, validation, test, a value of `ELSEWHERE_TEXTS`, or None if the run did
    not use the row. questions: keys of real questions (not instructions), judged within each data set.
    own: number of the run's rows. origins: fingerprint of the data set and row number of each row.
    """

    rows: ComparedRows
    parts: np.ndarray
    labels: list[str]  # labels of the run's training rows, sorted
    questions: np.ndarray
    own: int
    origins: list[tuple[str, int]]

    @property
    def held(self) -> np.ndarray:
        """Boolean mask of the run's held-out rows (validation and test)."""
        return np.isin(self.parts.astype(str), ["validation", "test"])

    @property
    def judging(self) -> np.ndarray:
        """Boolean mask of the held-out rows that compare versions: test, or validation without any."""
        test: np.ndarray = self.parts.astype(str) == "test"
        return test if test.any() else self.held

    @property
    def held_elsewhere(self) -> np.ndarray:
        """Boolean mask of rows held out elsewhere."""
        judged: np.ndarray = self.parts.astype(str) == ELSEWHERE_TEXTS["judge"]
        return judged

    @property
    def trained(self) -> np.ndarray:
        """Boolean mask of the run's training rows."""
        trained: np.ndarray = self.parts.astype(str) == "train"
        return trained

    @property
    def learned(self) -> np.ndarray:
        """Boolean mask of rows that the model was trained on, by this run or earlier."""
        return np.isin(self.parts.astype(str), ["train", ELSEWHERE_TEXTS["train"]])


def read_old_rows(
    home: Home, fingerprint: str, parts: np.ndarray, beside: Sequence[ComparisonRows] = ()
) -> OldRows:
    """Read the rows of the run's data set, and those of other data sets.

    Rows of the data set that the run did not use may get a part from elsewhere; used rows keep theirs.
    """
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
    """Return the boolean mask of the selected rows of the data set."""
    if other.part == "all":
        return np.ones(open_rows(home, other.fingerprint).metadata.num_rows, bool)
    parts = compute_parts_by_split(home, other.fingerprint, Split.parse(other.split))
    return np.array([part == other.part for part in parts], bool)


def build_compared_rows(rows: Sequence[CanonicalRow]) -> ComparedRows:
    """Convert rows to the form in which they are compared."""
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
    """Return the row's text without system and tool turns, and without an answer that is a label.

    A different class label doesn't make it a different question.
    """
    if row.roles is None:
        return row.text
    return _extract_question(row) if _is_labelled(row) else "\n\n".join(_list_spoken_turns(row))


def _extract_question(row: CanonicalRow) -> str:
    """Return the question with the turns before it; "" for plain texts."""
    return "" if row.roles is None else "\n\n".join(_list_spoken_turns(row)[:-1])


def _list_spoken_turns(row: CanonicalRow) -> list[str]:
    """Return the turns without system and tool turns; the last one is the answer."""
    turns = list(zip(row.roles or (), row.contents, strict=True))
    last = len(turns) - 1
    return [
        content for place, (role, content) in enumerate(turns) if role not in IGNORED_ROLES or place == last
    ]


def _is_labelled(row: CanonicalRow) -> bool:
    """Return whether the answer is the row's label."""
    return row.label is not None and row.roles is not None and row.contents[-1].strip() == row.label


# A new row that repeats a held-out row is neither trained on nor held out: it would raise the metric on the
# old rows. That includes rows held out elsewhere, such as earlier new rows and golden sets. A row that
# answers the question of a training row differently is a correction: it is trained on and never held out, as
# the old answer was trained on.

THRESHOLD = 0.7  # Jaccard similarity of word 5-grams, as elsewhere
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
    """New row to compare.

    from_people: a person wrote or chose it about an answer, unlike rows of a data set. earlier: it was
    held out for an earlier improvement, so it may be among the rows held out elsewhere.
    """

    row: CanonicalRow
    from_people: bool
    earlier: bool = False


class NewRowComparison(NamedTuple):
    """Result of the comparison, per new row.

    reasons: why it is left out, "" if it isn't. disputed: another row has a different answer, whatever the
    reason. only_train: it can't be held out. corrects: it corrects an old row. groups: int64, equal for
    rows that must stay in one part. partners: int64, index of the held-out old row that it repeats, else
    -1.
    """

    reasons: list[str]
    disputed: np.ndarray
    only_train: np.ndarray
    corrects: np.ndarray
    groups: np.ndarray
    partners: np.ndarray


def compare_new_rows(
    rows: Sequence[IncomingRow], old: OldRows, kind: Kind, folder: Path, progress: Progress
) -> NewRowComparison:
    """Compare the new rows with each other and with the old ones.

    If new rows answer the same question differently, neither is certainly right, and both are left out.
    `folder` is for a spool file; `progress` may raise to stop.
    """
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
    near_learned = [number for number, place in across if old.learned[place]]
    only_train = np.isin(np.arange(len(rows)), near_learned) | corrects | new.asked.asking(learned)
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
    """Return, for each of `HELD_REASONS`, the row in `held` that each new row repeats in this way, else -1.

    If several are equal, it is one that compares versions, if any, so that the repeat counts in the
    estimate of undetected ones. Rows that were held out before are not checked for paraphrases, as they are
    not trained on.
    """
    places, judging = np.flatnonzero(held), old.judging
    ordered = places[np.argsort(judging[places], kind="stable")]  # of equal rows, the last one is taken
    text, prompt, nearly, copied, reworded = (np.full(len(new.digests), -1) for _ in HELD_REASONS)
    by_digest = dict(zip(old.rows.digests[ordered].tolist(), ordered.tolist(), strict=True))
    text[:] = [by_digest.get(digest, -1) for digest in new.digests.tolist()]
    mine = np.flatnonzero(held[old.rows.asked.rows] & np.isin(old.rows.asked.keys, old.questions))
    mine = mine[np.argsort(judging[old.rows.asked.rows[mine]], kind="stable")]
    by_key = dict(zip(old.rows.asked.keys[mine].tolist(), old.rows.asked.rows[mine].tolist(), strict=True))
    asked = zip(new.asked.rows.tolist(), new.asked.keys.tolist(), strict=True)
    same_question = [(number, by_key[key]) for number, key in asked if key in by_key]
    similar = [(number, place) for number, place in across if held[place]]
    for partners, pairs in ((prompt, same_question), (nearly, similar)):
        for number, place in sorted(pairs, key=lambda pair: bool(judging[pair[1]])):
            partners[number] = place
    fresh = np.flatnonzero(first_time)
    others = [old.rows.answered.answers[place] for place in np.flatnonzero(~held).tolist()]
    answered = old.rows.answered.chosen(places)
    repeats = find_repeated(new.answered.chosen(fresh), answered, others, progress)
    for partners, taken in zip((copied, reworded), repeats, strict=True):
        has = taken >= 0
        repeated = old.rows.digests[places[taken[has]]].tolist()
        partners[fresh[has]] = [by_digest[digest] for digest in repeated]
    return [text, prompt, nearly, copied, reworded]


def _leave_out(reasons: list[str], rows: np.ndarray, reason: str) -> None:
    for place in np.flatnonzero(rows):
        reasons[place] = reasons[place] or reason


def _find_similar_pairs(
    new: list[str], old: list[str], folder: Path, progress: Progress
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return near-duplicate pairs among the new texts, the earlier one first, and (new, old) pairs."""

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


def _mask_contradicting(new: ComparedRows) -> np.ndarray:
    """Return the mask of labeled rows whose prompt has another label in another row."""
    labels: dict[int, set[str]] = defaultdict(set)
    for prompt, answer in zip(new.prompts.tolist(), new.answers, strict=True):
        if prompt and answer[2] is not None:
            labels[prompt].add(answer[2])
    return np.array([len(labels[prompt]) > 1 for prompt in new.prompts.tolist()], bool)


def _mask_conflicting_answers(new: ComparedRows, kind: Kind, from_people: np.ndarray) -> np.ndarray:
    """Return the mask of rows whose question has a different answer in another row, if one is from people."""
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
    """Return whether answers to the same question can't all be right."""
    if kind == "preference":
        return bool({answer[0] for answer in answers} & {answer[1] for answer in answers})
    return any(contradicts(kind, answers[0], answer) for answer in answers[1:])


def _mask_training_repeats(new: ComparedRows, old: OldRows, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of new rows that equal an old training row, and of those that answer its question
    differently.
    """
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
    """Keep the first of rows that are equal, or near duplicates with the same answer."""
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
    """Group rows with equal or near-duplicate questions, paraphrases, and the turns of a conversation."""
    groups = new.asked.grouped(np.arange(len(new.prompts)))
    if near:
        groups = merge_groups(groups, *np.array(near, np.int64).T)
    for partners in find_repeated(new.answered, new.answered, (), progress):
        has = np.flatnonzero(partners >= 0)
        groups = merge_groups(groups, has, partners[has]) if len(has) else groups
    return groups
