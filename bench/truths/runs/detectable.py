"""Whether the smallest detectable gain is found in 80 of 100 further experiments of that true gain.

One draw of rows names the gain; another, with that gain and its own lengths, is significant or not. Gains
with rare large losses among them (log-normal, mirrored) are detected less often, in about 70: the first
draw mostly lacks the loss that hides the gain in the second.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.truths import Rate
from bench.truths.runs.gain import Drawn, even, heavy, interval, normal, some_long, unequal
from engine.evaluation.statistics.proportions import estimate_paired_change


def _seen(gains: Drawn, lengths: Drawn, n: int, rng: np.random.Generator) -> bool | None:
    named = interval(rng, gains, lengths, n).detectable
    if named is None:
        return None
    later = interval(rng, gains, lengths, n, named)
    return None if later.low is None else later.above


def _seen_share(flips: float, n: int, rng: np.random.Generator) -> bool | None:
    """Whether a change of the stated detectable size is detected, for two classifiers that differ on `flips`
    of the rows; None if the rows are too few for it.
    """
    half = flips / 2
    lost, won = rng.multinomial(n, [half, half, 1 - flips])[:2]
    named = estimate_paired_change(int(lost), int(won), n).detectable
    if named is None or named > flips:  # too few rows for such a change
        return None
    lost, won = rng.multinomial(n, [(flips - named) / 2, (flips + named) / 2, 1 - flips])[:2]
    return estimate_paired_change(int(lost), int(won), n).above


def _rate(name: str, gains: Drawn, lengths: Drawn, n: int) -> Rate:
    return Rate(
        "detectable", f"seen, {name}, n {n}", 0.8, 0.75, 0.87, partial(_seen, gains, lengths, n), 2_000
    )


RATES = [
    *(_rate("normal gains, even lengths", normal, even, n) for n in (10, 50, 500)),
    *(_rate("normal gains, log-normal lengths", normal, unequal, n) for n in (20, 100)),
    *(_rate("t4 gains, log-normal lengths", heavy, unequal, n) for n in (20, 100, 500)),
    _rate("t4 gains, 5% of rows 100 times as long", heavy, some_long, 100),
    *(Rate("detectable", f"seen, share of rows right, 30% of them differ, n {n}", 0.8, 0.75, 0.87,
           partial(_seen_share, 0.3, n), 2_000) for n in (50, 200)),
]  # fmt: skip
