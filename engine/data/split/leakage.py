"""Leakage: held-out rows that training rows repeat, and rows shared by two data sets.

Everything is looked up in the rows as they were split, not derived from how they were split.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from engine.data.similarity.equality import group_equal
from engine.data.similarity.minhash_clusters import Sketches, find_clusters
from engine.data.similarity.prompts_and_answers import BATCH, make_reader, read_texts_and_prompts, sketch_rows
from engine.data.similarity.text_overlap import find_short_pairs
from engine.data.split.dataset_split import FEW_PROMPTS, SHARED_PROMPT, read_duplicate_groups
from store.core.home import Home
from store.core.row_schemas import LeakedRows, Overlap
from store.data.dataset_files import load_rows
from store.evaluation.forgetting_schemas import RepeatKind

MAX_UNMEASURED_ROWS = 20_000  # rows; larger sets compare prompts only if duplicates are measured
MAX_EXAMPLES = 50
MAX_LISTED = 10_000  # rows listed in a result
THRESHOLD = 0.7  # Jaccard similarity of word 5-grams, as everywhere
ReportProgress = Callable[[int, int, str, str], None]  # done, total, unit, message


def find_leaks(home: Home, fingerprint: str, dealt: dict[str, np.ndarray]) -> LeakedRows:
    """Count held-out rows that training rows repeat. dealt: row ids of train, validation and test."""
    held = np.concatenate([dealt["validation"], dealt["test"]])
    repeats, checked = find_repeats(home, fingerprint, held, dealt["train"])
    counts = {kind: int(mask.sum()) for kind, mask in repeats.items()}
    return {
        "exact": counts["exact"],
        "near": counts.get("near", 0),
        "same_prompt": counts.get("same_prompt"),
        "checked_near": checked,
    }


def find_repeats(
    home: Home, fingerprint: str, held: np.ndarray, train: np.ndarray
) -> tuple[dict[RepeatKind, np.ndarray], bool]:
    """Return, for each kind of repetition, which rows in `held` are repeated in `train`.

    Kinds that were not checked are missing. The second value says whether near duplicates are measured.
    """
    digests = load_rows(home, fingerprint, columns=["digest"])["digest"].to_numpy()
    exact = np.isin(digests[held], digests[train])
    repeats: dict[RepeatKind, np.ndarray] = {"exact": exact}
    near, prompt = _read_groups(home, fingerprint, len(digests))
    if near is not None:
        repeats["near"] = np.isin(held, _find_similar_pairs(home, fingerprint, near, held, train)[0]) & ~exact
    if prompt is not None:
        repeats["same_prompt"] = (
            _find_shared_groups(prompt, held, train) & _find_question_rows(prompt)[held] & ~exact
        )
    return repeats, near is not None


def _read_groups(home: Home, fingerprint: str, count: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return near-duplicate and prompt groups of every row, each None if unknown."""
    near = _read_near_groups(home, fingerprint)
    if near is not None:
        return near[0], near[1]
    return None, _group_prompts(home, fingerprint) if count <= MAX_UNMEASURED_ROWS else None


def find_leaking_rows(home: Home, fingerprint: str, dealt: dict[str, np.ndarray]) -> np.ndarray:
    """Return the ids of training rows that repeat a held-out row by text, nearly, or by prompt.

    A prompt that many rows share is no reason to exclude a row.
    """
    held, train = np.concatenate([dealt["validation"], dealt["test"]]), dealt["train"]
    digests = load_rows(home, fingerprint, columns=["digest"])["digest"].to_numpy()
    repeats = np.isin(digests[train], digests[held])
    near, prompt = _read_groups(home, fingerprint, len(digests))
    if near is not None:
        repeats |= np.isin(train, _find_similar_pairs(home, fingerprint, near, held, train)[1])
    if prompt is not None:
        repeats |= _find_shared_groups(prompt, train, held) & _find_question_rows(prompt)[train]
    leaking_rows: np.ndarray = train[repeats]
    return leaking_rows


def _find_question_rows(prompt: np.ndarray) -> np.ndarray:
    """Return which rows have a prompt that is a question, not an instruction shared by many rows.

    The limits are those of `dataset_split`.
    """
    groups, counts = np.unique(prompt[~np.isnan(prompt)], return_counts=True)
    return np.isin(prompt, groups[counts <= max(FEW_PROMPTS, SHARED_PROMPT * len(prompt))])


def _read_near_groups(home: Home, fingerprint: str) -> list[np.ndarray] | None:
    """Return the near-duplicate and prompt groups of every row, or None if not measured."""
    path = home.signals(fingerprint, "duplicates")
    if not path.exists():
        return None
    return [column.to_numpy().astype(np.float64) for column in read_duplicate_groups(path)]


def _find_similar_pairs(
    home: Home, fingerprint: str, chain: np.ndarray, held: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a held-out and a training row that are near duplicates themselves.

    A chain only tells which rows to compare; being connected by a chain is no leak.
    """
    sides = held[_find_shared_groups(chain, held, train)], train[_find_shared_groups(chain, train, held)]
    ids, side = np.concatenate(sides), np.repeat([0, 1], [len(rows) for rows in sides])
    if not len(ids):
        return ids, ids
    table = load_rows(home, fingerprint, columns=["messages", "text"], row_ids=ids)
    if table["messages"].null_count:
        table = table.drop_columns("messages")
    texts = [text for batch in table.to_batches() for text in read_texts_and_prompts(batch)[0]]
    with tempfile.TemporaryDirectory() as folder, Sketches(THRESHOLD, Path(folder)) as sketches:
        for begin in range(0, len(texts), BATCH):
            sketches.add(sketches.sketch(texts[begin : begin + BATCH]))
        sketches.close()
        near_pairs = find_clusters(sketches, lambda *_: None, side).pairs
    pairs = (
        near_pairs[:2],
        find_short_pairs(texts, 0.0, side)[:2],
    )  # the chain already ensures rarity among all rows
    first, second = (np.concatenate(both) for both in zip(*pairs, strict=True))
    return ids[np.minimum(first, second)], ids[np.maximum(first, second)]


def count_occurrences(home: Home, fingerprint: str, train: np.ndarray) -> np.ndarray:
    """Return how many rows of `train` each of them equals, by text.

    Near duplicates count as well if they are measured.
    """
    digests = load_rows(home, fingerprint, columns=["digest"])["digest"].to_numpy()[train]
    _, place, counts = np.unique(digests, return_inverse=True, return_counts=True)
    often = counts[place]
    near = _read_near_groups(home, fingerprint)
    if near is not None:
        groups = near[0][train]
        grouped = ~np.isnan(groups)
        _, place, counts = np.unique(groups[grouped], return_inverse=True, return_counts=True)
        often[grouped] = np.maximum(often[grouped], counts[place])
    return often


def _find_shared_groups(groups: np.ndarray, held: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return which held-out rows are in a group (not NaN) of a training row."""
    shared: np.ndarray = np.isin(groups[held], groups[train]) & ~np.isnan(groups[held])
    return shared


def find_shared_rows(
    home: Home, fingerprint: str, held: np.ndarray, other: str, other_ids: np.ndarray
) -> np.ndarray:
    """Return which rows `other_ids` of another data set have the text or the prompt of a row in `held`."""
    ours, theirs = (
        read_digests_and_prompts(home, fingerprint, held),
        read_digests_and_prompts(home, other, other_ids),
    )
    texts = np.isin(theirs[0], ours[0])
    shared: np.ndarray = texts | (np.isin(theirs[1], ours[1]) & (theirs[1] != 0))
    return shared


def find_repeated_rows(
    home: Home, fingerprint: str, row_ids: np.ndarray, other: str, other_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows `other_ids` have the text of a row in `row_ids`, and which others ask the same.

    A prompt that many rows share is an instruction, not a question (limits in `dataset_split`).
    """
    ours, theirs = (
        read_digests_and_prompts(home, fingerprint, row_ids),
        read_digests_and_prompts(home, other, other_ids),
    )
    texts = np.isin(theirs[0], ours[0])
    return texts, np.isin(theirs[1], find_questions(ours[1])) & ~texts


def find_questions(prompts: np.ndarray) -> np.ndarray:
    """Return the distinct prompt hashes that are questions, given those of all rows of a data set (0: none).

    A prompt that many rows share is an instruction (limits in `dataset_split`).
    """
    asked, count = np.unique(prompts, return_counts=True)
    few = max(FEW_PROMPTS, SHARED_PROMPT * len(prompts))
    chosen: np.ndarray = asked[(asked != 0) & (count <= few)]
    return chosen


def count_near_duplicates(
    home: Home, fingerprint: str, row_ids: np.ndarray, other: str, other_ids: np.ndarray, folder: Path
) -> int:
    """Count the rows `other_ids` that are near duplicates, but not copies, of a row in `row_ids`.

    `folder`: for two temporary files, which are removed afterwards.
    """
    files = folder / "near-ours.parquet", folder / "near-theirs.parquet"
    try:
        for file, name, ids in zip(files, (fingerprint, other), (row_ids, other_ids), strict=True):
            pq.write_table(load_rows(home, name, columns=["digest", "messages", "text"], row_ids=ids), file)
        return int(compute_overlap(files[1], files[0], folder, lambda *_: None)["near"])
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def read_digests_and_prompts(
    home: Home, fingerprint: str, row_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the digest of each row and a hash of its prompt (0 if it has none)."""
    table = load_rows(home, fingerprint, columns=["digest", "messages"], row_ids=row_ids)
    prompts = [np.zeros(0, np.uint64)]
    if table["messages"].null_count:
        prompts = [np.zeros(len(table), np.uint64)]
    else:
        prompts += [read_texts_and_prompts(batch)[1] for batch in table.to_batches()]
    return table["digest"].to_numpy(), np.concatenate(prompts)


def _group_prompts(home: Home, fingerprint: str) -> np.ndarray:
    """Return for each row the first row with its prompt; NaN for plain texts."""
    table = load_rows(home, fingerprint, columns=["messages"])
    if table["messages"].null_count:
        return np.full(table.num_rows, np.nan)
    parts = [read_texts_and_prompts(batch)[1] for batch in table.to_batches()]
    return group_equal(np.concatenate(parts)).astype(np.float64)


def compute_overlap(
    rows: Path, other: Path, folder: Path, progress: ReportProgress, threshold: float = THRESHOLD
) -> Overlap:
    """Find the rows of one data set that another one has too.

    Half of the examples are exact if there are enough. `folder`: for a spool file. Both files are read
    once.
    """
    digests = [pq.read_table(path, columns=["digest"])["digest"].to_numpy() for path in (rows, other)]
    first = [group_equal(values) for values in digests]
    texts = [np.flatnonzero(group == np.arange(len(group))) for group in first]
    total, done = sum(map(len, digests)), 0
    prompts: list[list[np.ndarray]] = [[], []]
    with Sketches(threshold, folder) as sketches:
        for number, path in enumerate((rows, other)):
            once = first[number] == np.arange(len(first[number]))
            for sketch, asked in sketch_rows(make_reader(path), once, sketches):
                sketches.add(sketch)
                prompts[number].append(asked)
                done += len(asked)
                progress(done, total, "rows", "Comparing texts")
        sketches.close()
        side = np.repeat([0, 1], [len(part) for part in texts])
        clusters = find_clusters(sketches, lambda at, of: progress(at, of, "bands", "Verifying"), side)
    low, high, similarity = clusters.all_pairs()
    here, there = np.minimum(low, high), np.maximum(low, high) - len(texts[0])
    pairs = texts[0][here], texts[1][there], similarity
    exact = np.isin(digests[0], digests[1])
    near = np.isin(first[0], pairs[0]) & ~exact
    mine, theirs = (np.concatenate([np.zeros(0, np.uint64), *part]) for part in prompts)
    asked_too = np.isin(mine, theirs) & (mine != 0) & ~exact & ~near
    return {
        "exact": int(exact.sum()),
        "near": int(near.sum()),
        "same_prompt": int(asked_too.sum()),
        "rows": len(digests[0]),
        "other_rows": len(digests[1]),
        "row_ids": np.flatnonzero(exact | near | asked_too)[:MAX_LISTED].tolist(),
        "examples": _select_examples(digests, exact, pairs),
    }


def _select_examples(
    digests: list[np.ndarray], exact: np.ndarray, pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> list[tuple[int, int, float]]:
    """Return equal rows first, then near ones by descending similarity, each row of the first set once."""
    values, place = np.unique(digests[1], return_index=True)
    equal = np.flatnonzero(exact)
    same = [
        (int(row), int(place[np.searchsorted(values, digests[0][row])]), 1.0) for row in equal[:MAX_EXAMPLES]
    ]
    rows, others, similarity = pairs
    best: dict[int, tuple[int, int, float]] = {}
    for index in np.lexsort((others, rows, -similarity)):
        row = int(rows[index])
        if not exact[row] and row not in best:
            best[row] = (row, int(others[index]), round(float(similarity[index]), 4))
        if len(best) == MAX_EXAMPLES:
            break
    near = list(best.values())
    kept = max(MAX_EXAMPLES // 2, MAX_EXAMPLES - len(near))
    return [*same[:kept], *near][:MAX_EXAMPLES]
