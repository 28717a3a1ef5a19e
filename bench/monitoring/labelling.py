"""Labelling the monitor's selection compared with random labelling, at the same number of labels.

    python bench/monitoring/labelling.py --banking77 TRAIN.csv --trec TRAIN.jsonl

A classifier (logistic regression on hashed n-grams) learns from few rows and classifies a stream. Then a
number of the stream's rows are labelled: at random, by its uncertainty, by uncertainty and distance from
the first rows, or as in a round (uncertain ones, 30% at random). It is trained again, and evaluated on
later rows of the stream. `same`: the stream is like the first rows. `new labels`: half of the labels are
missing from the first rows and appear in the stream. Differences are paired by seed, with Student's t over
seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.monitoring.label_candidates import LabelCandidate
from engine.monitoring.labelling import ReasonWeights, pick_candidates, rank_candidates

NEIGHBOURS = 3
POOL = 1_000  # rows of the stream that can be labelled
LATER = 1_500  # later rows, for the evaluation
WAYS = {  # weight of each reason, and the random share
    "unsure": (ReasonWeights(1, 0, 0), 0.0),
    "unsure and unlike": (ReasonWeights(1, 0.5, 0), 0.0),
    "a round": (ReasonWeights(1, 0, 0), 0.3),
}
Texts = list[tuple[str, str]]  # (text, label)
HASHED = HashingVectorizer(ngram_range=(1, 2), n_features=2**11, alternate_sign=False, norm="l2")


class Setting(NamedTuple):
    """A data set. first: number of rows labeled initially; budgets: numbers of rows labeled after that."""

    name: str
    rows: Texts
    first: int
    budgets: tuple[int, ...]


class Vectors(NamedTuple):
    """Vectors of a setting's rows, computed once."""

    rows: sparse.csr_matrix
    labels: NDArray[Any]


def _csv(path: Path) -> Texts:
    with open(path, encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def _jsonl(path: Path) -> Texts:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["coarse"]) for row in map(json.loads, lines)]


def _learned(vectors: Vectors, rows: NDArray[np.int64]) -> LogisticRegression:
    return LogisticRegression(C=30, max_iter=60).fit(vectors.rows[rows], vectors.labels[rows])


def _candidates(
    setting: Setting, vectors: Vectors, first: NDArray[np.int64], pool: NDArray[np.int64]
) -> list[LabelCandidate]:
    """Return the stream as logged: the confidence of each label, and how far each text is from the first
    rows.
    """
    chances = _learned(vectors, first).predict_proba(vectors.rows[pool]).max(axis=1)
    near = np.sort((vectors.rows[pool] @ vectors.rows[first].T).toarray(), axis=1)[:, -NEIGHBOURS:]
    distances = 1 - near.mean(axis=1)
    rows = zip(pool.tolist(), chances.tolist(), distances.tolist(), strict=True)
    nothing = {"alerted": False, "disliked": False, "mean_logprob": None, "input_topic": None}
    return [
        LabelCandidate(
            [{"role": "user", "content": setting.rows[place][0]}],
            [""],
            [{"kind": "labels", "confidence": sure, "abstained": False, "input_distance": far, **nothing}],
        )
        for place, sure, far in rows
    ]


def _seed(setting: Setting, vectors: Vectors, shifted: bool, seed: int) -> dict[tuple[int, str], float]:
    """Return (budget, way) -> accuracy minus that of as many random rows; the way "random" has its own
    accuracy.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(setting.rows))
    labels = sorted({label for _, label in setting.rows})
    early = set(random.permutation(labels)[: len(labels) // 2].tolist()) if shifted else set(labels)
    able = np.array([vectors.labels[place] in early for place in order])
    first = order[able][: setting.first]
    rest = order[~np.isin(order, first)]
    pool, later = rest[:POOL], rest[POOL : POOL + LATER]
    candidates = _candidates(setting, vectors, first, pool)
    gains: dict[tuple[int, str], float] = {}
    for budget in setting.budgets:
        drawn = random.permutation(len(pool))[:budget]
        plain = _accuracy(vectors, np.concatenate([first, pool[drawn]]), later)
        gains[budget, "random"] = plain
        for way, (weights, share) in WAYS.items():
            picked = pick_candidates(
                candidates, rank_candidates(candidates, weights), budget, random_share=share, seed=seed
            )
            rows = np.concatenate([first, pool[[entry.place for entry in picked]]])
            gains[budget, way] = _accuracy(vectors, rows, later) - plain
    return gains


def _accuracy(vectors: Vectors, rows: NDArray[np.int64], later: NDArray[np.int64]) -> float:
    answers = _learned(vectors, rows).predict(vectors.rows[later])
    return float((answers == vectors.labels[later]).mean())


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    mean, n = float(np.mean(values)), len(values)
    half = float(special.stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / n**0.5
    return mean, mean - half, mean + half


def simulate(settings: Sequence[Setting], seeds: int) -> None:
    """Print a line for each stream and budget."""
    print(f"| rows | stream | first | then | at random | {' | '.join(f'{way}, more' for way in WAYS)} |")
    print("|---|---|---|---|---|---|---|---|")
    for setting in settings:
        hashed = HASHED.transform([text for text, _ in setting.rows])
        vectors = Vectors(hashed, np.array([label for _, label in setting.rows]))
        for shifted in (False, True):
            drawn = [_seed(setting, vectors, shifted, seed) for seed in range(seeds)]
            for budget in setting.budgets:
                plain = 100 * float(np.mean([each[budget, "random"] for each in drawn]))
                gains = [_interval([100 * each[budget, way] for each in drawn]) for way in WAYS]
                cells = [f"{mean:+.1f} ({low:+.1f} to {high:+.1f})" for mean, low, high in gains]
                stream = "new labels" if shifted else "same"
                print(
                    f"| {setting.name} | {stream} | {setting.first} | {budget} | {plain:.1f}% |"
                    f" {' | '.join(cells)} |",
                    flush=True,
                )


def cost(count: int = 10_000) -> float:
    """Return the seconds for ranking `count` different requests and selecting 50 of them."""
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(2_000)]
    candidates = [
        LabelCandidate(
            [{"role": "user", "content": " ".join(random.choice(words, 20))}],
            [""],
            [{"kind": "labels", "confidence": float(random.random()), "abstained": False, "alerted": False,
              "disliked": False, "mean_logprob": None, "input_topic": "a", "input_distance": 0.5}],
        )
        for _ in range(count)
    ]  # fmt: skip
    began = time.perf_counter()
    pick_candidates(candidates, rank_candidates(candidates, ReasonWeights()), 50, random_share=0.3)
    return time.perf_counter() - began


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--banking77", type=Path)
    parser.add_argument("--trec", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    asked = parser.parse_args()
    settings = []
    if asked.trec:
        settings.append(Setting("trec (6 labels)", _jsonl(asked.trec), 150, (50, 200)))
    if asked.banking77:
        settings.append(Setting("banking77 (77 labels)", _csv(asked.banking77), 400, (100, 300)))
    simulate(settings, asked.seeds)
    print(f"Ranking 10,000 requests takes {cost():.2f} s.")


if __name__ == "__main__":
    main()
