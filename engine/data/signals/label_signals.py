"""The group `labels`: likely label errors, by confident learning (Northcutt et al. 2021, cleanlab).

A small classifier gives each row out-of-fold probabilities from its embedding, words and character
n-grams. A row is suspect if the other rows predict another label for it, with more confidence than the
row's own label usually gets. Classes with fewer distinct texts than folds can't be judged: their rows stay
null and are counted. The label itself is never part of the features.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from engine.data.signals.embeddings import EMBEDDED_CHARACTERS, load_row_vectors, read_row_texts
from engine.data.signals.protocol import Progress
from engine.worker.job import Phase, Phases, WorkerJob
from store.core.errors import DataError
from store.core.row_schemas import SetFigure
from store.data.config import ProfileConfig

# Features are the row's embedding plus its words and character n-grams (TF-IDF, reduced to `REDUCED`
# dimensions). On questions and moods, where function words decide, the latter raise the average precision of
# the label errors found from 0.62 to 0.75; on topics they add little. A logistic regression is trained on
# four of five folds and predicts the fifth. Rows of equal text are in one fold, otherwise a row would be
# judged by its copy.

FOLDS = 5
REDUCED = 200
MAX_TRAINING_ROWS = 20_000  # maximum rows that a fold's classifier and the features are fitted on
CLASS_ROWS = 40  # rows of each class that stay in such a sample
CHUNK = 10_000
INVERSE_REGULARISATION = 3.0
ITERATIONS = 80
SEED = 0


@dataclass
class OutOfFoldPrediction:
    """probabilities: float32 [rows, classes], out of fold. trained: number of training rows of each fold."""

    probabilities: np.ndarray
    trained: int


def assign_folds(texts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the fold of each row, int8, with each label spread evenly.

    Rows of equal text (equal numbers in `texts`) are in the same fold, by the label of the first of them.
    """
    _, first, group = np.unique(texts, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(SEED).permutation(len(first))
    order = shuffled[np.argsort(labels[first][shuffled], kind="stable")]
    of_group = np.empty(len(first), np.int8)
    of_group[order] = np.arange(len(order)) % FOLDS  # neighbours with the same label are in different folds
    return of_group[group]


def predict_out_of_fold(
    texts: Sequence[str], vectors: np.ndarray, labels: np.ndarray, fold: np.ndarray, progress: Progress
) -> OutOfFoldPrediction:
    """Predict probabilities of the classes 0 … max(labels) from the texts and vectors of rows."""
    with threadpool_limits(1):  # reproducible results
        features = _build_features(texts, vectors, labels, progress)
        probabilities = np.zeros((len(labels), int(labels.max()) + 1), np.float32)
        trained = 0
        for number in range(FOLDS):
            progress(number, FOLDS, "folds", "Learning the labels")
            rows = np.flatnonzero(fold != number)
            rows = rows[_sample_rows(labels[rows], MAX_TRAINING_ROWS)]
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
    return OutOfFoldPrediction(probabilities, trained)


def _build_features(
    texts: Sequence[str], vectors: np.ndarray, labels: np.ndarray, progress: Progress
) -> np.ndarray:
    """Build the features, float32 [rows, 256 + at most 200]."""
    sample = _sample_rows(labels, MAX_TRAINING_ROWS)
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
        except ValueError:  # no row has words
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


def _sample_rows(labels: np.ndarray, most: int) -> np.ndarray:
    """Return positions of about `most` rows drawn by seed, with some of every class.

    Returns all positions if there are fewer rows.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class], side="left")
    of_every = by_class[np.arange(len(by_class)) - starts < CLASS_ROWS]
    return np.union1d(order[:most], of_every)


OPTIONS: tuple[str, ...] = ()
MAX_CLASSES = 1_000
MAX_CELLS = 200_000_000  # rows times classes: 0.8 GB of probabilities
PAIRS = 10  # pairs of confused classes that are listed


def phases(rows: int) -> Phases:
    """Return the phases in seconds on two cores, measured with 4,000 and 40,000 rows of eight labels."""
    learned = min(rows, MAX_TRAINING_ROWS)
    return (
        Phase("Reading what the rows mean", 1e-4 * rows),
        Phase("Counting words and characters", 1e-3 * rows),
        Phase("Learning the labels", 4e-4 * learned),
        Phase("Looking for wrong labels", 0.5),
    )


def compute(
    job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """Compute label_confidence, label_suggested, label_suspect and label_rank, null for unjudged rows.

    Figures of the set: confused, unjudged and accuracy. Raises DataError unless two labels can be judged.
    """
    given = pq.read_table(rows_path, columns=["label"])["label"]
    total = len(given)
    if given.null_count == total:
        raise DataError("The data set has no labels.", fix="Import it in the format text and label.")
    texts = read_row_texts(rows_path, EMBEDDED_CHARACTERS)
    same_text = np.concatenate([_hash_texts(chunk) for chunk in texts.chunks])
    coded = given.combine_chunks().dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    rows, classes = find_judged_rows(codes, same_text)
    _check(len(rows), classes, coded.dictionary)
    number = np.full(len(coded.dictionary), -1)
    number[classes] = np.arange(len(classes))
    labels = number[codes[rows]]
    vectors = np.asarray(load_row_vectors(job.home, rows_path, progress)[rows])
    judged = predict_out_of_fold(
        texts.take(pa.array(rows)).to_pylist(),
        vectors,
        labels,
        assign_folds(same_text[rows], labels),
        progress,
    )
    progress(0, 1, "step", "Looking for wrong labels")
    suspects, quality = find_suspect_labels(labels, judged.probabilities)
    suggested = judged.probabilities.argmax(axis=1)
    names = pc.take(coded.dictionary, pa.array(classes)).to_pylist()
    columns = {
        "label_confidence": (judged.probabilities[np.arange(len(rows)), labels], pa.float32()),
        "label_suggested": ([names[i] for i in suggested], pa.string()),
        "label_suspect": (suspects, pa.bool_()),
        "label_rank": (rank_quality(quality), pa.int32()),
    }
    right = float((suggested == labels).mean())
    return _build_table(columns, rows, total), {
        "confused": summarise_confusions(labels, suggested, suspects, names),
        "unjudged": _summarise_unjudged(codes, classes, total, coded.dictionary),
        "accuracy": {"value": right, "n": len(rows), "unit": "rows", "trained_rows": judged.trained},
    }


def _hash_texts(texts: pa.Array) -> np.ndarray:
    """Return int64 hashes that are equal for equal texts, ignoring case."""
    lower = pc.utf8_lower(texts).to_numpy(zero_copy_only=False)
    return pd.util.hash_array(lower, categorize=False).view(np.int64)


def find_judged_rows(codes: np.ndarray, same_text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and classes with at least as many distinct texts as folds. Codes below 0: no label."""
    labelled = np.flatnonzero(codes >= 0)
    pairs = np.unique(np.stack([codes[labelled], same_text[labelled]]), axis=1)
    texts_of = np.bincount(pairs[0], minlength=int(codes.max()) + 1)
    classes = np.flatnonzero(texts_of >= FOLDS)
    return labelled[np.isin(codes[labelled], classes)], classes


def _check(rows: int, classes: np.ndarray, names: pa.Array) -> None:
    if len(names) < 2:
        raise DataError(
            f"All rows have the same label {names[0].as_py()!r}.", fix="At least two labels are needed."
        )
    if len(classes) < 2:
        raise DataError(
            f"Of {len(names)} labels {len(classes)} have the {FOLDS} different texts that judging needs.",
            fix="Add rows, or map the label column.",
        )
    if len(classes) > MAX_CLASSES or rows * len(classes) > MAX_CELLS:
        raise DataError(
            f"{rows:,} rows with {len(classes):,} labels are too many to judge:"
            f" at most {MAX_CLASSES:,} labels, and {MAX_CELLS:,} rows times labels.",
            fix="Map a column with fewer labels, or judge a part of the rows.",
        )


def find_suspect_labels(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (suspect bool [rows], quality float [rows]: the probability of the row's own label)."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    suspects = find_label_issues(labels, probabilities, n_jobs=1)
    return np.asarray(suspects), get_label_quality_scores(labels, probabilities, method="self_confidence")


def rank_quality(quality: np.ndarray) -> np.ndarray:
    """Return the rank of each row, 1 for the lowest quality; ties in row order."""
    order = np.argsort(quality, kind="stable")
    ranked = np.empty(len(order), np.int32)
    ranked[order] = np.arange(1, len(order) + 1)
    return ranked


def summarise_confusions(
    labels: np.ndarray, suggested: np.ndarray, suspects: np.ndarray, names: list[str]
) -> SetFigure:
    """Summarize the confusions among suspect rows.

    `pairs`: [given, suggested, suspects], the most frequent first; they cover `value` of `n` suspects.
    """
    counts = Counter(zip(labels[suspects].tolist(), suggested[suspects].tolist(), strict=True))
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:PAIRS]
    pairs = [(names[given], names[other], count) for (given, other), count in top]
    return {
        "value": sum(count for *_, count in pairs),
        "n": int(suspects.sum()),
        "unit": "suspected rows",
        "pairs": pairs,
    }


def _summarise_unjudged(codes: np.ndarray, classes: np.ndarray, total: int, names: pa.Array) -> SetFigure:
    rare = np.setdiff1d(np.arange(len(names)), classes)
    return {
        "value": int(np.isin(codes, rare).sum() + (codes < 0).sum()),
        "n": total,
        "unit": "rows",
        "without_label": int((codes < 0).sum()),
        "rare_labels": len(rare),
        "examples": pc.take(names, pa.array(rare[:20])).to_pylist(),
    }


def _build_table(columns: dict[str, tuple[Any, pa.DataType]], rows: np.ndarray, total: int) -> pa.Table:
    """Build a table of `total` rows; columns: the values at `rows` and their type, null elsewhere."""
    place = np.full(total, -1)
    place[rows] = np.arange(len(rows))
    places = pa.array(place, mask=place < 0)
    return pa.table(
        {"row_id": pa.array(np.arange(total, dtype=np.int64))}
        | {name: pa.array(values, kind).take(places) for name, (values, kind) in columns.items()}
    )
