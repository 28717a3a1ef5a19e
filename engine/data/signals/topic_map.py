"""Topics and the semantic map of a data set: clusters, their names, and the position of each row.

Names come from the words that distinguish a topic from the others (class TF-IDF), positions from PCA and
t-SNE. Seeds are fixed, so every run gives the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from engine.data.signals.protocol import Progress

# The number of topics depends on the number of rows only, so that data sets of equal size are comparable. A
# name has the three words of the highest class TF-IDF (Grootendorst 2022: frequency of a word in the topic,
# times the logarithm of its rarity over all topics). Names are distinct, and the same rows give the same
# names.

MAX_TOPICS = 30  # topics; more can't be distinguished on a map
NAME_WORDS = 3  # words in a name
NAMING_ROWS = 100_000  # rows whose words are counted
FIRST_CHARACTERS = 400  # characters of a row in which words are counted
WORD = r"(?u)\b[^\W\d_][\w'’-]{2,30}\b"
# Contractions and words that don't characterize a topic.
FILLER_WORDS = {"don't", "i'm", "can't", "i've", "it's", "does", "did", "i'd", "i'll", "isn't", "doesn't",
    "didn't",
         "won't", "just", "like", "dont", "cant", "ill", "yes", "that's", "you're", "what's"}  # fmt: skip
ANY_WORD = r"(?u)\b[\w'’-]+\b"
PHRASE = (2, 4)  # minimum and maximum number of words
MIN_PHRASE_ROWS = 3  # minimum rows that contain a phrase
TOPIC_SEED = 0


def choose_topic_count(rows: int) -> int:
    """Return 0.35 times the square root of the rows, from 1 (below 8 rows) to 30.

    For example 16 for 2,000 rows, and 30 from 7,300.
    """
    return 1 if rows < 8 else max(2, min(MAX_TOPICS, round(0.35 * math.sqrt(rows))))


def cluster(points: np.ndarray) -> np.ndarray:
    """Return the topic of each row, int32 [rows], numbered by size, the largest first."""
    k = min(choose_topic_count(len(points)), len(np.unique(np.round(points[:5_000], 5), axis=0)))
    if k < 2:
        return np.zeros(len(points), np.int32)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    directions = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
    means = MiniBatchKMeans(k, batch_size=4096, n_init=5, max_iter=60, random_state=TOPIC_SEED)
    with threadpool_limits(1):  # reproducible topics
        labels = means.fit_predict(directions)
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    number = np.empty(k, np.int32)
    number[order] = np.arange(k, dtype=np.int32)
    numbered: np.ndarray = number[labels]
    return numbered


def name_topics(topics: np.ndarray, texts: Sequence[str]) -> list[str]:
    """Return a distinct name for each topic, from the texts of (a sample of) its rows."""
    count = int(topics.max()) + 1
    joined = [" ".join(text[:FIRST_CHARACTERS] for text, t in zip(texts, topics, strict=True) if t == topic)
              for topic in range(count)]  # fmt: skip
    counter = CountVectorizer(
        lowercase=True,
        token_pattern=WORD,
        stop_words=sorted(ENGLISH_STOP_WORDS | FILLER_WORDS),
        max_features=20_000,
    )
    try:
        counts = counter.fit_transform(joined).toarray().astype(np.float64)
    except ValueError:  # no row has words
        return [f"Topic {topic + 1}" for topic in range(count)]
    words = counter.get_feature_names_out()
    of_topic, of_word = counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    weight = counts / np.maximum(of_topic, 1) * np.log1p(of_topic.mean() / of_word)
    taken: list[str] = []
    for topic in range(count):
        order = np.lexsort((np.arange(len(words)), -weight[topic]))
        telling = [str(words[i]) for i in order[:12] if weight[topic, i] > 0]
        taken.append(_choose_distinct_name(telling, topic, taken))
    return taken


def describe_topics(topics: np.ndarray, texts: Sequence[str]) -> list[str]:
    """Return a distinct phrase for each topic.

    A phrase has two to four words that are adjacent in several of its rows and seldom in others ("lost my
    card"), so that it doesn't quote a single person. Without such a phrase, distinguishing words are
    joined ("card, cash and refund").
    """
    usual = [_format_phrase(name) for name in name_topics(topics, texts)]
    counter = CountVectorizer(token_pattern=ANY_WORD, ngram_range=PHRASE, binary=True, max_features=50_000)
    try:
        counts = counter.fit_transform([text[:FIRST_CHARACTERS] for text in texts])
    except ValueError:  # no row has two words
        return usual
    phrases = [str(phrase) for phrase in counter.get_feature_names_out()]
    overall = np.asarray(counts.sum(axis=0)).ravel()
    empty = ENGLISH_STOP_WORDS | FILLER_WORDS  # no phrase begins or ends with one
    telling = np.array([empty.isdisjoint((words[0], words[-1])) for words in map(str.split, phrases)])
    lengths = np.array([1 + 0.3 * phrase.count(" ") for phrase in phrases])
    described: list[str] = []
    for topic, name in enumerate(usual):
        rows = topics == topic
        here = np.asarray(counts[rows].sum(axis=0)).ravel()
        weight = here / max(1, int(rows.sum())) * np.log1p(here / np.maximum(1, overall - here)) * lengths
        weight[~telling | (here < MIN_PHRASE_ROWS)] = 0
        order = np.lexsort((np.arange(len(phrases)), -weight))
        fitting = (phrases[i] for i in order[:20] if weight[i] > 0 and phrases[i] not in described)
        described.append(next(fitting, name))
    return described


def _format_phrase(name: str) -> str:
    if name.startswith("Topic "):
        return f"few words ({name.removeprefix('Topic ')})"
    *first, last = name.split(", ")
    return f"{', '.join(first)} and {last}" if first else last


def _choose_distinct_name(telling: list[str], topic: int, taken: list[str]) -> str:
    """Return three words that don't repeat each other (card, cards), or more if another topic has those."""
    chosen: list[str] = []
    for word in telling:
        if not any(word.startswith(other[:-1]) or other.startswith(word[:-1]) for other in chosen):
            chosen.append(word)
    for length in range(NAME_WORDS, len(chosen) + 1):
        if (name := ", ".join(chosen[:length])) not in taken:
            return name
    name = ", ".join(chosen[:NAME_WORDS])
    return f"{name} ({topic + 1})" if name in taken else name or f"Topic {topic + 1}"


# The vectors are centered and reduced to `COMPONENTS` principal components. Up to `LAYOUT_ROWS` distinct rows
# are laid out by t-SNE (van der Maaten and Hinton 2008), which shows clusters. Every other row is placed at
# the mean of its nearest neighbours among them, weighted by inverse squared distance, so that equal rows
# share a position. Only neighbourhoods are meaningful on such a map; distances between clusters and their
# sizes are not.

COMPONENTS = 30
COMPONENT_ROWS = 50_000  # rows that the components are fitted on
LAYOUT_ROWS = 4_000  # rows laid out by t-SNE
NEIGHBOURS = 6  # neighbours that determine the position of each other row
LAYOUT_CHUNK = 20_000
MIN_LAYOUT_ROWS = 12  # minimum distinct rows for t-SNE
LAYOUT_SEED = 0


def compute_components(vectors: np.ndarray, progress: Progress) -> np.ndarray:
    """Return the rows' principal components, float32 [rows, at most 30], fitted on a sample of many rows."""
    total, width = vectors.shape
    if total < 2:
        return np.zeros((total, 1), np.float32)
    sample = np.asarray(vectors[sample_rows(total, COMPONENT_ROWS)])
    fitted = PCA(min(COMPONENTS, len(sample), width), svd_solver="full", random_state=LAYOUT_SEED).fit(sample)
    reduced = np.empty((total, fitted.n_components_), np.float32)
    for first in range(0, total, LAYOUT_CHUNK):
        progress(first, total, "rows reduced", "Finding the main directions")
        reduced[first : first + LAYOUT_CHUNK] = fitted.transform(
            np.asarray(vectors[first : first + LAYOUT_CHUNK])
        )
    return reduced


def sample_rows(total: int, most: int, seed: int = LAYOUT_SEED) -> np.ndarray:
    """Return at most `most` of `total` rows, drawn by seed, in order."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def compute_layout(points: np.ndarray, progress: Progress) -> np.ndarray:
    """Return positions on the map, float32 [rows, 2], within about 10 units of 0."""
    sample = sample_rows(len(points), 4 * LAYOUT_ROWS)
    _, distinct = np.unique(np.round(points[sample], 5), axis=0, return_index=True)
    sample = sample[np.sort(distinct)]
    sample = sample[sample_rows(len(sample), LAYOUT_ROWS)]
    progress(0, len(sample), "rows laid out", f"Laying out {len(sample):,} rows")
    placed = _spread_points(points[sample])
    if len(sample) == len(points):
        return placed
    return _place_points(points, points[sample], placed, progress)


def _spread_points(points: np.ndarray) -> np.ndarray:
    """Return the t-SNE of distinct points, or their first two components if there are few."""
    if len(points) < MIN_LAYOUT_ROWS:
        places = np.zeros((len(points), 2), np.float32)
        places[:, : min(2, points.shape[1])] = points[:, :2]
    else:
        flat = TSNE(
            2,
            perplexity=min(30.0, (len(points) - 1) / 4),
            init="pca",
            max_iter=500,
            random_state=LAYOUT_SEED,
            n_jobs=1,
        )
        with threadpool_limits(1):  # threads sum in varying order, which t-SNE amplifies
            places = flat.fit_transform(points)
    spread = np.abs(places - np.median(places, axis=0)).max()
    return ((places - np.median(places, axis=0)) * (10 / spread if spread else 1)).astype(np.float32)


def _place_points(
    points: np.ndarray, laid_out: np.ndarray, placed: np.ndarray, progress: Progress
) -> np.ndarray:
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(laid_out)), algorithm="brute").fit(laid_out)
    places = np.empty((len(points), 2), np.float32)
    for first in range(0, len(points), LAYOUT_CHUNK):
        progress(first, len(points), "rows placed", "Placing the rows between their neighbours")
        distances, neighbours = near.kneighbors(points[first : first + LAYOUT_CHUNK])
        squares = distances.astype(np.float64) ** 2
        # A row that was laid out has a neighbour at distance 0, which gets all the weight.
        weights = 1 / (squares + 1e-9)
        weights /= weights.sum(axis=1, keepdims=True)
        places[first : first + LAYOUT_CHUNK] = np.einsum("rn,rnd->rd", weights, placed[neighbours])
    return places
