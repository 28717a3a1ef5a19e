"""A test of whether values still come as before, which may be looked at after every one of them.

Each value is ranked among the reference and all values since (Vovk, Gammerman and Shafer 2005): as long as
their order means nothing, its rank, with ties broken at random, is uniform and says nothing of the next one.
A gambler bets against that; the capital begins with 1 and reaches c with a chance of 1/c at most, in all
eternity. So an alarm at 1/alpha is false with a chance of alpha, however often one looks, whatever the
values' distribution.

Bets: that ranks gather at the top, at the bottom or at both ends, the first two at several strengths. A
little of the bets' capital is dealt anew among them at each value, so that old losses don't weigh on them. A
part of the capital is held back and put on the bets bit by bit, less and less of it, so that a change after a
hundred thousand quiet values finds nearly as much capital as one at the beginning. Values are told apart by
bins that are fixed before the first of them: values of one bin are ties, so that bins cost sharpness and no
validity, and the state stays small. Pure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.documents.serving.drift import BetState

JUMP = 0.003  # of the bets' capital, dealt anew at each value
HELD = 0.5  # of the capital, before the first value
PACE = 200.0  # values after which what is held back has fallen to HELD / sqrt(2)
POWERS = (0.4, 0.75)  # a bet on small ranks pays a rank to the power of this less 1: the smaller, the bolder
BOTH_ENDS = 0.5
LEAST_RANK = 1e-12

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POWERS = np.array(POWERS)
BETS = 1 + 2 + 2 * len(POWERS) + 1  # none, two even ones, two of each power, and one on both ends


class BetPath(NamedTuple):
    """Where a test went with some values: the state after them, and the logarithm of the capital after
    each."""

    state: BetState
    log_wealth: Floats


def begin(reference: Ints) -> BetState:
    """The state before the first value, with the bins of the reference's values."""
    bins, counts = np.unique(reference, return_counts=True)
    return {
        "bins": bins.tolist(),
        "counts": counts.tolist(),
        "reference_bins": bins.tolist(),
        "reference_counts": counts.tolist(),
        "shares": first_shares(BETS),
        "log_wealth": 0.0,
        "tested": 0,
    }


def bet(state: BetState, bins: Ints, ties: Floats) -> BetPath:
    """On values in the order in which they came, by their bins; `ties` between 0 and 1, uniform, break
    ties."""
    ranks = _ranks(state, bins, ties)
    shares, wealth = np.array(state["shares"]), state["log_wealth"]
    path = np.empty(len(ranks))
    for place, payoff in enumerate(payoffs(ranks)):
        shares, gain = play(shares, payoff, state["tested"] + place)
        wealth += gain
        path[place] = wealth
    seen, counts = _with(state, bins)
    after: BetState = {
        **state,
        "bins": seen.tolist(),
        "counts": counts.tolist(),
        "shares": shares.tolist(),
        "log_wealth": wealth,
        "tested": state["tested"] + len(ranks),
    }
    return BetPath(after, path)


def ties(seed: int, first: int, count: int) -> Floats:
    """Uniform numbers by place, so that batches of any size break ties alike (SplitMix64)."""
    with np.errstate(over="ignore"):
        z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Floats = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return uniform


def _ranks(state: BetState, bins: Ints, ties: Floats) -> Floats:
    """The share of reference, past and the value itself that lies above it, a random part of its ties too."""
    size = int(max([*state["bins"], *bins.tolist(), 0])) + 1
    counts = np.zeros(size, np.int64)
    counts[state["bins"]] = state["counts"]
    total = int(counts.sum())
    ranks = np.empty(len(bins))
    for place, (bin_, tie) in enumerate(zip(bins.tolist(), ties.tolist(), strict=True)):
        counts[bin_] += 1
        total += 1
        ranks[place] = (int(counts[bin_ + 1 :].sum()) + tie * int(counts[bin_])) / total
    return np.clip(ranks, LEAST_RANK, 1 - LEAST_RANK)


def payoffs(ranks: Floats) -> Floats:
    """What each bet pays at each rank [values, bets]; the first one is no bet."""
    rank = ranks[:, None]
    end = 1 - np.abs(2 * rank - 1)
    return np.hstack(
        [
            np.ones_like(rank),
            1.5 - rank,
            0.5 + rank,
            _POWERS * rank ** (_POWERS - 1),
            _POWERS * (1 - rank) ** (_POWERS - 1),
            BOTH_ENDS * np.maximum(end, LEAST_RANK) ** (BOTH_ENDS - 1),
        ]
    )


def first_shares(bets: int) -> list[float]:
    """The capital before the first value, of which the first of so many bets is what is held back."""
    return [HELD, *[(1 - HELD) / (bets - 1)] * (bets - 1)]


def play(shares: Floats, payoff: Floats, tested: int) -> tuple[Floats, float]:
    """The shares of the capital after one more value, and by how much the logarithm of the whole grew."""
    after = _dealt(shares, tested) * payoff
    total = float(after.sum())
    return after / total, math.log(total)


def _dealt(shares: Floats, tested: int) -> Floats:
    """The capital before the next bet: some of what is held back, and of each bet, is dealt among the
    bets."""
    held = shares[0] * math.sqrt((PACE + tested) / (PACE + tested + 1))
    bets = shares[1:] * (1 - JUMP)
    bets += (1 - held - float(bets.sum())) / len(bets)
    return np.concatenate([[held], bets])


def _with(state: BetState, bins: Ints) -> tuple[Ints, Ints]:
    """Bins and counts of what was seen before and of these."""
    seen = np.concatenate([np.array(state["bins"], np.int64), bins])
    weights = np.concatenate([np.array(state["counts"], np.int64), np.ones(len(bins), np.int64)])
    both, place = np.unique(seen, return_inverse=True)
    return both, np.bincount(place, weights, len(both)).astype(np.int64)
