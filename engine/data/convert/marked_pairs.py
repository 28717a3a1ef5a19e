"""Prompts with good and bad answers, a row each, as pairs: the first good answer with the first bad one to
the same prompt, the second with the second, and so on. Every row of the file is accounted for: a pair is a
row, at the line of its good answer; the bad answer's own line, and an answer without a partner, are left
out with the reason.

The file is read twice. The first time counts answers, so that the second keeps only those waiting that will
find a partner: a file without pairs keeps none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from engine.data.convert.judged_answers import mark_of, marks_of
from engine.data.readers.column_values import FileRows
from engine.data.readers.raw_rows import FileRow, ReadRow, RowSkipped, skipped
from engine.data.readers.source_json import encode, plain_json
from store.catalog.left_out import REJECTED_OF_A_PAIR, WITHOUT_PARTNER
from store.contract.errors import DataError

REJECTED = "rejected answer"  # the column that a pair has beside those of its good answer's row
MOST_WAITING = 1024**3  # bytes of answers whose partner comes later in the file


class Marking(NamedTuple):
    """The columns of prompt, answer and mark, and which values of the mark mean good and bad."""

    prompt: str
    completion: str
    label: str
    meanings: Mapping[str, str]

    def prompt_key(self, row: FileRow) -> bytes:
        """Equal for equal prompts, texts or turns."""
        value = json.dumps(plain_json(row.get(self.prompt)), sort_keys=True)
        return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def count_pairs(rows: Iterable[FileRow], marking: Marking) -> Counter[bytes]:
    """For each prompt how many pairs its answers make."""
    counts: dict[str, Counter[bytes]] = {"good": Counter(), "bad": Counter()}
    for row in rows:
        try:
            counts[mark_of(row, marking.label, marking.meanings)][marking.prompt_key(row)] += 1
        except (RowSkipped, RecursionError):
            continue
    return counts["good"] & counts["bad"]


def makes_pairs(rows: FileRows, mapping: Mapping[str, str]) -> bool:
    """Whether half of the rows or more find a partner among the rows."""
    meanings = marks_of(rows, mapping["label"])
    if meanings is None:
        return False
    pairs = count_pairs(rows, Marking(mapping["prompt"], mapping["completion"], mapping["label"], meanings))
    return 4 * pairs.total() >= len(rows) > 0


def pair_up(rows: Iterable[ReadRow], marking: Marking, pairs: Counter[bytes]) -> Iterator[ReadRow]:
    """Items of the file, the pairs as rows that have the rejected answer in the column REJECTED. `pairs`:
    what `count_pairs` found of the same rows. Raises DataError where too much would have to wait."""
    left = {mark: Counter(pairs) for mark in ("good", "bad")}
    waiting: dict[tuple[bytes, str], deque[tuple[int, FileRow, int]]] = {}
    held = 0
    for line, row in rows:
        if not isinstance(row, dict):
            yield line, row
            continue
        try:
            mark, key, size = (
                mark_of(row, marking.label, marking.meanings),
                marking.prompt_key(row),
                len(encode(row)),
            )
        except RowSkipped as fault:
            yield line, skipped(str(fault), _excerpt(row))
            continue
        except RecursionError:
            yield line, skipped("nests too deeply", "")
            continue
        if not left[mark][key]:
            yield line, skipped(WITHOUT_PARTNER[mark], _excerpt(row))
            continue
        left[mark][key] -= 1
        partners = waiting.get((key, "bad" if mark == "good" else "good"))
        if not partners:
            waiting.setdefault((key, mark), deque()).append((line, row, size))
            held += size
            if held > MOST_WAITING:
                raise _too_far_apart(line)
            continue
        other_line, other, other_size = partners.popleft()
        held -= other_size
        good, bad = (
            ((line, row), (other_line, other)) if mark == "good" else ((other_line, other), (line, row))
        )
        yield good[0], {**good[1], REJECTED: bad[1].get(marking.completion)}
        yield bad[0], skipped(REJECTED_OF_A_PAIR, _excerpt(bad[1]))


def _excerpt(row: FileRow) -> str:
    return encode(row).decode("utf-8")


def _too_far_apart(line: int) -> DataError:
    return DataError(
        f"At line {line} more than 1 GiB of answers waits for the other answer to its prompt.",
        fix="Sort the file by prompt, or import the good answers alone (format marked).",
        field="source",
    )
