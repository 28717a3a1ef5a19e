"""The group `map`: position of each row on a semantic map, its topic and template, and the set's diversity.

Everything is computed from one embedding per row, with fixed seeds. Diversity figures are taken on a
sample of stated size `n`, because most of them depend on the amount of text: this makes data sets of
different size comparable. A smaller data set has a smaller `n`. Random halves show what a random half of
the rows would lose.
"""

from __future__ import annotations

import gzip
import math
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from engine.data.signals import topic_map
from engine.data.signals.embeddings import load_row_vectors, read_row_texts
from engine.data.signals.protocol import Progress
from engine.data.signals.topic_map import LAYOUT_ROWS, compute_components, compute_layout, sample_rows
from engine.worker.job import Phase, Phases, WorkerJob
from store.core.row_schemas import SetFigure
from store.data.config import ProfileConfig

# Templates: first words shared by many prompts, such as "Write a poem about". A row's template is the longest
# sequence of first words, from `MIN_OPENING_WORDS` to `MAX_OPENING_WORDS`, that at least 1% of the rows and
# at least five rows begin with, ignoring case. It has the spelling of its first row.

MIN_OPENING_WORDS, MAX_OPENING_WORDS = 3, 12  # words
OPENING_SHARE, OPENING_ROWS = 0.01, 5  # minimum share and number of rows


def find_templates(prompts: Sequence[str | None]) -> list[str | None]:
    """Return the template of each prompt, or None if too few prompts share its first words."""
    words = [(prompt or "").split(None, MAX_OPENING_WORDS)[:MAX_OPENING_WORDS] for prompt in prompts]
    least = max(OPENING_ROWS, int(np.ceil(OPENING_SHARE * len(words))))
    lengths = np.fromiter((len(row) for row in words), np.int64, len(words))
    group = np.zeros(len(words), np.int64)  # rows with equal words so far
    alive = np.arange(len(words))
    templates: list[str | None] = [None] * len(words)
    for length in range(1, MAX_OPENING_WORDS + 1):
        alive = alive[lengths[alive] >= length]
        if len(alive) < least:
            break
        codes, _ = pd.factorize(np.array([words[i][length - 1].casefold() for i in alive], dtype=object))
        keys = group[alive] * (int(codes.max()) + 1) + codes
        _, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        keep = counts[inverse] >= least
        if length >= MIN_OPENING_WORDS:
            spelled = {}
            for i, number in zip(alive[keep], inverse[keep], strict=True):
                if number not in spelled:
                    spelled[number] = " ".join(words[alive[first[number]]][:length])
                templates[i] = spelled[number]
        group[alive] = inverse
        alive = alive[keep]
    return templates


# What a random half of the rows would lose in diversity.
#
# Three losses, each the mean over `HALF_REPEATS` random halves with its spread: of topics, of distinct word
# pairs, and of coverage. Coverage compares the distance of the left-out rows to the nearest kept row with
# their distance to the nearest row of the whole set: 0 means that half covers the same ground, 0.5 that
# left-out rows are twice as far from any kept row.

HALF_REPEATS = 8
COVERAGE_ROWS = 2_000  # rows between which distances are computed
PAIRED_WORDS = 100  # words of a row whose pairs are counted


def compute_half_loss(
    vectors: np.ndarray, topics: np.ndarray, words: list[list[str]]
) -> dict[str, SetFigure]:
    """Compute the figures half_loss (coverage), half_loss_topics and half_loss_pairs.

    Each is {"value", "sd", "low", "high", "n", "repeats"}; rows must be in random order. Values are None
    for fewer than four rows.
    """
    pairs = [np.array(sorted({hash_pair(a, b) for a, b in pairwise(row[:PAIRED_WORDS])}),
             np.uint64) for row in words]  # fmt: skip
    random = np.random.default_rng(0)
    near = vectors[:COVERAGE_ROWS]
    distances = 1 - near @ near.T
    np.fill_diagonal(distances, np.inf)
    losses: dict[str, list[float | None]] = {"half_loss": [], "half_loss_topics": [], "half_loss_pairs": []}
    for _ in range(HALF_REPEATS if len(vectors) >= 4 else 0):
        kept = np.zeros(len(vectors), bool)
        kept[random.choice(len(vectors), len(vectors) // 2, replace=False)] = True
        losses["half_loss"].append(_compute_coverage(distances, kept[: len(near)]))
        losses["half_loss_topics"].append(1 - len(np.unique(topics[kept])) / len(np.unique(topics)))
        losses["half_loss_pairs"].append(_compute_distinct_loss(pairs, kept))
    n = {"half_loss": len(near), "half_loss_topics": len(vectors), "half_loss_pairs": len(vectors)}
    return {name: _summarise_halves(values, n[name]) for name, values in losses.items()}


def hash_pair(first: str, second: str) -> int:
    """Return a 64-bit hash of a pair of words that is the same in every process."""
    text = f"{first} {second}".encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _compute_coverage(distances: np.ndarray, kept: np.ndarray) -> float | None:
    """Return 1 - (mean distance to the nearest row) / (mean distance to the nearest kept row).

    Both means are over the rows left out.
    """
    left = ~kept
    if not kept.any() or not left.any():
        return None
    whole = float(distances[left].min(axis=1).clip(0).mean())
    half = float(distances[np.ix_(left, kept)].min(axis=1).clip(0).mean())
    return 1 - whole / half if half > 1e-9 else 0.0


def _compute_distinct_loss(pairs: list[np.ndarray], kept: np.ndarray) -> float | None:
    every = len(np.unique(np.concatenate(pairs)))
    if not every:
        return None
    return 1 - len(np.unique(np.concatenate([p for p, k in zip(pairs, kept, strict=True) if k]))) / every


def _summarise_halves(values: list[float | None], n: int) -> SetFigure:
    """Return mean, standard deviation and range over the halves."""
    measured = [value for value in values if value is not None]
    if not measured:
        return {"value": None, "n": n, "unit": "rows", "repeats": 0}
    return {
        "value": float(np.mean(measured)),
        "sd": float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        "low": float(min(measured)),
        "high": float(max(measured)),
        "n": n,
        "unit": "rows",
        "repeats": len(measured),
    }


# Self-BLEU (Zhu et al. 2018): how well each row is predicted by the others, as BLEU-4 against all of them.
# Lower is more diverse. The counts of an n-gram are clipped to the maximum in any other row. The two highest
# rows suffice for that, so that 200 rows take milliseconds. Precisions without a hit count half a hit (as in
# NLTK's first smoothing method), otherwise short rows would all be 0.

MAX_ORDER = 4
Gram = tuple[str, ...]


def self_bleu(rows: list[list[str]]) -> float | None:
    """Return the mean over rows of at least four words, 0 to 1; None for fewer than two such rows."""
    rows = [row for row in rows if len(row) >= MAX_ORDER]
    if len(rows) < 2:
        return None
    logs = [0.0] * len(rows)
    for order in range(1, MAX_ORDER + 1):
        counts = [Counter(zip(*(row[i:] for i in range(order)), strict=False)) for row in rows]
        best = _find_two_highest(counts)
        for i, own in enumerate(counts):
            hits = 0
            for gram, n in own.items():
                high, row_of_high, second = best[gram]
                hits += min(n, second if row_of_high == i else high)
            logs[i] += math.log((hits or 0.5) / own.total()) / MAX_ORDER
    lengths = sorted(len(row) for row in rows)
    return sum(
        math.exp(log + _compute_brevity(len(row), lengths)) for log, row in zip(logs, rows, strict=True)
    ) / len(rows)


def _find_two_highest(counts: list[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """Return n-gram -> (its highest count in a row, that row, its highest count in any other row)."""
    best: dict[Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, n in own.items():
            high, row, second = best.get(gram, (0, -1, 0))
            best[gram] = (n, i, high) if n > high else (high, row, max(second, n))
    return best


def _compute_brevity(length: int, lengths: list[int]) -> float:
    """Return the log brevity penalty against the other row of the closest length (the shorter of two)."""
    others = lengths.copy()
    others.remove(length)
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return min(0.0, 1 - nearest / length)


COUNTED_WORDS = 20_000  # words among which distinct words and pairs are counted
COMPRESSED_BYTES = 1_000_000  # bytes of text that are compressed
DIVERSITY_ROWS = 5_000  # rows drawn for all figures
ROW_CHARACTERS = 2_000  # characters of a row
VENDI_ROWS = 1_000  # rows
BLEU_ROWS = 200  # rows
VENDI_HALVES = 20  # halves for the interval of the Vendi score
_WORD = re.compile(r"\w+")


def compute_diversity_figures(
    rows_path: Path, vectors: np.ndarray, topics: np.ndarray, templates: list[str | None]
) -> dict[str, SetFigure]:
    """Return {"distinct_1": {"value", "n", …}, …}; value is None if the set is too small."""
    total = len(vectors)
    order = np.random.default_rng(0).permutation(sample_rows(total, DIVERSITY_ROWS))
    texts = [
        text or "" for text in read_row_texts(rows_path, ROW_CHARACTERS).take(pa.array(order)).to_pylist()
    ]
    words = [_WORD.findall(text.lower()) for text in texts]
    sample = np.asarray(vectors[np.sort(order[:VENDI_ROWS])])
    return {
        **distinct_shares(words),
        "compression": compression_ratio(texts),
        "cluster_entropy": cluster_entropy(topics),
        "vendi": estimate_vendi(sample),
        "top_template": find_top_template(templates),
        "self_bleu": {"value": self_bleu(words[:BLEU_ROWS]), "n": min(BLEU_ROWS, total), "unit": "rows"},
        **compute_half_loss(np.asarray(vectors[order]), topics[order], words),
    }


def distinct_shares(rows: list[list[str]]) -> dict[str, SetFigure]:
    """Return the shares of distinct words and word pairs in the first `COUNTED_WORDS` words (distinct-n).

    Li et al. 2016. Pairs don't cross the end of a row.
    """
    singles: list[str] = []
    pairs: list[tuple[str, str]] = []
    for row in rows:
        row = row[: COUNTED_WORDS - len(singles)]
        singles += row
        pairs += pairwise(row)
        if len(singles) >= COUNTED_WORDS:
            break
    return {
        "distinct_1": {
            "value": _compute_share(len(set(singles)), len(singles)),
            "n": len(singles),
            "unit": "words",
        },
        "distinct_2": {
            "value": _compute_share(len(set(pairs)), len(pairs)),
            "n": len(pairs),
            "unit": "pairs",
        },
    }


def compression_ratio(texts: list[str]) -> SetFigure:
    """Return compressed / raw size of about a megabyte of rows (gzip, level 6). Healthy: 0.3 to 0.5."""
    raw = bytearray()
    for count, text in enumerate(texts, 1):  # noqa: B007 (the rows that were taken)
        raw += text.encode("utf-8", "replace") + b"\n"
        if len(raw) >= COMPRESSED_BYTES:
            break
    else:
        count = len(texts)
    packed = len(gzip.compress(bytes(raw), 6, mtime=0))
    return {"value": _compute_share(packed, len(raw)), "n": count, "unit": "rows", "bytes": len(raw)}


def cluster_entropy(topics: np.ndarray) -> SetFigure:
    """Return H / ln k of the shares of the k topics.

    It is 1 if all are equally frequent, 0 if one has every row.
    """
    shares = np.bincount(topics) / max(1, len(topics))
    k = len(shares)
    shares = shares[shares > 0]
    value = float(-(shares * np.log(shares)).sum() / np.log(k)) if k > 1 else None
    return {"value": value, "n": len(topics), "unit": "rows", "topics": k}


def vendi_score(vectors: np.ndarray) -> float:
    """Return exp(-Σ λ ln λ) over the eigenvalues λ of K / n with the cosine kernel (Friedman and Dieng 2023).

    This is the number of completely dissimilar rows with the same diversity. Zero rows are left out.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    unit = (vectors[lengths > 0] / lengths[lengths > 0, None]).astype(np.float64)
    if not len(unit):
        return 0.0
    # XᵀX and XXᵀ have the same nonzero eigenvalues; decompose the smaller one.
    kernel = unit.T @ unit if len(unit) > unit.shape[1] else unit @ unit.T
    values = np.linalg.eigvalsh(kernel / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def estimate_vendi(sample: np.ndarray) -> SetFigure:
    """Return the Vendi score with a 95% interval by the delete-half jackknife (Shao and Wu 1989).

    A bootstrap would repeat rows, which the score counts as less diversity.
    """
    value = vendi_score(sample)
    random = np.random.default_rng(0)
    halves = [
        vendi_score(sample[random.choice(len(sample), len(sample) // 2, replace=False)])
        for _ in range(VENDI_HALVES if len(sample) >= 8 else 0)
    ]
    reach = 1.96 * float(np.std(halves, ddof=1)) if halves else None
    low, high = (None, None) if reach is None else (max(1.0, value - reach), value + reach)
    return {"value": value, "low": low, "high": high, "n": len(sample), "unit": "rows"}


def find_top_template(templates: list[str | None]) -> SetFigure:
    """Return the most frequent template and its share of the rows. Healthy: below 0.1."""
    counts = Counter(template for template in templates if template)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    return {
        "value": _compute_share(count, len(templates)),
        "n": len(templates),
        "unit": "rows",
        "template": name,
        "templates": len(counts),
    }


def _compute_share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


OPTIONS: tuple[str, ...] = ()
PROMPT_CHARACTERS = 400  # characters of a prompt that may contain its template


def phases(rows: int) -> Phases:
    """Return the phases in seconds on two cores, measured with 4,000 and 40,000 rows."""
    laid_out = min(rows, LAYOUT_ROWS)
    return (
        Phase("Reading what the rows mean", 1e-4 * rows),
        Phase("Finding the main directions", 2e-6 * rows),
        Phase("Finding topics", 0.5 + 1e-5 * rows),
        Phase("Laying out ", 3.5e-3 * laid_out),
        Phase("Placing the rows between their neighbours", 2e-5 * (rows - laid_out)),
        Phase("Finding templates", 1e-5 * rows),
        Phase("Measuring diversity", 1e-4 * rows),
    )


def compute(
    job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """Compute x, y, cluster and template of every row, and the diversity figures."""
    vectors = load_row_vectors(job.home, rows_path, progress)
    total = len(vectors)
    points = compute_components(vectors, progress)
    progress(0, 1, "step", "Finding topics")
    clusters = topic_map.cluster(points)
    sample = sample_rows(total, topic_map.NAMING_ROWS)
    texts = read_row_texts(rows_path, topic_map.FIRST_CHARACTERS).take(pa.array(sample)).to_pylist()
    names = topic_map.name_topics(clusters[sample], texts)
    places = compute_layout(points, progress)
    progress(0, 1, "phase", "Finding templates")
    templates = find_templates(read_row_texts(rows_path, PROMPT_CHARACTERS, prompts=True).to_pylist())
    progress(0, 1, "figure", "Measuring diversity")
    figures = compute_diversity_figures(rows_path, vectors, clusters, templates)
    table = pa.table(
        {
            "row_id": pa.array(np.arange(total, dtype=np.int64)),
            "x": pa.array(places[:, 0]),
            "y": pa.array(places[:, 1]),
            "cluster": pa.DictionaryArray.from_arrays(pa.array(clusters), pa.array(names, pa.string())).cast(
                pa.string()
            ),
            "template": pa.array(templates, pa.string()),
        }
    )
    return table, figures
