"""How diverse a data set is, and what a random half of it would lose.

Every figure is taken on a sample of stated size `n`, so that sets of different size compare: most of these
numbers change with how much text they are taken from. Where the set is smaller, `n` says so.

Self-BLEU (Zhu et al. 2018): how well each row is predicted by the others, as BLEU-4 against all of them.

Lower is more diverse. Counts of an n-gram are clipped by the most that any other row has, of which the two
highest rows are enough to know, so that 200 rows take milliseconds. Precisions without a hit count half a
hit (as in NLTK's first smoothing), or short rows would all be 0.
"""

from __future__ import annotations

import gzip
import math
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.signals.embedded.embeddings import row_texts
from engine.signals.embedded.halves import half_loss
from engine.signals.embedded.projection import drawn
from store.documents.data.signal_figures import SetFigure

ORDERS = 4
Gram = tuple[str, ...]


def self_bleu(rows: list[list[str]]) -> float | None:
    """Mean over rows of at least four words, 0 to 1; None where fewer than two have them."""
    rows = [row for row in rows if len(row) >= ORDERS]
    if len(rows) < 2:
        return None
    logs = [0.0] * len(rows)
    for order in range(1, ORDERS + 1):
        counts = [Counter(zip(*(row[i:] for i in range(order)), strict=False)) for row in rows]
        best = _two_highest(counts)
        for i, own in enumerate(counts):
            hits = sum(min(n, _most_elsewhere(best[gram], i)) for gram, n in own.items())
            logs[i] += math.log((hits or 0.5) / own.total()) / ORDERS
    lengths = sorted(len(row) for row in rows)
    return sum(
        math.exp(log + _brevity(len(row), lengths)) for log, row in zip(logs, rows, strict=True)
    ) / len(rows)


def _two_highest(counts: list[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """n-gram -> (its highest count in a row, that row, its highest count in any other row)."""
    best: dict[Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, n in own.items():
            high, row, second = best.get(gram, (0, -1, 0))
            best[gram] = (n, i, high) if n > high else (high, row, max(second, n))
    return best


def _most_elsewhere(highest: tuple[int, int, int], i: int) -> int:
    high, row, second = highest
    return second if row == i else high


def _brevity(length: int, lengths: list[int]) -> float:
    """ln of the penalty against the other row of the nearest length (the shorter of two)."""
    others = lengths.copy()
    others.remove(length)
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return min(0.0, 1 - nearest / length)


WORDS = 20_000  # of which distinct words and pairs are counted
BYTES = 1_000_000  # of text that are compressed
ROWS = 5_000  # drawn for all of it
CHARACTERS = 2_000  # of a row
VENDI = 1_000  # rows
BLEU = 200  # rows
HALVES = 20  # from which the interval of the Vendi score comes
_WORD = re.compile(r"\w+")


def figures(
    rows_path: Path, vectors: np.ndarray, topics: np.ndarray, templates: list[str | None]
) -> dict[str, SetFigure]:
    """{"distinct_1": {"value", "n", …}, …}; value is None where the set is too small to say."""
    total = len(vectors)
    order = np.random.default_rng(0).permutation(drawn(total, ROWS))
    texts = [text or "" for text in row_texts(rows_path, CHARACTERS).take(pa.array(order)).to_pylist()]
    words = [_WORD.findall(text.lower()) for text in texts]
    sample = np.asarray(vectors[np.sort(order[:VENDI])])
    return {
        **distinct(words),
        "compression": compression(texts),
        "cluster_entropy": cluster_entropy(topics),
        "vendi": vendi_figure(sample),
        "top_template": top_template(templates),
        "self_bleu": {"value": self_bleu(words[:BLEU]), "n": min(BLEU, total), "unit": "rows"},
        **half_loss(np.asarray(vectors[order]), topics[order], words),
    }


def distinct(rows: list[list[str]]) -> dict[str, SetFigure]:
    """Share of distinct words, and of distinct pairs of neighbouring words, in the first `WORDS` words (Li et
    al. 2016, distinct-n); pairs do not reach over the end of a row."""
    singles: list[str] = []
    pairs: list[tuple[str, str]] = []
    for row in rows:
        row = row[: WORDS - len(singles)]
        singles += row
        pairs += pairwise(row)
        if len(singles) >= WORDS:
            break
    return {
        "distinct_1": {"value": _share(len(set(singles)), len(singles)), "n": len(singles), "unit": "words"},
        "distinct_2": {"value": _share(len(set(pairs)), len(pairs)), "n": len(pairs), "unit": "pairs"},
    }


def compression(texts: list[str]) -> SetFigure:
    """Compressed over raw size of about a megabyte of rows (gzip, level 6). Healthy: 0.3 to 0.5."""
    raw = bytearray()
    for count, text in enumerate(texts, 1):  # noqa: B007 (the rows that were taken)
        raw += text.encode("utf-8", "replace") + b"\n"
        if len(raw) >= BYTES:
            break
    else:
        count = len(texts)
    packed = len(gzip.compress(bytes(raw), 6, mtime=0))
    return {"value": _share(packed, len(raw)), "n": count, "unit": "rows", "bytes": len(raw)}


def cluster_entropy(topics: np.ndarray) -> SetFigure:
    """H / ln k of the shares of the k topics: 1 where all are equally frequent, 0 where one has every row."""
    shares = np.bincount(topics) / max(1, len(topics))
    k = len(shares)
    shares = shares[shares > 0]
    value = float(-(shares * np.log(shares)).sum() / np.log(k)) if k > 1 else None
    return {"value": value, "n": len(topics), "unit": "rows", "topics": k}


def vendi(vectors: np.ndarray) -> float:
    """exp(-Σ λ ln λ) over the eigenvalues λ of K / n with the cosine kernel (Friedman and Dieng 2023):
    how many rows without anything in common would be as diverse. Rows that are 0 are left out."""
    lengths = np.linalg.norm(vectors, axis=1)
    unit = (vectors[lengths > 0] / lengths[lengths > 0, None]).astype(np.float64)
    if not len(unit):
        return 0.0
    # XᵀX and XXᵀ have the same eigenvalues but for zeros; the smaller one is decomposed.
    kernel = unit.T @ unit if len(unit) > unit.shape[1] else unit @ unit.T
    values = np.linalg.eigvalsh(kernel / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_figure(sample: np.ndarray) -> SetFigure:
    """With a 95% interval by the delete-half jackknife (Shao and Wu 1989): a bootstrap would repeat
    rows, which the score takes for less diversity."""
    value = vendi(sample)
    random = np.random.default_rng(0)
    halves = [
        vendi(sample[random.choice(len(sample), len(sample) // 2, replace=False)])
        for _ in range(HALVES if len(sample) >= 8 else 0)
    ]
    reach = 1.96 * float(np.std(halves, ddof=1)) if halves else None
    low, high = (None, None) if reach is None else (max(1.0, value - reach), value + reach)
    return {"value": value, "low": low, "high": high, "n": len(sample), "unit": "rows"}


def top_template(templates: list[str | None]) -> SetFigure:
    """Share of the rows with the most frequent template, and which it is. Healthy: below 0.1."""
    counts = Counter(template for template in templates if template)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    return {
        "value": _share(count, len(templates)),
        "n": len(templates),
        "unit": "rows",
        "template": name,
        "templates": len(counts),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
