"""Which text stands for which: a near duplicate is similar to the text that stands for it, and not to another
that is similar to a third.

Clusters (`clusters`) are chains: of texts made from one template the ends of a chain may share little. Here
the texts of a chain are gone through in the order in which they are wanted; each that nothing stands for yet
stands for itself and for all others that have the threshold with it, verified. In a chain of many texts that
are few to stand for each other, all pairs would be too many: after `LOOKS` comparisons a text those pairs
decide that were verified when the chain was found, and `uncompared` says of how many texts that is so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.near.clusters import PIECE, Clusters
from engine.near.minhash import ShingleSpool

LOOKS = 24  # comparisons a text, on average

Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of pairs of texts: may one stand for the other
StopCheck = Callable[[], None]  # may raise to stop


@dataclass(frozen=True)
class Standing:
    """`chief`: int64 of each text, the one that stands for it, its own number where none does. `similarity`:
    to its chief; of a chief the highest of those that it stands for, 0 where there is none. `uncompared`:
    texts that were not held against every text of their chain."""

    chief: np.ndarray
    similarity: np.ndarray
    uncompared: int


def stand(
    spool: ShingleSpool,
    clusters: Clusters,
    codes: np.ndarray,
    rank: np.ndarray,
    alike: Alike,
    look: StopCheck,
) -> Standing:
    """codes: int of each text; only texts of one code stand for each other. rank: int64 of each text,
    distinct; the smaller is wanted first."""
    count = len(clusters.label)
    chief, similarity = np.arange(count), np.zeros(count)
    chains = np.unique(np.stack([clusters.label, codes]), axis=1, return_inverse=True)[1].reshape(count)
    left = np.flatnonzero(np.bincount(chains)[chains] > 1)
    left = left[np.lexsort((rank[left], chains[left]))]
    budget = LOOKS * len(left)
    while len(left) and budget > 0:
        look()
        leads = np.flatnonzero(np.concatenate([[True], np.diff(chains[left]) != 0]))
        leader = np.repeat(left[leads], np.diff(np.append(leads, len(left))))
        others = left != leader
        budget -= int(others.sum())
        first, second = leader[others], left[others]
        values = _similar(spool, first, second, alike, look)
        taken = values > 0
        chief[second[taken]], similarity[second[taken]] = first[taken], values[taken]
        left = second[~taken]
    uncompared = len(left)
    if uncompared:
        _by_pairs(clusters.pairs, left[np.argsort(rank[left])], codes, alike, chief, similarity)
    members = np.flatnonzero(chief != np.arange(count))
    np.maximum.at(similarity, chief[members], similarity[members])
    return Standing(chief, similarity, uncompared)


def _similar(
    spool: ShingleSpool, first: np.ndarray, second: np.ndarray, alike: Alike, look: StopCheck
) -> np.ndarray:
    """The similarity of each pair, 0 where it is below the threshold or one can't stand for the other."""
    similarity = np.zeros(len(first))
    for begin in range(0, len(first), PIECE):
        look()
        piece = slice(begin, begin + PIECE)
        values = spool.jaccard(first[piece], second[piece])
        good = np.flatnonzero(values >= spool.threshold)
        good = good[alike(first[piece][good], second[piece][good])]
        similarity[piece][good] = values[good]
    return similarity


def _by_pairs(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    left: np.ndarray,
    codes: np.ndarray,
    alike: Alike,
    chief: np.ndarray,
    similarity: np.ndarray,
) -> None:
    """The texts `left`, in the order in which they are wanted, by the verified pairs among them."""
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
