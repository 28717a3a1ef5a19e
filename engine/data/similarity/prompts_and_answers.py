"""Texts, prompts and answers of rows in comparable form, and whether several answers to a prompt conflict.

Several answers to one prompt contradict each other, or they are references. The system turn is left out of
compared texts: all rows share it, which would make rows similar that ask different things. A prompt is all
turns before the last answer, equal when folded.
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

BATCH = 4_000  # rows sketched at a time
THREADS = 2  # numpy releases the GIL
MAX_PENDING = 4  # batches sketched ahead

ReadBatches = Callable[
    [Sequence[str]], Iterator[pa.RecordBatch]
]  # yields the rows in order, with at least these columns


def make_reader(rows_path: Path) -> ReadBatches:
    """Return a reader of the rows of a data set file in batches."""
    return lambda columns: iterate_batches(pq.ParquetFile(rows_path), BATCH, list(columns))


def sketch_rows(
    read: ReadBatches, first: np.ndarray, sketches: Sketches
) -> Iterator[tuple[TextSketch, np.ndarray]]:
    """Yield the sketches of the rows in `first` (bool) and the prompt hashes of all rows.

    They come batch by batch, in order. A hash is 0 for a row without a prompt.
    """

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
    """Return each row's text without system and tools turns, and a hash of its prompt, uint64.

    A hash is 0 for a row without a prompt. The batch has the messages, or for plain texts the text.
    """
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
    """Return the last turn of each row; empty for rows without turns."""
    messages = batch["messages"]
    offsets = messages.offsets.to_numpy()
    last = pa.array(offsets[1:] - 1, mask=offsets[1:] == offsets[:-1])
    return [answer or "" for answer in messages.values.field("content").take(last).to_pylist()]


# Two labels of one text contradict each other, and so do two pairs that prefer opposite answers. Free-text
# answers are references in three cases: several answers are the design of the data (`USUAL_SHARE` of the
# prompts have several), a prompt has so many that it asks for one of many (`MANY_ANSWERS`), or the answers
# agree: they share half of the words that are not in the prompt, on average (the overlap coefficient).
# Everything else is a conflict: answers of 4 and 5, yes and no, Sydney and Canberra.

USUAL_SHARE = 0.2  # share of prompts with several answers from which they are intended
MIN_MEDIAN_WORDS = 4  # words of the median answer; shorter answers are right or wrong
MANY_ANSWERS = 10  # answers to one prompt
AGREEMENT_SHARE = 0.5  # share of the words of the shorter answer that are in the longer one
MAX_COMPARED = 8  # answers of a prompt that are compared with each other
_WORD = re.compile(r"[^\W_]+")
_SMALL = frozenset((
    "a", "an", "the", "of", "and", "or", "to", "in", "on", "at", "by", "for", "from", "with", "as", "is",
    "are", "was", "were", "be", "been", "it", "its", "this", "that", "these", "those", "i", "you", "he",
    "she", "they", "we", "his", "her", "their", "our", "your", "my", "do", "does", "did", "has", "have",
    "had", "will", "would", "can", "could", "so",
))  # fmt: skip


@dataclass(frozen=True)
class PromptAgreement:
    """Agreement of the answers to each prompt.

    `group`: int64, for each row the first row with its prompt (itself for plain texts). `conflict`,
    `references`: bool of each row. `answers`: mean number of answers of prompts with several, 0 if there
    are none.
    """

    group: np.ndarray
    conflict: np.ndarray
    references: np.ndarray
    answers: float


class _Answer(NamedTuple):
    """Answer of a row: normalized text, label, and normalized rejected answer."""

    text: str
    label: str | None
    rejected: str | None


def compare_answers(read: ReadBatches, prompts: np.ndarray) -> PromptAgreement:
    """Compare the answers of rows that share a prompt. prompts: uint64 of each row, 0 without one."""
    count = len(prompts)
    group = group_equal(prompts)
    if not prompts.any():  # plain texts
        group = np.arange(count)
    shared = np.bincount(group, minlength=count)[group] > 1
    rows, asked = _read_answers(read, np.flatnonzero(shared), group)
    verdicts = {first: answers for first, answers in rows.items() if len(set(answers.values())) > 1}
    conflict, references = np.zeros(count, bool), np.zeros(count, bool)
    free = [first for first, answers in verdicts.items() if _is_free(answers)]
    # whether several free-text answers per prompt are the design of the data
    lengths = [len(answer.text.split()) for first in free for answer in rows[first].values()]
    usual = len(free) >= max(2, USUAL_SHARE * len(np.unique(group)))
    usual = usual and float(np.median(lengths)) >= MIN_MEDIAN_WORDS
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
    """Return, for each prompt (by its first row), its rows with their answers, and the text of the prompt."""
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


def _is_free(members: Mapping[int, _Answer]) -> bool:
    """Return whether the answers are free text: no labels and no rejected answers."""
    return all(answer.label is None and answer.rejected is None for answer in members.values())


def _agree(prompt: str, members: Iterable[_Answer]) -> bool:
    texts = list(dict.fromkeys(answer.text for answer in members))
    if len(texts) >= MANY_ANSWERS:
        return True
    prompt_words = set(_WORD.findall(normalise_text(prompt))) | _SMALL
    own = [set(_WORD.findall(text)) - prompt_words for text in texts[:MAX_COMPARED]]
    return float(np.mean([_overlap_coefficient(*pair) for pair in combinations(own, 2)])) >= AGREEMENT_SHARE


def _overlap_coefficient(first: set[str], second: set[str]) -> float:
    """Return the overlap coefficient; 1 if both sets are empty."""
    fewer = min(len(first), len(second))
    return len(first & second) / fewer if fewer else float(not first and not second)


def _find_contradicting(members: Mapping[int, _Answer]) -> set[int]:
    """Return the rows of one prompt that another row contradicts, by label or by preference."""
    labels = {answer.label for answer in members.values()}
    if len(labels) > 1:
        return set(members)
    pairs = {(answer.text, answer.rejected) for answer in members.values()}
    return {
        row
        for row, answer in members.items()
        if (answer.rejected, answer.text) in pairs and answer.rejected != answer.text
    }
