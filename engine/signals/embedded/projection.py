"""Where on a map each row lies: near the rows that mean something like it, the same place on every run.

The vectors are centred and brought to `COMPONENTS` principal components. Up to `SAMPLE` distinct rows are
laid out by t-SNE (van der Maaten and Hinton 2008), which shows clusters; every other row is put at the mean
of its nearest neighbours among them, weighted by how near they are, so that equal rows share a place. Only
neighbourhoods mean something on such a map: distances between clusters, and their sizes, do not.
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from engine.signals.group import Progress

COMPONENTS = 30
FIT = 50_000  # rows that the components are found from
SAMPLE = 4_000  # rows that t-SNE lays out
NEIGHBOURS = 6  # that place each other row
CHUNK = 20_000
FEWEST = 12  # distinct rows that t-SNE is worth its while for
SEED = 0


def components(vectors: np.ndarray, progress: Progress) -> np.ndarray:
    """The rows' principal components, float32 [rows, at most 30], by a sample where there are many rows."""
    total, width = vectors.shape
    if total < 2:
        return np.zeros((total, 1), np.float32)
    sample = np.asarray(vectors[drawn(total, FIT)])
    fitted = PCA(min(COMPONENTS, len(sample), width), svd_solver="full", random_state=SEED).fit(sample)
    reduced = np.empty((total, fitted.n_components_), np.float32)
    for first in range(0, total, CHUNK):
        progress(first, total, "rows reduced", "Finding the main directions")
        reduced[first : first + CHUNK] = fitted.transform(np.asarray(vectors[first : first + CHUNK]))
    return reduced


def drawn(total: int, most: int, seed: int = SEED) -> np.ndarray:
    """At most so many of `total` rows, drawn by seed, in their order."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def layout(points: np.ndarray, progress: Progress) -> np.ndarray:
    """Places on the map, float32 [rows, 2], within a few units of 0."""
    sample = drawn(len(points), 4 * SAMPLE)
    _, distinct = np.unique(np.round(points[sample], 5), axis=0, return_index=True)
    sample = sample[np.sort(distinct)]
    sample = sample[drawn(len(sample), SAMPLE)]
    progress(0, len(sample), "rows laid out", f"Laying out {len(sample):,} rows")
    placed = _spread(points[sample])
    if len(sample) == len(points):
        return placed
    return _place(points, points[sample], placed, progress)


def _spread(points: np.ndarray) -> np.ndarray:
    """t-SNE of distinct points, or their first two components where there are few."""
    if len(points) < FEWEST:
        places = np.zeros((len(points), 2), np.float32)
        places[:, : min(2, points.shape[1])] = points[:, :2]
    else:
        flat = TSNE(
            2,
            perplexity=min(30.0, (len(points) - 1) / 4),
            init="pca",
            max_iter=500,
            random_state=SEED,
            n_jobs=1,
        )
        with threadpool_limits(1):  # threads add in changing orders, and t-SNE makes that visible
            places = flat.fit_transform(points)
    spread = np.abs(places - np.median(places, axis=0)).max()
    return ((places - np.median(places, axis=0)) * (10 / spread if spread else 1)).astype(np.float32)


def _place(points: np.ndarray, laid_out: np.ndarray, placed: np.ndarray, progress: Progress) -> np.ndarray:
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(laid_out)), algorithm="brute").fit(laid_out)
    places = np.empty((len(points), 2), np.float32)
    for first in range(0, len(points), CHUNK):
        progress(first, len(points), "rows placed", "Placing the rows between their neighbours")
        distances, neighbours = near.kneighbors(points[first : first + CHUNK])
        squares = distances.astype(np.float64) ** 2
        # A row among those laid out has a neighbour at 0, which takes all the weight.
        weights = 1 / (squares + 1e-9)
        weights /= weights.sum(axis=1, keepdims=True)
        places[first : first + CHUNK] = np.einsum("rn,rnd->rd", weights, placed[neighbours])
    return places
