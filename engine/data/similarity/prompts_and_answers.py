"""What is said in rows, as texts, prompts and answers that can be compared, and what it means that one
prompt has several answers: they contradict each other, or they are references. The system turn is left out
of a compared text: it would make rows alike that ask different things.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.similarity.equality import group_equal, hash_folded_text, normalise_text
from engine.data.similarity.minhash_clusters import Sketches, TextSketch
from store.data.dataset_files import iterate_batches

# What is said in rows, for whoever compares them: their texts, their prompts, their answers.
#
# The system turn is left out of a text that is compared: it is said to the model with every row, and would
# make rows alike that ask different things. A prompt is all turns before the last answer, equal when
# folded.

BATCH = 4_000  # rows sketched at a time
THREADS = 2  # numpy lets go of the interpreter's lock
MAX_PENDING = 4  # batches ahead of the one that is kept

ReadBatches = Callable[
    [Sequence[str]], Iterator[pa.RecordBatch]
]  # the rows in order, with these columns at least


def make_reader(rows_path: Path) -> ReadBatches:
    """The rows of a data set's file, batch by batch."""
    return lambda columns: iterate_batches(pq.ParquetFile(rows_path), BATCH, list(columns))


def sketch_rows(
    read: ReadBatches, first: np.ndarray, sketches: Sketches
) -> Iterator[tuple[TextSketch, np.ndarray]]:
    """What `sketches.append_steps` takes of the rows that `first` (bool) names, and the hashes of all
    prompts (0:
    none), batch by batch in order."""

    def work(batch: tuple[list[str], np.ndarray]) -> tuple[TextSketch, np.ndarray]:
        texts, prompts = batch
        return sketches.sketch(texts), prompts

    chosen = _iterate_chosen(read, first)
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [threads.submit(work, batch) for batch in islice(chosen, MAX_PENDING)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [threads.submit(work, batch) for batch in islice(chosen, 1)]


def _iterate_chosen(read: ReadBatches, first: np.ndarray) -> Iterator[tuple[list[str], np.ndarray]]:
    head, row = next(iter(read(("messages",))), None), 0
    chat = head is not None and head["messages"].null_count < head.num_rows
    for batch in read(("messages" if chat else "text",)):
        wanted = np.flatnonzero(first[row : row + batch.num_rows])
        texts, prompts = read_texts_and_prompts(batch)
        yield [texts[index] for index in wanted], prompts
        row += batch.num_rows


def read_texts_and_prompts(batch: pa.RecordBatch) -> tuple[list[str], np.ndarray]:
    """The text of each row without its turns of system and tools, and a hash of its prompt, uint64 (0: it has
    none). The batch has the messages, or of plain texts the text."""
    if "messages" not in batch.schema.names:
        return batch["text"].to_pylist(), np.zeros(batch.num_rows, dtype=np.uint64)
    messages = batch["messages"]
    turns = messages.values
    contents = turns.field("content").to_pylist()
    spoken = pc.invert(pc.is_in(turns.field("role"), pa.array(["system", "tools"]))).to_pylist()
    texts, prompts = [], []
    for begin, end in pairwise(messages.offsets.to_pylist()):
        turn_texts = contents[begin:end]
        prompts.append(hash_folded_text("\n\n".join(turn_texts[:-1])))
        if not spoken[begin] or end - begin > 2:
            turn_texts = [text for text, mine in zip(turn_texts, spoken[begin:end], strict=True) if mine]
        texts.append("\n\n".join(turn_texts))
    return texts, np.frombuffer(b"".join(prompts), dtype="<u8").copy()


def read_last_answers(batch: pa.RecordBatch) -> list[str]:
    """The last turn of each row; of rows without turns nothing."""
    messages = batch["messages"]
    offsets = messages.offsets.to_numpy()
    last = pa.array(offsets[1:] - 1, mask=offsets[1:] == offsets[:-1])
    return [answer or "" for answer in messages.values.field("content").take(last).to_pylist()]


# What it means that one prompt has several answers: they contradict each other, or they are references.
#
# Two labels of one text contradict each other, and so do two pairs of which each prefers what the other
# rejects. Answers in free text are references where that is how the data is made (`USUAL_SHARE` of the
# prompts have several), where a prompt has so many that it asks for one of many (`MANY_ANSWERS`), or where
# they agree: of the words that the prompt doesn't have already they share half on average (the overlap
# coefficient). All else are conflicts: an answer that says 4 and one that says 5, yes and no, Sydney and
# Canberra.

USUAL_SHARE = 0.2  # of the prompts; where more have several answers, these are how the data is made
MIN_MEDIAN_WORDS = 4  # words of the median answer; shorter ones are right or wrong
MANY_ANSWERS = 10  # answers to one prompt
AGREEMENT_SHARE = 0.5  # of the words of the shorter answer that the longer one has too
MAX_COMPARED = 8  # answers of a prompt that are held against each other
_WORD = re.compile(r"[^\W_]+")
_SMALL = frozenset((
    "a", "an", "the", "of", "and", "or", "to", "in", "on", "at", "by", "for", "from", "with", "as", "is",
    "are", "was", "were", "be", "been", "it", "its", "this", "that", "these", "those", "i", "you", "he",
    "she", "they", "we", "his", "her", "their", "our", "your", "my", "do", "does", "did", "has", "have",
    "had", "will", "would", "can", "could", "so",
))  # fmt: skip


@dataclass(frozen=True)
class PromptAgreement:
    """`group`: int64 of each row, the first row with its prompt (itself for plain texts). `conflict`,
    `references`: bool of each row. `answers`: how many the prompts with several have on average, 0 where
    there is none."""

    group: np.ndarray
    conflict: np.ndarray
    references: np.ndarray
    answers: float


class _Answer(NamedTuple):
    """The answer of a row: its words, in order, of answer and rejected answer the folded text, the label."""

    text: str
    label: str | None
    rejected: str | None


def compare_answers(read: ReadBatches, prompts: np.ndarray) -> PromptAgreement:
    """What the rows that share a prompt make of it. prompts: uint64 of each row, 0 without one."""
    count = len(prompts)
    group = group_equal(prompts)
    if not prompts.any():  # plain texts
        group = np.arange(count)
    shared = np.bincount(group, minlength=count)[group] > 1
    rows, asked = _read_answers(read, np.flatnonzero(shared), group)
    verdicts = _select_differing(rows)
    conflict, references = np.zeros(count, bool), np.zeros(count, bool)
    free = [first for first, answers in verdicts.items() if _is_free(answers)]
    usual = _is_usual(rows, free, len(np.unique(group)))
    for first, members in verdicts.items():
        numbers = np.fromiter(members, np.int64, len(members))
        if first in asked and _is_free(members):
            agree = usual or _agree(asked[first], members.values())
            (references if agree else conflict)[numbers] = True
        else:
            wrong = _find_contradicting(members)
            conflict[list(wrong)] = True
            references[[row for row in members if row not in wrong]] = not wrong
    answers = [
        len({(answer.text, answer.label) for answer in members.values()}) for members in verdicts.values()
    ]
    return PromptAgreement(group, conflict, references, float(np.mean(answers)) if answers else 0.0)


def _read_answers(
    read: ReadBatches, wanted: np.ndarray, group: np.ndarray
) -> tuple[dict[int, dict[int, _Answer]], dict[int, str]]:
    """Of each prompt (by its first row) the rows that have it with their answers, and what it asks."""
    rows: dict[int, dict[int, _Answer]] = {}
    asked: dict[int, str] = {}
    begin = 0
    for batch in read(("messages", "label", "rejected")) if len(wanted) else ():
        here = wanted[(wanted >= begin) & (wanted < begin + batch.num_rows)]
        taken = batch.take(pa.array(here - begin))
        begin += batch.num_rows
        sides = taken["label"].to_pylist(), taken["rejected"].to_pylist(), taken["messages"].to_pylist()
        answered_rows = zip(here.tolist(), read_last_answers(taken), *sides, strict=True)
        for row, text, label, rejected, turns in answered_rows:
            first = int(group[row])
            folded = None if rejected is None else normalise_text(rejected)
            rows.setdefault(first, {})[row] = _Answer(normalise_text(text), label, folded)
            if first not in asked:
                asked[first] = " ".join(turn["content"] for turn in turns[:-1])
    return rows, asked


def _select_differing(rows: Mapping[int, dict[int, _Answer]]) -> dict[int, dict[int, _Answer]]:
    """The prompts whose rows do not all answer the same."""
    return {first: members for first, members in rows.items() if len(set(members.values())) > 1}


def _is_free(members: Mapping[int, _Answer]) -> bool:
    """Whether the answers are free text: no labels, and nothing that was rejected."""
    return all(answer.label is None and answer.rejected is None for answer in members.values())


def _is_usual(rows: Mapping[int, dict[int, _Answer]], free: Sequence[int], prompts: int) -> bool:
    """Whether several answers in sentences are how the data is made."""
    lengths = [len(answer.text.split()) for first in free for answer in rows[first].values()]
    return len(free) >= max(2, USUAL_SHARE * prompts) and float(np.median(lengths)) >= MIN_MEDIAN_WORDS


def _agree(prompt: str, members: Iterable[_Answer]) -> bool:
    texts = list(dict.fromkeys(answer.text for answer in members))
    if len(texts) >= MANY_ANSWERS:
        return True
    prompt_words = set(_WORD.findall(normalise_text(prompt))) | _SMALL
    own = [set(_WORD.findall(text)) - prompt_words for text in texts[:MAX_COMPARED]]
    return float(np.mean([_overlap_coefficient(*pair) for pair in combinations(own, 2)])) >= AGREEMENT_SHARE


def _overlap_coefficient(first: set[str], second: set[str]) -> float:
    """The overlap coefficient; 1 where neither says anything of its own."""
    fewer = min(len(first), len(second))
    return len(first & second) / fewer if fewer else float(not first and not second)


def _find_contradicting(members: Mapping[int, _Answer]) -> set[int]:
    """The rows of one prompt of which another row says the contrary, by label or by preference."""
    labels = {answer.label for answer in members.values()}
    if len(labels) > 1:
        return set(members)
    pairs = {(answer.text, answer.rejected) for answer in members.values()}
    return {
        row
        for row, answer in members.items()
        if (answer.rejected, answer.text) in pairs and answer.rejected != answer.text
    }
