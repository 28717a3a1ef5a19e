"""Near duplicates: speed compared with datasketch, and accuracy compared with brute force.

    python bench/detection/duplicates.py [--json]

Rows come from this machine's own Python documentation, recombined; some are copies with a share of their
words changed, so that similarities of planted pairs range from 0.3 to 1. Ours is timed from texts to
verified clusters; datasketch in its documented use (MinHash of 128 permutations, `update` for each
shingle, insert and query of MinHashLSH) verifies nothing. Both get the same texts alternately, in one
process. Brute force is the product of the sparse matrix of rows and shingles with itself: the exact
Jaccard similarity of every pair, from words split by other code than ours.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bench.report import Figure, Section, Skipped, as_json
from engine.data.readers.named_datasets import BuiltinReader
from engine.data.similarity.minhash_clusters import Clusters, Sketches, find_clusters
from engine.data.similarity.text_overlap import normalise_text

THRESHOLD = 0.7
PLANTED_ROWS = 20_000
TIMED_ROWS = 3_000  # per round; datasketch takes seconds for these
TURNS = 3
FASTER = 20.0  # minimum speed-up over datasketch, in rows per second
PRECISION, RECALL = 0.99, 0.95
BATCH = 4_000
SPREAD = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)  # share of the words changed in a copy
BLOCK = 500  # rows of the product at a time


def texts(rows: int, seed: int) -> list[str]:
    """Make this number of texts of about 300 characters; a third are edited copies of others."""
    source = [row for _, row in BuiltinReader().rows() if isinstance(row, dict)]
    words = " ".join(row["completion"] for row in source).split()
    draw = random.Random(seed)
    made: list[str] = []
    while len(made) < rows:
        passage = " ".join(row["completion"] for row in draw.choices(source, k=4)).split()
        begin = draw.randrange(max(1, len(passage) - 60))
        original = passage[begin : begin + draw.randint(25, 60)]
        made.append(" ".join(original))
        if draw.random() < 0.33:
            for _ in range(draw.randint(1, 3)):
                share = draw.choice(SPREAD)
                made.append(" ".join(draw.choice(words) if draw.random() < share else w for w in original))
    draw.shuffle(made)
    return made[:rows]


def ours(rows: list[str]) -> Clusters:
    """Return the verified clusters of the texts."""
    with tempfile.TemporaryDirectory() as folder, Sketches(THRESHOLD, Path(folder)) as sketches:
        for begin in range(0, len(rows), BATCH):
            sketches.add(sketches.sketch(rows[begin : begin + BATCH]))
        sketches.close()
        return find_clusters(sketches, lambda done, total: None)


def theirs(rows: list[str]) -> list[list[Any]]:
    """Return datasketch's unverified near duplicates of each text."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise Skipped("datasketch is not installed") from error
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    hashes = []
    for number, row in enumerate(rows):
        words = normalise_text(row).split()
        sketch = MinHash(num_perm=128)
        for at in range(max(1, len(words) - 4)):
            sketch.update(" ".join(words[at : at + 5]).encode("utf-8"))
        index.insert(number, sketch)
        hashes.append(sketch)
    return [index.query(sketch) for sketch in hashes]


def similar(rows: list[str]) -> list[tuple[int, int]]:
    """Return every pair of texts with a Jaccard similarity of at least THRESHOLD, by brute force."""
    ids: dict[str, int] = {}
    sets = []
    for row in rows:
        words = _words(row)
        shingles = {" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))}
        sets.append([ids.setdefault(shingle, len(ids)) for shingle in shingles])
    sizes = np.asarray([len(shingle_ids) for shingle_ids in sets])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(ends[-1], dtype=np.int32)
    matrix = csr_array((ones, np.concatenate(sets), ends), shape=(len(rows), len(ids)))
    turned = matrix.T.tocsr()
    pairs = []
    for begin in range(0, len(rows), BLOCK):
        shared = (matrix[begin : begin + BLOCK] @ turned).tocoo()
        first, second = shared.coords[0] + begin, shared.coords[1]
        enough = shared.data >= THRESHOLD * (sizes[first] + sizes[second] - shared.data) - 1e-9
        pairs += [(int(a), int(b)) for a, b in zip(first[enough], second[enough], strict=True) if a < b]
    return pairs


def _words(text: str) -> list[str]:
    """Split a text into the words of `engine.data.similarity.text_overlap`; an independent implementation,
    one character at a time.
    """
    words, running = [], False
    for character in normalise_text(text):
        if character.isalnum() or character == "_":
            words += [] if running else [""]
            words[-1] += character
            running = True
        else:
            running = False
            words += [character] if character in "+-*/%#@&\\<>=~^$" else []
    return words


def right(rows: list[str]) -> list[Figure]:
    """Compute precision (share of the pairs in our clusters that are in one cluster by brute force) and
    recall (share of the brute-force pairs that are in one of our clusters).
    """
    true = np.asarray(similar(rows)).reshape(-1, 2)
    label = ours(rows).label
    links = csr_array((np.ones(len(true)), (true[:, 0], true[:, 1])), shape=(len(rows), len(rows)))
    real = connected_components(links, directed=False)[1]
    joined = good = 0
    for cluster in np.split(np.argsort(label, kind="stable"), np.flatnonzero(np.diff(np.sort(label))) + 1):
        joined += len(cluster) * (len(cluster) - 1) // 2
        _, counts = np.unique(real[cluster], return_counts=True)
        good += int((counts * (counts - 1) // 2).sum())
    recalled = np.count_nonzero(label[true[:, 0]] == label[true[:, 1]])
    return [
        Figure(f"pairs of {len(rows):,} rows that are near duplicates", len(true)),
        Figure("precision against brute force", good / joined, "", PRECISION, digits=4),
        Figure("recall against brute force", recalled / len(true), "", RECALL, digits=4),
    ]


def fast(rows: list[str]) -> list[Figure]:
    """Measure the rows per second of both, alternately; the ratio is the median over the rounds."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    ours(rows[:100])  # tables of characters are built once per process
    for turn in range(TURNS):
        part = rows[turn * TIMED_ROWS : (turn + 1) * TIMED_ROWS]
        for name, find in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            find(part)
            seconds[name].append(time.perf_counter() - began)
    ratios = [their / our for their, our in zip(seconds["theirs"], seconds["ours"], strict=True)]
    median = {name: TIMED_ROWS / statistics.median(taken) for name, taken in seconds.items()}
    return [
        Figure("near duplicates: rows a second, verified", median["ours"]),
        Figure("datasketch: rows a second, not verified", median["theirs"]),
        Figure("times as fast as datasketch", statistics.median(ratios), "×", FASTER, digits=1),
    ]


def near_duplicates(_: object = None) -> list[Figure]:
    """Measure speed and accuracy, as the section of `bench/data.py`."""
    rows = texts(PLANTED_ROWS, seed=0)
    return [*fast(rows), *right(rows)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    section = Section("Near duplicates", near_duplicates())
    if options.json:
        print(as_json([section]))
    else:
        section.show()
    return int(any(figure.missed for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
