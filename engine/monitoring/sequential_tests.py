"""Anytime-valid tests of an endpoint's values: an alert at 1/alpha is false with a chance of at most alpha,
however often the test is checked. Bets against exchangeable ranks (Vovk, Gammerman and Shafer 2005) test
monitored values. Bets on the share of slow or failed requests per minute (Waudby-Smith and Ramdas 2023), with
a margin over the reference instead of full days, test latency and errors. Bins and limits are fixed before
the first value. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.evaluation.statistics.intervals import wilson_interval
from store.core.monitoring_schemas import (
    CurrentMinute,
    CusumState,
    MartingaleState,
    PaceName,
    PaceTest,
    TimeModel,
)

# An anytime-valid test of whether values are still distributed as before.
#
# Each value is ranked among the reference and all later values (Vovk, Gammerman and Shafer 2005). While the
# values are exchangeable, its rank, with ties broken at random, is uniform and independent of the next one. A
# gambler bets against that: the capital starts at 1 and ever reaches c with a chance of at most 1/c. So an
# alert at 1/alpha is false with a chance of at most alpha, however often the test is checked and whatever the
# distribution of the values.
#
# The bets are that ranks gather at the top, at the bottom or at both ends, the first two at several
# strengths. A small part of the bets' capital is redistributed at each value, so that old losses carry less
# weight. A reserve is put on the bets gradually and ever more slowly, so that a change after a hundred
# thousand quiet values finds nearly as much capital as one at the start. Values are binned, with bins fixed
# before the first value: values in one bin are ties, so binning costs power but not validity, and the state
# stays small. Pure.

JUMP = 0.003  # of the bets' capital, redistributed at each value
HELD = 0.5  # initial reserve
PACE = 200.0  # values after which the reserve has fallen to HELD / sqrt(2)
POWERS = (0.4, 0.75)  # a bet on small ranks pays rank ** (power - 1): smaller is bolder
BOTH_ENDS = 0.5
MIN_RANK = 1e-12

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POWERS = np.array(POWERS)
BETS = 1 + 2 + 2 * len(POWERS) + 1  # no bet, two linear ones, two per power, and one on both ends


class BetPath(NamedTuple):
    """The path of a test over some values: the final state, and the log capital after each value."""

    state: MartingaleState
    log_wealth: Floats


def begin_bets(reference: Ints) -> MartingaleState:
    """The state before the first value, with the bins of the reference."""
    bins, counts = np.unique(reference, return_counts=True)
    return MartingaleState(
        bins=bins.tolist(),
        counts=counts.tolist(),
        reference_bins=bins.tolist(),
        reference_counts=counts.tolist(),
        shares=compute_initial_shares(BETS),
        log_wealth=0.0,
        tested=0,
    )


def place_bets(state: MartingaleState, bins: Ints, ties: Floats) -> BetPath:
    """Bet on values in order of arrival, given by bin. ties: uniform numbers from 0 to 1 that break ties."""
    ranks = _compute_ranks(state, bins, ties)
    shares, wealth = np.array(state.shares), state.log_wealth
    path = np.empty(len(ranks))
    for place, payoff in enumerate(compute_payoffs(ranks)):
        shares, gain = update_shares(shares, payoff, state.tested + place)
        wealth += gain
        path[place] = wealth
    seen, counts = _add_counts(state, bins)
    after: MartingaleState = replace(
        state,
        bins=seen.tolist(),
        counts=counts.tolist(),
        shares=shares.tolist(),
        log_wealth=wealth,
        tested=state.tested + len(ranks),
    )
    return BetPath(after, path)


def draw_ties(seed: int, first: int, count: int) -> Floats:
    """Uniform numbers by place, independent of batch sizes (SplitMix64)."""
    with np.errstate(over="ignore"):
        z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Floats = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return uniform


def _compute_ranks(state: MartingaleState, bins: Ints, ties: Floats) -> Floats:
    """The share of reference, past and current values above each value, with ties broken at random."""
    size = int(max([*state.bins, *bins.tolist(), 0])) + 1
    counts = np.zeros(size, np.int64)
    counts[state.bins] = state.counts
    total = int(counts.sum())
    ranks = np.empty(len(bins))
    for place, (bin_, tie) in enumerate(zip(bins.tolist(), ties.tolist(), strict=True)):
        counts[bin_] += 1
        total += 1
        ranks[place] = (int(counts[bin_ + 1 :].sum()) + tie * int(counts[bin_])) / total
    return np.clip(ranks, MIN_RANK, 1 - MIN_RANK)


def compute_payoffs(ranks: Floats) -> Floats:
    """The payoff of each bet at each rank [values, bets]; the first is no bet."""
    rank = ranks[:, None]
    end = 1 - np.abs(2 * rank - 1)
    return np.hstack(
        [
            np.ones_like(rank),
            1.5 - rank,
            0.5 + rank,
            _POWERS * rank ** (_POWERS - 1),
            _POWERS * (1 - rank) ** (_POWERS - 1),
            BOTH_ENDS * np.maximum(end, MIN_RANK) ** (BOTH_ENDS - 1),
        ]
    )


def compute_initial_shares(bets: int) -> list[float]:
    """Initial shares of the capital; the first is the reserve."""
    return [HELD, *[(1 - HELD) / (bets - 1)] * (bets - 1)]


def update_shares(shares: Floats, payoff: Floats, tested: int) -> tuple[Floats, float]:
    """Shares of the capital after one value, and the increase of the log capital."""
    after = _redistribute_shares(shares, tested) * payoff
    total = float(after.sum())
    return after / total, math.log(total)


def _redistribute_shares(shares: Floats, tested: int) -> Floats:
    """Shares before the next bet: parts of the reserve and of each bet are redistributed among the bets."""
    held = shares[0] * math.sqrt((PACE + tested) / (PACE + tested + 1))
    bets = shares[1:] * (1 - JUMP)
    bets += (1 - held - float(bets.sum())) / len(bets)
    return np.concatenate([[held], bets])


def _add_counts(state: MartingaleState, bins: Ints) -> tuple[Ints, Ints]:
    """Bins and counts including these values."""
    seen = np.concatenate([np.array(state.bins, np.int64), bins])
    weights = np.concatenate([np.array(state.counts, np.int64), np.ones(len(bins), np.int64)])
    both, place = np.unique(seen, return_inverse=True)
    return both, np.bincount(place, weights, len(both)).astype(np.int64)


# Do responses take longer, or fail more often, than in the reference? Tested from the first day on.
#
# Levels vary with the hour, so a test of "no change" needs full days (`drift.py`). Here a margin replaces
# them: the null hypothesis is that the median response takes at most half as long again as reference
# responses of the same length, and that the error rate is at most the upper confidence limit of the
# reference. Cycles, drifting levels and bursts stay within the margin; a fourfold slowdown does not.
#
# A time is compared with that expected for as many tokens: a model of reference times (a constant, and a time
# per prompt and completion token, fitted to their logarithms), so that longer responses do not count as
# slower. Responses of lengths outside the reference are excluded. "Slow" is over MARGIN times the upper
# confidence limit of the reference's median, so that heavy tails do not count as a change: at most half of
# the responses may be slow. Each minute counts once, with the share of its requests that were slow or failed;
# many requests of one caller within it are one observation. Bets on that share (Waudby-Smith and Ramdas 2023)
# reach 1 / alpha with a chance of at most alpha while its expectation is within the limit, however often the
# test is checked. If the reference often failed, stakes are smaller, so that no minute takes all the capital:
# the limit is fixed before the first bet, and a smaller stake is equally valid. The change point is where
# Page's cumulative sum (1954) started to rise. Pure.

PACES: tuple[PaceName, ...] = ("slower", "failing")
MARGIN = 1.5
# Tested lengths: up to this factor of the longest in the reference plus this many tokens, for prompts and for
# completions. Prompt tokens take little time, and a longer prompt must not hide a slowdown.
LONGER = ((4.0, 100.0), (1.5, 8.0))
WARM_UP = 20  # requests
MIN_REFERENCE = 60  # requests of a window
MINUTE = 60
LATE_MINUTES = 10  # how late a request may arrive; later means a wrong clock
MIN_REQUESTS = 5  # per minute; one with fewer is extended, as requests may be of one conversation
# A bet pays 1 + stake * (share - allowed). A minute in which everything fails is an outage only if others
# follow.
MAX_LOSS = 0.9  # of a bet's capital, in a minute without slow or failed requests
STAKES: dict[PaceName, Floats] = {
    "slower": np.array([0.0, 0.25, 0.5, 1.0, 1.8]),
    "failing": np.array([0.0, 0.5, 1.0, 2.0, 4.0]),
}
SURE: dict[PaceName, float] = {
    "slower": 0.99,
    "failing": 0.95,
}  # confidence of the reference's median and error rate
SLOW = 0.5  # share of a minute's responses that may be slow
RATIO_STEP = math.log(1.02)
MIN_SECONDS = 1e-4


class PacedRequest(NamedTuple):
    """A request as the tests see it. failed: status 500 or higher; is_live: answered by the live version."""

    place: int
    at: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    failed: bool
    is_live: bool


def compute_pace_threshold(alpha: float) -> float:
    """Logarithm of the capital at which one of the tests raises an alert; they share alpha."""
    return math.log(len(PACES) / alpha)


def begin_pace_test(
    name: PaceName, wanted: int, warm_up: int = WARM_UP, ends_at: float | None = None
) -> PaceTest:
    """The state before the first request. ends_at: end of the reference window, Unix time, s."""
    return PaceTest(
        name=name,
        warm_up=warm_up,
        begins_at=None,
        ends_at=ends_at,
        wanted=wanted,
        gathered=[],
        reference=0,
        usual=0.0,
        times=None,
        allowed=SLOW,
        shares=compute_initial_shares(len(STAKES[name])),
        log_wealth=0.0,
        largest=0.0,
        minutes=0,
        tested=0,
        unlike=0,
        open=None,
        since=_build_no_change(),
        alarm_place=None,
        alarm_at=None,
    )


def _build_no_change() -> CusumState:
    return CusumState(score=0.0, minute=None, place=None, n=0, over=0, bins={})


def restart_pace_test(test: PaceTest, *, same_reference: bool) -> PaceTest:
    """The state after an acknowledged alert: with the same reference, or with future requests as the
    reference."""
    fresh = begin_pace_test(test.name, test.wanted, warm_up=0)
    if same_reference:
        fresh.begins_at, fresh.reference = test.begins_at, test.reference
        fresh.usual, fresh.times, fresh.allowed = test.usual, test.times, test.allowed
    return fresh


def advance_pace_test(test: PaceTest, requests: Sequence[PacedRequest], log_threshold: float) -> PaceTest:
    """The test after these requests, in order of their places."""
    after = copy.deepcopy(test)
    for request in requests:
        if after.name == "failing" or (request.is_live and not request.failed):
            _add_request(after, request, log_threshold)
    return after


def _add_request(test: PaceTest, request: PacedRequest, log_threshold: float) -> None:
    ended = test.ends_at is not None and request.at >= test.ends_at
    if test.reference < test.wanted and ended:
        if test.reference < MIN_REFERENCE:
            return  # too few for a test
        test.wanted = test.reference
        _fit_reference(test)
    if test.warm_up:
        test.warm_up -= 1
    elif test.reference < test.wanted:
        _add_to_reference(test, request)
    else:
        minute = int(request.at // MINUTE)
        opened = test.open
        if opened is not None and not 0 <= opened.minute - minute <= LATE_MINUTES:
            if opened.n >= MIN_REQUESTS:
                _close_minute(test, opened, log_threshold)
                test.open = None
            else:
                opened.minute = min(minute, opened.minute)
        _count_request(test, request, minute)


def _add_to_reference(test: PaceTest, request: PacedRequest) -> None:
    lengths = [float(request.prompt_tokens), float(request.completion_tokens)]
    row = [float(request.failed)] if test.name == "failing" else [request.seconds, *lengths]
    test.gathered.append(row)
    if test.begins_at is None:
        test.begins_at = request.at
    test.reference += 1
    if test.reference == test.wanted:
        _fit_reference(test)


def _fit_reference(test: PaceTest) -> None:
    """Compute the baseline from the collected requests."""
    rows = np.array(test.gathered, np.float64)
    test.gathered = []
    test.usual = float(rows.mean() if test.name == "failing" else np.median(rows[:, 0]))
    if test.name == "failing":
        high = wilson_interval(int(rows.sum()), len(rows), confidence=SURE["failing"]).high
        test.allowed = 1.0 if high is None else min(1.0, high)
    else:
        test.times = fit_time_model(rows[:, 0], rows[:, 1:])


def fit_time_model(seconds: Floats, lengths: Floats) -> TimeModel:
    """Fit the time of reference responses to their prompt and completion tokens."""
    from scipy import optimize  # slow import that no page needs

    logs = np.log(np.maximum(seconds, MIN_SECONDS))
    columns = np.column_stack([np.ones(len(logs)), lengths])
    scale = np.exp(np.median(logs)) / np.maximum(np.median(columns, axis=0), 1.0)

    def residuals(parts: Floats) -> Floats:
        return np.asarray(logs - np.log(columns @ (parts * scale) + MIN_SECONDS), np.float64)

    fitted = optimize.least_squares(
        residuals, np.full(3, 1 / 3), bounds=(0, np.inf), loss="soft_l1", f_scale=0.3, max_nfev=200
    )
    beside = np.exp(residuals(fitted.x))
    middle = float(np.median(beside))
    constant, per_prompt, per_completion = (fitted.x * scale * middle).tolist()
    z, n = float(special.ndtri((1 + SURE["slower"]) / 2)), len(beside)
    upper = math.ceil(n / 2 + z * math.sqrt(n) / 2)  # rank of the median's upper confidence limit
    high = float(np.sort(beside)[min(upper, n - 1)]) / middle
    ranges = [[float(column.min()), float(column.max())] for column in lengths.T]
    return TimeModel(
        seconds=constant, per_prompt=per_prompt, per_completion=per_completion,
        ranges=ranges, limit=MARGIN * high,
    )  # fmt: skip


def _compare_with_expected(times: TimeModel, request: PacedRequest) -> float | None:
    """Time relative to that expected for the length; None for lengths outside the reference."""
    lengths = request.prompt_tokens, request.completion_tokens
    for length, (fewest, most), (factor, more) in zip(lengths, times.ranges, LONGER, strict=True):
        if not fewest / factor - more <= length <= most * factor + more:
            return None
    expected = times.seconds + times.per_prompt * lengths[0] + times.per_completion * lengths[1]
    return max(request.seconds, MIN_SECONDS) / (expected + MIN_SECONDS)


def _count_request(test: PaceTest, request: PacedRequest, minute: int) -> None:
    """Add to the current minute; late requests count there too."""
    times, ratio = test.times, None
    if times is not None:
        ratio = _compare_with_expected(times, request)
        if ratio is None:
            test.unlike += 1
            return
    if test.open is None:
        at = request.place
        test.open = CurrentMinute(minute=minute, place=at, last_place=at, n=0, over=0, bins={})
    opened = test.open
    opened.n += 1
    opened.last_place = request.place
    over = request.failed if times is None or ratio is None else ratio > times.limit
    opened.over += over
    if ratio is not None:
        place = str(round(math.log(ratio) / RATIO_STEP))
        opened.bins[place] = opened.bins.get(place, 0) + 1


def _close_minute(test: PaceTest, minute: CurrentMinute, log_threshold: float) -> None:
    """Bet on the completed minute."""
    excess = minute.over / minute.n - test.allowed
    stakes, largest = STAKES[test.name], MAX_LOSS / test.allowed
    payoff = 1 + np.minimum(stakes, largest) * excess
    shares, gain = update_shares(np.array(test.shares), payoff, test.minutes)
    test.shares = shares.tolist()
    test.log_wealth += gain
    test.largest = max(test.largest, test.log_wealth)
    test.minutes += 1
    test.tested += minute.n
    if test.alarm_place is not None:
        return  # figures stay as of the alert
    test.since = _update_change_point(test.since, minute, math.log1p(min(1.0, largest) * excess))
    if test.log_wealth >= log_threshold:
        test.alarm_place = minute.last_place
        test.alarm_at = float((minute.minute + 1) * MINUTE)


def _update_change_point(since: CusumState, minute: CurrentMinute, gain: float) -> CusumState:
    """The most likely change point after one more minute."""
    since.score += gain
    if since.score <= 0:
        return _build_no_change()
    if since.minute is None:
        since.minute, since.place = minute.minute, minute.place
    since.n += minute.n
    since.over += minute.over
    for place, n in minute.bins.items():
        since.bins[place] = since.bins.get(place, 0) + n
    return since
