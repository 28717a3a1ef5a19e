"""Near duplicates among rows: the representative of each row, and similar rows that contradict each other.

Rows that are equal when folded are one text. One sketch is made of each text (`minhash_clusters`),
candidates are verified by the exact Jaccard similarity of their word 5-grams (`text_overlap`) and joined
to chains. The ends of a chain may share little, so within a chain a row only represents rows that have the
threshold similarity with it. A similar row with another label or answer is no duplicate but a conflict.
Answers, including rejected ones, are the same if they are equal when folded or have the threshold
similarity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.data.similarity.equality import (
    FOLDED,
    compute_folded_keys,
    group_equal,
    join_keys,
    normalise_text,
)
from engine.data.similarity.minhash_clusters import (
    PAIRS_AT_A_TIME,
    Clusters,
    ReportProgress,
    ShingleSpool,
    Sketches,
    find_clusters,
)
from engine.data.similarity.prompts_and_answers import ReadBatches, read_last_answers, sketch_rows
from engine.data.similarity.text_overlap import build_shingle_sets

# A near duplicate is similar to its representative, not just to a text that is similar to it.
#
# Clusters are chains: the ends of a chain of texts made from one template may share little. The texts of a
# chain are processed in order of preference; each text without a representative becomes its own, and that of
# all others that are verified to have the threshold similarity with it. In a chain in which few texts can
# represent each other, all pairs would be too many. After `COMPARISONS_PER_TEXT` comparisons a text, the
# pairs verified when the chain was found decide, and `uncompared` counts the texts concerned.

COMPARISONS_PER_TEXT = 24  # mean number of comparisons per text

SameCheck = Callable[[np.ndarray, np.ndarray], np.ndarray]  # for pairs of texts: may one represent the other
StopCheck = Callable[[], None]  # may raise to cancel


@dataclass(frozen=True)
class Representatives:
    """Representatives of texts.

    `chief`: int64, the representative of each text, its own number if it has none. `similarity`: to the
    representative; for a representative the highest of the texts it represents, 0 if there are none.
    `uncompared`: number of texts that were not compared with every text of their chain.
    """

    chief: np.ndarray
    similarity: np.ndarray
    uncompared: int


def choose_representatives(
    spool: ShingleSpool,
    clusters: Clusters,
    codes: np.ndarray,
    rank: np.ndarray,
    alike: SameCheck,
    look: StopCheck,
) -> Representatives:
    """Choose the representative of each text.

    codes: int of each text; only texts with equal codes can represent each other. rank: distinct int64 of
    each text; smaller ones are preferred as representatives.
    """
    count = len(clusters.label)
    chief, similarity = np.arange(count), np.zeros(count)
    chains = np.unique(np.stack([clusters.label, codes]), axis=1, return_inverse=True)[1].reshape(count)
    left = np.flatnonzero(np.bincount(chains)[chains] > 1)
    left = left[np.lexsort((rank[left], chains[left]))]
    budget = COMPARISONS_PER_TEXT * len(left)
    while len(left) and budget > 0:
        look()
        leads = np.flatnonzero(np.concatenate([[True], np.diff(chains[left]) != 0]))
        leader = np.repeat(left[leads], np.diff(np.append(leads, len(left))))
        others = left != leader
        budget -= int(others.sum())
        first, second = leader[others], left[others]
        values = _compute_similarity(spool, first, second, alike, look)
        taken = values > 0
        chief[second[taken]], similarity[second[taken]] = first[taken], values[taken]
        left = second[~taken]
    uncompared = len(left)
    if uncompared:
        _assign_by_pairs(clusters.pairs, left[np.argsort(rank[left])], codes, alike, chief, similarity)
    members = np.flatnonzero(chief != np.arange(count))
    np.maximum.at(similarity, chief[members], similarity[members])
    return Representatives(chief, similarity, uncompared)


def _compute_similarity(
    spool: ShingleSpool, first: np.ndarray, second: np.ndarray, alike: SameCheck, look: StopCheck
) -> np.ndarray:
    """Return the similarity of each pair, 0 if it is below the threshold or the pair is not `alike`."""
    similarity = np.zeros(len(first))
    for begin in range(0, len(first), PAIRS_AT_A_TIME):
        look()
        piece = slice(begin, begin + PAIRS_AT_A_TIME)
        values = spool.jaccard(first[piece], second[piece])
        good = np.flatnonzero(values >= spool.threshold)
        good = good[alike(first[piece][good], second[piece][good])]
        similarity[piece][good] = values[good]
    return similarity


def _assign_by_pairs(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    left: np.ndarray,
    codes: np.ndarray,
    alike: SameCheck,
    chief: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """Assign the texts `left`, in order of preference, by the verified pairs among them."""
    low, high, values = pairs
    among = np.zeros(len(codes), bool)
    among[left] = True
    good = np.flatnonzero(among[low] & among[high] & (codes[low] == codes[high]))
    good = good[alike(low[good], high[good])]
    begin, end = np.concatenate([low[good], high[good]]), np.concatenate([high[good], low[good]])
    values = np.concatenate([values[good], values[good]])
    order = np.argsort(begin, kind="stable")
    begin, end, values = begin[order], end[order], values[order]
    starts = np.searchsorted(begin, left, side="left")
    ends = np.searchsorted(begin, left, side="right")
    free = among
    for text, start, stop in zip(left.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if not free[text]:
            continue
        free[text] = False
        near = np.flatnonzero(free[end[start:stop]]) + start
        members = end[near]
        chief[members], similarity[members] = text, values[near]
        free[members] = False


@dataclass(frozen=True)
class NearDuplicates:
    """Near duplicates of rows.

    `stands`: int64, the representative of each row (its own number if it has none). `similarity`: to that
    row; for a representative the highest of its rows, 0 for a row that is alone. `chain`: the first row of
    each set connected by near duplicates. `conflict`: bool, the row has the threshold similarity with a
    row of another label or answer. `uncompared`: as in Representatives. `prompts`: uint64, as in
    `prompts_and_answers`.
    """

    stands: np.ndarray
    similarity: np.ndarray
    chain: np.ndarray
    conflict: np.ndarray
    uncompared: int
    prompts: np.ndarray


@dataclass(frozen=True)
class NearProgress:
    """Progress callbacks. `on_bands`: for the bands of the sketches. `on_rows`: for the rows read."""

    on_bands: ReportProgress
    on_rows: Callable[[int], None] = lambda done: None


def find_near_duplicates(
    read: ReadBatches,
    threshold: float,
    folder: Path,
    progress: NearProgress,
    *,
    order: np.ndarray | None = None,
    strict: bool = True,
) -> NearDuplicates:
    """Find near duplicates among all rows that `read` yields.

    folder: for spool files. order: rank of each row; the row with the smaller rank represents others (the
    first row by default and among equals). strict: rows with another label or answer are no duplicates.
    `progress` may raise to cancel.
    """
    keys = join_keys(compute_folded_keys(batch, labels=strict) for batch in read(FOLDED))
    count = len(keys)
    units = group_equal(keys)
    first = units == np.arange(count)
    texts = np.flatnonzero(first)
    place = np.searchsorted(texts, units)  # position of each row's text among the sketches
    best = _find_best_rows(place, np.zeros(count) if order is None else order)
    with Sketches(threshold, folder) as sketches, ShingleSpool(threshold, folder) as answers:
        prompts = _sketch_all(read, first, sketches, progress.on_rows)
        clusters = find_clusters(sketches, progress.on_bands)
        codes = np.zeros(len(texts), np.int64)
        alike: SameCheck = _accept_all
        if strict:
            codes = _read_label_codes(read)[texts]
            alike = _make_answer_check(read, texts[_find_chained(clusters)], texts, answers)
        standing = choose_representatives(
            sketches, clusters, codes, _rank_texts(best, order), alike, lambda: progress.on_bands(0, 1)
        )
        conflict = _find_contradicted(clusters, codes, alike) if strict else np.zeros(len(texts), bool)
    return NearDuplicates(
        stands=best[standing.chief][place],
        similarity=_map_similarity(standing, place),
        chain=texts[clusters.label][place],
        conflict=conflict[place],
        uncompared=standing.uncompared,
        prompts=prompts,
    )


def _sketch_all(
    read: ReadBatches, first: np.ndarray, sketches: Sketches, on_rows: Callable[[int], None]
) -> np.ndarray:
    """Fill and close the sketches of the rows in `first` (bool); return the `prompts` of all rows."""
    prompts: list[np.ndarray] = []
    for sketch, asked in sketch_rows(read, first, sketches):
        sketches.add(sketch)
        prompts.append(asked)
        on_rows(sum(map(len, prompts)))
    sketches.close()
    return join_keys(prompts)


def _map_similarity(standing: Representatives, place: np.ndarray) -> np.ndarray:
    """Return the similarity of each row to its representative.

    It is 1 for rows of a text that has several rows and is its own representative.
    """
    count = len(standing.chief)
    own = (standing.chief == np.arange(count))[place]
    several = np.bincount(place, minlength=count)[place] > 1
    return np.where(own & several, 1.0, standing.similarity[place])


def _find_best_rows(place: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return for each text the row that represents all of its rows: the first one of the smallest order."""
    sorted_rows = np.lexsort((np.arange(len(place)), order, place))
    return sorted_rows[np.flatnonzero(np.diff(place[sorted_rows], prepend=-1))]


def _rank_texts(best: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Rank the texts as representatives: by `order`, then by row."""
    by = np.lexsort((best, np.zeros(len(best)) if order is None else order[best]))
    rank = np.empty(len(best), np.int64)
    rank[by] = np.arange(len(best))
    return rank


def _accept_all(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.ones(len(first), bool)


def _find_chained(clusters: Clusters) -> np.ndarray:
    """Return which texts are connected to another text."""
    sizes = np.bincount(clusters.label, minlength=len(clusters.label))
    return np.asarray(sizes[clusters.label] > 1)


def _read_label_codes(read: ReadBatches) -> np.ndarray:
    """Return a code for the label of each row, -1 if it has none."""
    code_of: dict[str, int] = {}
    codes = [
        np.fromiter(
            (
                -1 if label is None else code_of.setdefault(label, len(code_of))
                for label in batch["label"].to_pylist()
            ),
            np.int64,
            batch.num_rows,
        )
        for batch in read(("label",))
    ]
    return np.concatenate([np.zeros(0, np.int64), *codes])


def _make_answer_check(
    read: ReadBatches, chained: np.ndarray, texts: np.ndarray, spool: ShingleSpool
) -> SameCheck:
    """Make the check for equal answers and rejected answers of `chained` texts; plain texts have none."""
    count = len(texts)
    place = np.full(count, -1)
    place[np.searchsorted(texts, chained)] = np.arange(len(chained))
    folded = np.zeros((2, len(chained)), np.uint64)
    at = row = 0
    for batch in read(("messages", "rejected")):
        wanted = chained[(chained >= row) & (chained < row + batch.num_rows)] - row
        row += batch.num_rows
        if batch["messages"].null_count == batch.num_rows:
            spool.add_sets(build_shingle_sets([""] * (2 * len(wanted))))
            at += len(wanted)
            continue
        taken = batch.take(pa.array(wanted))
        sides = read_last_answers(taken), [text or "" for text in taken["rejected"].to_pylist()]
        pairs = [text for both in zip(*sides, strict=True) for text in both]
        spool.add_sets(build_shingle_sets(pairs))
        for side in (0, 1):
            hashes = [hash(normalise_text(text)) & 0xFFFFFFFFFFFFFFFF for text in pairs[side::2]]
            folded[side, at : at + len(wanted)] = np.array(hashes, np.uint64)
        at += len(wanted)
    spool.close()

    def alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        good = np.ones(len(first), bool)
        for side in (0, 1):
            here, there = place[first], place[second]
            same = folded[side, here] == folded[side, there]
            open_ = np.flatnonzero(~same)
            values = spool.jaccard(2 * here[open_] + side, 2 * there[open_] + side)
            same[open_] = values >= spool.threshold
            good &= same
        return good

    return alike


def _find_contradicted(clusters: Clusters, codes: np.ndarray, alike: SameCheck) -> np.ndarray:
    """Return the texts of verified pairs whose labels or answers differ."""
    low, high, _ = clusters.pairs
    apart = codes[low] != codes[high]
    same = np.flatnonzero(~apart)
    apart[same] = ~alike(low[same], high[same])
    conflict = np.zeros(len(codes), bool)
    conflict[low[apart]] = conflict[high[apart]] = True
    return conflict
