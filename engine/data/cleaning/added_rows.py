"""The step add_rows: add rows of another data set and keep the split, so that no held-out row is trained on.

From this step on, every row of the old version records its part, as assigned by the run or by the split of
the version. An added row that asks the same as a held-out row is dropped, and a training row is dropped if an
added row answers the same question differently. Two rows ask the same if any of their questions, including
the turns before it but without system turns and tools, is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from engine.data.cleaning.working_rows import WorkingRows
from engine.data.similarity.equality import hash_folded_text, merge_groups, normalise_text
from engine.data.split.dataset_split import (
    FEW_PROMPTS,
    SHARED_PROMPT,
    compute_parts_by_split,
    read_parts_of_run,
)
from engine.data.split.leakage import find_questions, read_digests_and_prompts
from engine.data.split.partition import parse_split
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.row_schemas import Kind
from store.data.cleaning import AddRows
from store.data.dataset_files import load_rows
from store.jobs.schemas import OrderDataset

IGNORED_ROLES = ("system", "tools")  # shared by all rows, so they would make different rows look alike

Conversation = Sequence[tuple[str, str]]  # role and content of each turn


class QuestionKeys(NamedTuple):
    """Hash keys (uint64), one for each question, in the order of rows and turns.

    rows: int64, the row that asks each question. total: the number of rows.
    """

    rows: np.ndarray
    keys: np.ndarray
    total: int

    def between(self, first: int, end: int) -> QuestionKeys:
        """Return the keys of the rows from `first` up to `end`, renumbered from 0."""
        mine = (self.rows >= first) & (self.rows < end)
        return QuestionKeys(self.rows[mine] - first, self.keys[mine], end - first)

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """Return the keys of the rows selected by a boolean mask."""
        keys: np.ndarray = self.keys[chosen[self.rows]]
        return keys

    def asking(self, keys: np.ndarray) -> np.ndarray:
        """Return a boolean mask of the rows that ask one of `keys`."""
        asking = np.zeros(self.total, bool)
        asking[self.rows[np.isin(self.keys, keys)]] = True
        return asking

    def questions(self) -> np.ndarray:
        """Return the keys that are real questions.

        A key that many rows share and continue differently is an instruction, or an example in front of the
        question (limits in `engine.data.split.dataset_split`). The turns of one long conversation are
        neither.
        """
        if not len(self.keys):
            return self.keys
        follows = np.append(self.rows[1:] == self.rows[:-1], False)
        after = np.where(follows, np.append(self.keys[1:], self.keys[:1]), self.rows.astype(np.uint64))
        ways = np.unique(np.stack([self.keys, after], axis=1), axis=0)
        keys, count = np.unique(ways[:, 0], return_counts=True)
        chosen: np.ndarray = keys[count <= max(FEW_PROMPTS, SHARED_PROMPT * self.total)]
        return chosen

    def grouped(self, groups: np.ndarray) -> np.ndarray:
        """Merge the groups (int64) of rows that share a question."""
        chosen = np.isin(self.keys, self.questions())
        rows, keys = self.rows[chosen], self.keys[chosen]
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        same = keys[1:] == keys[:-1]
        return merge_groups(groups, rows[:-1][same], rows[1:][same])


def find_question_keys(conversations: Iterable[Conversation]) -> QuestionKeys:
    """Hash the questions of conversations.

    The last turn of each conversation is its answer; a conversation without turns has no question.
    """
    rows: list[int] = []
    keys: list[bytes] = []
    count = 0
    for count, turns in enumerate(conversations, start=1):
        spoken: list[str] = []
        for place, (role, content) in enumerate(turns[:-1]):
            if role not in IGNORED_ROLES:
                spoken.append(content)
            if spoken and (role == "user" or place == len(turns) - 2):
                rows.append(count - 1)
                keys.append(hash_folded_text("\n\n".join(spoken)))
    return QuestionKeys(np.array(rows, np.int64), np.frombuffer(b"".join(keys), "<u8").copy(), count)


def read_question_keys(home: Home, fingerprint: str, row_ids: np.ndarray) -> QuestionKeys:
    """Return the question keys of rows of a data set."""
    table = load_rows(home, fingerprint, ["messages"], row_ids)
    conversations = (
        [(turn["role"], turn["content"]) for turn in turns or ()] for turns in table["messages"].to_pylist()
    )
    return find_question_keys(conversations)


def add_rows(work: WorkingRows, step: AddRows, index: int) -> None:
    """Keep the split, and append the added rows to the existing ones.

    Raises ConfigError for a data set of another kind, for the version itself, and if `step.parts` contain no
    row.
    """
    other, old = work.mixed[step.dataset], work.origins[0].dataset
    if other["fingerprint"] == old["fingerprint"]:
        raise ConfigError(f"{step.dataset} has these rows already.", fix="Add others.", field="dataset")
    if other["kind"] != work.kind:
        raise ConfigError(
            f"{step.dataset} is of the kind {other['kind']}, and these rows are {work.kind}.",
            fix="Add a data set of the same kind.",
            field="dataset",
        )
    if step.run:
        parts = read_parts_of_run(work.home, old["fingerprint"], step.run)
    else:
        parts = compute_parts_by_split(work.home, old["fingerprint"], parse_split(old))
    theirs = compute_parts_by_split(work.home, other["fingerprint"], parse_split(other))
    row_ids = np.flatnonzero(np.isin(theirs, list(step.parts)))
    if not len(row_ids):
        raise ConfigError(
            f"{step.dataset} has no row in {' or '.join(step.parts)}.",
            fix="Name others.",
            field="parts",
        )
    living = work.living()
    living = living[living < work.parents]
    undrawn = living[np.array([parts[number] is None for number in living], bool)]
    work.drop(index, undrawn, "not among the training rows that the run drew")
    first = work.total
    work.add(index, other, row_ids)
    whole = np.full(work.total, "train", object)  # rows mixed in by an earlier step are training rows
    whole[: work.parents] = parts[: work.parents]
    whole[first:] = theirs[row_ids]
    work.keep_parts(whole)
    _drop_repeated(work, index, AddedRows(work, other, row_ids, first), parts)


class AddedRows:
    """Digests, prompts, question keys and answers of the added rows, in their order.

    `first`: the number of the first added row.
    """

    def __init__(self, work: WorkingRows, other: OrderDataset, row_ids: np.ndarray, first: int) -> None:
        self.first = first
        self.digests, self.prompts = read_digests_and_prompts(work.home, other["fingerprint"], row_ids)
        self.asked = read_question_keys(work.home, other["fingerprint"], row_ids)
        self.answers = read_answer_keys(work, other["fingerprint"], row_ids)


def _drop_repeated(work: WorkingRows, index: int, added: AddedRows, parts: np.ndarray) -> None:
    """Drop added rows that ask the same as a held-out row, and training rows that an added row corrects."""
    old = work.origins[0].dataset
    living = work.living()
    living = living[living < work.parents]
    held = np.array([parts[number] in ("validation", "test") for number in living], bool)
    digests, prompts = read_digests_and_prompts(work.home, old["fingerprint"], living)
    old_asked = read_question_keys(work.home, old["fingerprint"], living)
    repeats = np.isin(added.digests, digests[held])
    repeats |= added.asked.asking(np.intersect1d(old_asked.of(held), old_asked.questions()))
    work.drop(index, np.flatnonzero(repeats) + added.first, "repeats a row that is held out")
    if work.kind == "text":
        return
    asked = find_questions(prompts)
    trained = living[~held & np.isin(prompts, asked[np.isin(asked, added.prompts[~repeats])])]
    corrected = _find_corrections(work, trained, added, repeats)
    reasons = [f"{work.name(by)} answers it otherwise" for by in corrected.values()]
    work.drop(index, np.fromiter(corrected, np.int64, len(corrected)), reasons)


def _find_corrections(
    work: WorkingRows, rows: np.ndarray, added: AddedRows, left_out: np.ndarray
) -> dict[int, int]:
    """Return the old rows that an added row contradicts: {row: number of that added row}."""
    if not len(rows):
        return {}
    fingerprint = work.origins[0].dataset["fingerprint"]
    by_prompt = {
        int(prompt): place
        for place, prompt in enumerate(added.prompts.tolist())
        if prompt and not left_out[place]
    }
    prompts = read_digests_and_prompts(work.home, fingerprint, rows)[1].tolist()
    own = read_answer_keys(work, fingerprint, rows)
    return {
        int(number): by_prompt[prompt] + added.first
        for number, prompt, answer in zip(rows.tolist(), prompts, own, strict=True)
        if contradicts(work.kind, answer, added.answers[by_prompt[prompt]])
    }


Answer = tuple[str, str, str | None]  # normalized last turn, normalized rejected answer, label


def read_answer_keys(work: WorkingRows, fingerprint: str, row_ids: np.ndarray) -> list[Answer]:
    """Return the answer key of each row."""
    table = load_rows(work.home, fingerprint, ["messages", "label", "rejected"], row_ids)
    return [
        build_answer_key(turns[-1]["content"] if turns else "", rejected, label)
        for turns, label, rejected in zip(
            *(table[name].to_pylist() for name in ("messages", "label", "rejected")), strict=True
        )
    ]


def build_answer_key(text: str, rejected: str | None, label: str | None) -> Answer:
    """Build the normalized form in which answers are compared."""
    return normalise_text(text), normalise_text(rejected or ""), label


def contradicts(kind: Kind, old: Answer, new: Answer) -> bool:
    """Return whether two rows with the same prompt contradict each other.

    Pairs contradict each other if they prefer opposite answers.
    """
    if kind == "preference":
        return old[0] == new[1] or old[1] == new[0]
    return old != new
