"""False alarm rate and detection delay of the sequential tests of drift, compared with river's ADWIN.

python bench/monitoring/drift.py [--streams 1000]

Every stream begins with a reference; then come values that are like it, or that change at a known point.
All tests see the same values. The test is the monitor's own, at its threshold alone (20) and among nine
monitored values (180). Prints two tables, and exits with 1 if a promised rate doesn't hold.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

from engine.monitoring.drift import MAX_BIN
from engine.monitoring.sequential_tests import begin_bets, draw_ties, place_bets

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

ALONE, OF_NINE = math.log(20), math.log(180)
QUIET = 2_000  # values without a change
AFTER = 3_000  # values after a change; a detection needs fewer


class Stream(NamedTuple):
    """A simulated stream. change: transforms values from index `at` on."""

    name: str
    draw: Draw
    reference: int
    at: int = 0
    change: Callable[[Floats], Floats] | None = None
    promised: bool = True  # values are exchangeable, so the level is promised


def normal(rng: np.random.Generator, n: int) -> Floats:
    return rng.normal(size=n)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_t(1.5, size=n)


def lengths(rng: np.random.Generator, n: int) -> Floats:
    return rng.poisson(6, size=n).astype(float)


def rare(rng: np.random.Generator, n: int) -> Floats:
    return (rng.random(n) < 0.03).astype(float)


def bursts(rng: np.random.Generator, n: int) -> Floats:
    """Draw ten similar values in a row from each caller."""
    callers = rng.normal(size=n // 10 + 1)
    return np.repeat(callers, 10)[:n] + 0.3 * rng.normal(size=n)


def of_bursts(rng: np.random.Generator, n: int) -> Floats:
    """Draw only the first value of each burst."""
    return bursts(rng, 10 * n)[::10]


def lingering(rng: np.random.Generator, n: int) -> Floats:
    """Draw values that each depend by half on the previous one."""
    noise, values = rng.normal(size=n) * math.sqrt(0.75), np.empty(n)
    values[0] = rng.normal()
    for place in range(1, n):
        values[place] = 0.5 * values[place - 1] + noise[place]
    return values


def up(by: float) -> Callable[[Floats], Floats]:
    return lambda values: values + by


QUIETS = [
    *(Stream("normal", normal, reference) for reference in (30, 100, 500)),
    Stream("heavy tails (t, 1.5 degrees)", heavy, 500),
    *(Stream("small integers (Poisson 6)", lengths, reference) for reference in (30, 500)),
    Stream("3% of ones", rare, 500),
    Stream("10 of a caller on end", bursts, 500, promised=False),
    Stream("of these one a caller", of_bursts, 500),
    Stream("each half like the last", lingering, 500, promised=False),
]
CHANGES = [
    *(Stream(f"normal, {by:g} SD up", normal, 500, at, up(by)) for by in (0.3, 1.0) for at in (0, 1_000)),
    *(Stream("normal, 1 SD up", normal, reference, 0, up(1.0)) for reference in (30, 100)),
    Stream("normal, twice as wide", normal, 500, 0, lambda values: 2 * values),
    Stream("heavy tails, 1 up", heavy, 500, 0, up(1.0)),
    Stream("integers, 6 becomes 8", lengths, 500, 0, lambda values: values + 2),
    Stream("normal, 0.3 SD up after 20,000", normal, 500, 20_000, up(0.3)),
]


class Seen(NamedTuple):
    """Number of values until each test's first alarm; infinite if there is none."""

    alone: float
    of_nine: float
    adwin: float


def bins(values: Floats) -> NDArray[np.int64]:
    return np.clip(np.round(values / 0.02) + MAX_BIN // 2, 0, MAX_BIN).astype(np.int64)


def drawn(stream: Stream, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the reference of a stream and the values after it."""
    length = stream.at + AFTER if stream.change else QUIET
    every = stream.draw(rng, stream.reference + length)
    reference, values = every[: stream.reference], every[stream.reference :].copy()
    if stream.change:
        values[stream.at :] = stream.change(values[stream.at :])
    return reference, values


def capital(reference: Floats, values: Floats, seed: int) -> Floats:
    """Return the logarithm of the test's wealth after each value."""
    return place_bets(begin_bets(bins(reference)), bins(values), draw_ties(seed, 0, len(values))).log_wealth


def watch(stream: Stream, seed: int) -> Seen:
    """Test one stream."""
    from river.drift import ADWIN

    rng = np.random.default_rng(seed)
    reference, values = drawn(stream, rng)
    path = capital(reference, values, seed)
    adwin, detected = ADWIN(), math.inf
    for place, value in enumerate(np.concatenate([reference, values]).tolist()):
        adwin.update(value)
        if adwin.drift_detected and place >= stream.reference:
            detected = place - stream.reference
            break
    return Seen(_first(path >= ALONE), _first(path >= OF_NINE), detected)


def _first(over: NDArray[np.bool_]) -> float:
    return float(np.argmax(over)) if over.any() else math.inf


def _watched(kind: str, place: int, seed: int) -> Seen:
    return watch((QUIETS if kind == "quiet" else CHANGES)[place], seed)


def _all(kind: str, place: int, streams: int, pool: ProcessPoolExecutor) -> Floats:
    seen = pool.map(_watched, [kind] * streams, [place] * streams, range(streams), chunksize=20)
    return np.array([tuple(each) for each in seen])


def main() -> int:
    """Print the tables; return 1 if a promised rate doesn't hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    off = 0
    slack = 3 * math.sqrt(0.05 * 0.95 / options.streams)
    with ProcessPoolExecutor(options.processes) as pool:
        print(f"No change: alarms within {QUIET:,} values of {options.streams:,} streams\n")
        print(
            "| values | reference | at 20 (5% at most) | at 180 (0.6%) | ADWIN | |\n|---|---|---|---|---|---|"
        )
        for place, stream in enumerate(QUIETS):
            shares = np.isfinite(_all("quiet", place, options.streams, pool)).mean(axis=0)
            broken = stream.promised and (shares[0] > 0.05 + slack or shares[1] > 0.05 / 9 + slack)
            off += broken
            word = "**off**" if broken else "holds" if stream.promised else "not promised"
            cells = " | ".join(f"{100 * share:.1f}%" for share in shares)
            print(f"| {stream.name} | {stream.reference} | {cells} | {word} |", flush=True)
        print("\nA change: found within 3,000 values after it, and the median delay of all streams\n")
        print("| change | reference | before it | at 20 | at 180 | ADWIN |\n|---|---|---|---|---|---|")
        for place, stream in enumerate(CHANGES):
            streams = min(options.streams, 100) if stream.at > 5_000 else options.streams
            seen = _all("change", place, streams, pool) - stream.at
            print(f"| {stream.name} | {stream.reference} | {stream.at:,} | {_delays(seen)} |", flush=True)
    return int(off > 0)


def _delays(seen: Floats) -> str:
    """Format, for each test, the share of streams without an alarm before the change in which it was
    detected, and their median delay; a missed change has an infinite delay.
    """
    cells = []
    for column in seen.T:
        later = column[column >= 0]
        median = float(np.median(later))
        delay = f"{median:,.0f}" if math.isfinite(median) else "over 3,000"
        cells.append(f"{100 * np.isfinite(later).mean():.0f}%, {delay}")
    return " | ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
