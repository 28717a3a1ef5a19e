"""What label the other rows would give each row: out-of-fold probabilities of a small classifier.

Features are the row's vector of meaning beside its words and character n-grams (TF-IDF, reduced to `REDUCED`
directions): on questions and moods, where small words decide, these raise the average precision of found
label errors from 0.62 to 0.75; on topics they add little. A logistic regression is trained on four of five
folds and asked about the fifth. Rows of equal text lie in one fold, or a row would be judged by its copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from engine.signals.group import Progress

FOLDS = 5
REDUCED = 200
TRAINED = 20_000  # rows at most that a fold's classifier, and the features, are learned from
OF_CLASS = 40  # rows of a class that are kept in them where there are more rows than that
CHUNK = 10_000
INVERSE_REGULARISATION = 3.0
ITERATIONS = 80
SEED = 0


@dataclass
class Judged:
    """probabilities float32 [rows, classes] out of fold; trained: rows that each fold learned from."""

    probabilities: np.ndarray
    trained: int


def folds(texts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The fold of each row, int8: each label is dealt evenly; rows of equal text (equal numbers in `texts`)
    go together, with the label of the first of them."""
    _, first, group = np.unique(texts, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(SEED).permutation(len(first))
    order = shuffled[np.argsort(labels[first][shuffled], kind="stable")]
    of_group = np.empty(len(first), np.int8)
    of_group[order] = np.arange(len(order)) % FOLDS  # neighbours in a label go to different folds
    return of_group[group]


def judge(
    texts: Sequence[str], vectors: np.ndarray, labels: np.ndarray, fold: np.ndarray, progress: Progress
) -> Judged:
    """Probabilities of the classes 0 … max(labels) for rows with texts, vectors and labels."""
    with threadpool_limits(1):  # equal numbers on every run
        features = _features(texts, vectors, labels, progress)
        probabilities = np.zeros((len(labels), int(labels.max()) + 1), np.float32)
        trained = 0
        for number in range(FOLDS):
            progress(number, FOLDS, "folds", "Learning the labels")
            rows = np.flatnonzero(fold != number)
            rows = rows[_some(labels[rows], TRAINED)]
            asked = np.flatnonzero(fold == number)
            if not len(asked):
                continue
            model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=ITERATIONS)
            with warnings.catch_warnings():  # the last iterations don't change the ranking
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(features[rows], labels[rows])
            for first in range(0, len(asked), CHUNK):
                part = asked[first : first + CHUNK]
                probabilities[part[:, None], model.classes_[None, :]] = model.predict_proba(features[part])
            trained = max(trained, len(rows))
    return Judged(probabilities, trained)


def _features(
    texts: Sequence[str], vectors: np.ndarray, labels: np.ndarray, progress: Progress
) -> np.ndarray:
    """float32 [rows, 256 + at most 200]."""
    sample = _some(labels, TRAINED)
    drawn = [texts[i] for i in sample]
    rare = 2 if len(drawn) >= 500 else 1
    progress(0, 1, "features", "Counting words and characters")
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=rare, max_features=50_000,
                            token_pattern=r"(?u)\b\w+\b")  # fmt: skip
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=rare, max_features=50_000
    )
    counted = []
    for counter in (words, letters):
        try:
            counted.append(counter.fit(drawn))
        except ValueError:  # no row has a word
            continue
    center = vectors[sample].mean(axis=0)
    if not counted:
        return np.asarray(vectors - center, np.float32)
    fitted = sparse.hstack([counter.transform(drawn) for counter in counted]).tocsr()
    reduced = TruncatedSVD(
        max(1, min(REDUCED, fitted.shape[1] - 1, len(drawn) - 1)), n_iter=3, random_state=SEED
    )
    reduced.fit(fitted)
    features = np.empty((len(texts), vectors.shape[1] + reduced.n_components), np.float32)
    for first in range(0, len(texts), CHUNK):
        progress(first, len(texts), "rows", "Counting words and characters")
        part = list(texts[first : first + CHUNK])
        lesser = reduced.transform(sparse.hstack([counter.transform(part) for counter in counted]).tocsr())
        lengths = np.linalg.norm(lesser, axis=1, keepdims=True)
        features[first : first + CHUNK, : vectors.shape[1]] = vectors[first : first + CHUNK] - center
        features[first : first + CHUNK, vectors.shape[1] :] = lesser / np.maximum(lengths, 1e-9)
    return features


def _some(labels: np.ndarray, most: int) -> np.ndarray:
    """Places of about `most` rows drawn by seed, with some of every class; all where there are fewer."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class], side="left")
    of_every = by_class[np.arange(len(by_class)) - starts < OF_CLASS]
    return np.union1d(order[:most], of_every)
