"""Values of requests as a monitor sees them (`STREAMS`), and the times of a few responses (`TIMED`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.made.shapes.draws import Floats, Ints, draw_course, draw_with

DAY = 86_400.0
NOISE = 0.3  # standard deviation of a value, whose mean is 1
PEAK_LEVEL = 1.4  # peak of a cycle relative to its trough


@dataclass(frozen=True)
class Stream:
    """Requests in order of time. truth: the change of their mean from `level` at `shift_day`.

    Levels are those of whole days, or of whole weeks if weekends differ. Requests of a group come from one
    caller or conversation; a group that began before the shift remains unchanged until its end.
    """

    at: Floats  # seconds
    values: Floats
    groups: Ints
    level: float
    truth: float
    shift_day: float


# Called with requests a day, days, the shift as a share of the level, and the day from which it holds.
StreamShape = Callable[[np.random.Generator, float, int, float, float], Stream]
Values = Callable[
    [np.random.Generator, Floats], Floats
]  # function of arrivals in order of time; their mean is the level


def _finish(
    at: Floats, begun: Floats, values: Floats, groups: Ints, level: float, shift: float, shift_day: float
) -> Stream:
    order = np.argsort(at, kind="stable")
    shifted = np.where(begun >= shift_day * DAY, values * (1 + shift), values)
    return Stream(at[order], shifted[order], groups[order], level, level * shift, shift_day)


def _arrive(rng: np.random.Generator, expected: float, days: int) -> Floats:
    return np.sort(rng.uniform(0, days * DAY, max(2, rng.poisson(expected))))


def _arrive_by_rate(
    rng: np.random.Generator, expected: float, days: int, rate: Callable[[Floats], Floats], mean: float
) -> Floats:
    """Draw arrivals at a time-dependent rate (at most 2), whose mean is `mean`."""
    candidates = _arrive(rng, 2 * expected / mean, days)
    return candidates[rng.random(len(candidates)) * 2 < rate(candidates)]


def _draw_single(
    values: Values, level: float,
    rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float,
) -> Stream:  # fmt: skip
    """Draw independent requests at a constant rate."""
    at = _arrive(rng, per_day * days, days)
    return _finish(at, at, values(rng, at), np.arange(len(at)), level, shift, shift_day)


def _draw_plain(rng: np.random.Generator, at: Floats) -> Floats:
    return 1 + NOISE * rng.normal(size=len(at))


def _draw_correlated(correlation: float, rng: np.random.Generator, at: Floats) -> Floats:
    return 1 + NOISE * draw_course(rng, len(at), correlation)


def _draw_wandering(correlation: float, rng: np.random.Generator, at: Floats) -> Floats:
    """Let days vary by more than their requests explain, as from a release elsewhere or a customer's
    campaign.
    """
    days = np.asarray(at // DAY, np.int64)
    return _draw_plain(rng, at) + 0.1 * draw_course(rng, int(days.max()) + 1, correlation)[days]


def _draw_latencies(sigma: float, timeouts: float, rng: np.random.Generator, at: Floats) -> Floats:
    """Draw log-normal values, a few of them thirty times as long."""
    slow = np.where(rng.random(len(at)) < timeouts, 30.0, 1.0)
    return slow * np.exp(rng.normal(-(sigma**2) / 2, sigma, len(at))) / (1 + 29 * timeouts)


def _draw_flagged(
    share: float, rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float
) -> Stream:
    """Draw requests that are flagged (1) with some probability (refused, too long, in another language), else
    0.
    """
    at = _arrive(rng, per_day * days, days)
    chance = np.where(at >= shift_day * DAY, share * (1 + shift), share)
    values = np.where(draw_with(rng, chance), 1.0, 0.0)
    return Stream(at, values, np.arange(len(at)), share, share * shift, shift_day)


def _draw_daily_cycle(
    rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float
) -> Stream:
    """Let level and rate peak together, at noon, which shifts the mean over requests toward the peak."""

    def wave(at: Floats) -> Floats:
        return -np.cos(2 * math.pi * at / DAY)

    half = (PEAK_LEVEL - 1) / 2
    at = _arrive_by_rate(rng, per_day * days, days, lambda times: 1 + 0.8 * wave(times), 1.0)
    mean = 1 + half + 0.8 * half / 2
    values = (1 + half * (1 + wave(at))) / mean + NOISE * rng.normal(size=len(at))
    return _finish(at, at, values, np.arange(len(at)), 1.0, shift, shift_day)


def _draw_weekly_cycle(
    rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float
) -> Stream:
    """Give weekends, days 5 and 6 of seven, a third of the requests and another level."""

    def is_weekend(at: Floats) -> Floats:
        return np.where(at // DAY % 7 >= 5, 1.0, 0.0)

    at = _arrive_by_rate(
        rng, per_day * days, days, lambda times: 1 - 2 / 3 * is_weekend(times), (5 + 2 / 3) / 7
    )
    part = (2 / 3) / (5 + 2 / 3)  # share of requests at weekends
    values = (1 + (PEAK_LEVEL - 1) * is_weekend(at)) / (1 + (PEAK_LEVEL - 1) * part)
    noise = NOISE * rng.normal(size=len(at))
    return _finish(at, at, values + noise, np.arange(len(at)), 1.0, shift, shift_day)


def _draw_bursts(
    share: float, rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float
) -> Stream:
    """Let a share of arrivals be callers who send 10 to 50 nearly identical requests, one second apart."""
    begun = _arrive(rng, per_day * days / (1 - share + 30 * share), days)
    sizes = np.where(rng.random(len(begun)) < share, rng.integers(10, 51, len(begun)), 1)
    groups = np.repeat(np.arange(len(begun)), sizes)
    turn = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    values = 1 + NOISE * rng.normal(size=len(begun))[groups] + 0.02 * rng.normal(size=len(groups))
    return _finish(begun[groups] + turn, begun[groups], values, groups, 1.0, shift, shift_day)


def _draw_conversations(
    growth: float, rng: np.random.Generator, per_day: float, days: int, shift: float, shift_day: float
) -> Stream:
    """Draw conversations of a geometric length, 5 on average, each with its own level, which grows by
    `growth` per turn.
    """
    begun = _arrive(rng, per_day * days / 5, days)
    sizes = rng.geometric(0.2, len(begun))
    groups = np.repeat(np.arange(len(begun)), sizes)
    turn = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    own = np.exp(rng.normal(-0.125, 0.5, len(begun)))[groups]
    noise = np.exp(rng.normal(-0.02, 0.2, len(groups)))
    values = own * noise * (1 + growth * turn) / (1 + 4 * growth)  # mean turn is 4
    return _finish(begun[groups] + 30 * turn, begun[groups], values, groups, 1.0, shift, shift_day)


STREAMS: dict[str, StreamShape] = {
    "stationary": partial(_draw_single, _draw_plain, 1.0),
    "AR(0.5)": partial(_draw_single, partial(_draw_correlated, 0.5), 1.0),
    "AR(0.9)": partial(_draw_single, partial(_draw_correlated, 0.9), 1.0),
    "days differ": partial(_draw_single, partial(_draw_wandering, 0.0), 1.0),
    "days wander": partial(_draw_single, partial(_draw_wandering, 0.7), 1.0),
    "daily cycle": _draw_daily_cycle,
    "weekly cycle": _draw_weekly_cycle,
    "bursts, 5% of arrivals": partial(_draw_bursts, 0.05),
    "bursts, 1% of arrivals": partial(_draw_bursts, 0.01),
    "conversations": partial(_draw_conversations, 0.0),
    "conversations that grow": partial(_draw_conversations, 0.2),
    "latencies, log-normal": partial(_draw_single, partial(_draw_latencies, 1.0, 0.0), 1.0),
    "latencies, 1% time out": partial(_draw_single, partial(_draw_latencies, 0.75, 0.01), 1.0),
    "10% flagged": partial(_draw_flagged, 0.1),
    "1% flagged": partial(_draw_flagged, 0.01),
}


@dataclass(frozen=True)
class Timings:
    """Seconds of responses. truth: their mean; median: their median."""

    seconds: Floats
    truth: float
    median: float


TimedShape = Callable[[np.random.Generator, int], Timings]
MIDDLE = 0.8  # median seconds of a response at usual speed


def _find_median(parts: tuple[tuple[float, float, float], ...]) -> float:
    """Return the median of a mixture of log-normals, given share, median and sigma of each."""
    low, high = 1e-3, 1e3
    for _ in range(100):
        middle = math.sqrt(low * high)
        below = sum(
            share * (1 + math.erf(math.log(middle / median) / sigma / math.sqrt(2))) / 2
            for share, median, sigma in parts
        )
        low, high = (middle, high) if below < 0.5 else (low, middle)
    return middle


def _time(parts: tuple[tuple[float, float, float], ...], rng: np.random.Generator, answers: int) -> Timings:
    """Draw from a mixture of log-normals, given share, median and sigma of each."""
    shares, medians, sigmas = np.array(parts).T
    kind = rng.choice(len(parts), answers, p=shares)
    seconds = np.exp(rng.normal(np.log(medians[kind]), sigmas[kind]))
    mean = float(np.sum(shares * medians * np.exp(sigmas**2 / 2)))
    return Timings(seconds, mean, _find_median(parts))


# Called with the number of answers: 3, 10 or 30.
TIMED: dict[str, TimedShape] = {
    "log-normal, sigma 0.5": partial(_time, ((1.0, MIDDLE, 0.5),)),
    "log-normal, sigma 0.75": partial(_time, ((1.0, MIDDLE, 0.75),)),
    "log-normal, sigma 1": partial(_time, ((1.0, MIDDLE, 1.0),)),
    "5% ten times as slow": partial(_time, ((0.95, MIDDLE, 0.25), (0.05, 10 * MIDDLE, 0.25))),
    "half from a cache": partial(_time, ((0.5, 0.2 * MIDDLE, 0.2), (0.5, MIDDLE, 0.3))),
    "hardly any spread": partial(_time, ((1.0, MIDDLE, 0.02),)),
}
