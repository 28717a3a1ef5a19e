"""False alarms of the sequential tests of drift, on 2,000 values like those of their reference.

One value is monitored, or nine. Values that come in bursts of one caller, or are autocorrelated, raise an
alarm in nearly every stream and have no guarantee: an alarm against requests waits for whole days (watched
days).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.monitoring.drift import ALONE, OF_NINE, QUIETS, Stream, capital, drawn
from bench.truths import Rate


def raises_alarm(stream: Stream, threshold: float, rng: np.random.Generator) -> bool:
    """Whether the wealth ever reaches the threshold; both are logarithms."""
    reference, values = drawn(stream, rng)
    return bool((capital(reference, values, int(rng.integers(2**31))) >= threshold).any())


RATES = [
    Rate("drift", f"{stream.name}, reference of {stream.reference}, {watched}: a false alarm", nominal, 0.0,
         high, partial(raises_alarm, stream, threshold), 1_000)
    for stream in QUIETS if stream.promised
    for watched, threshold, nominal, high in (
        ("alone", ALONE, 0.05, 0.05),
        ("one of nine", OF_NINE, 0.0056, 0.0125),  # 5% over nine, and three standard errors
    )
]  # fmt: skip
