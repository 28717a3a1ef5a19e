"""The sequential tests of drift on values like those of their reference: how often do 2,000 of them raise a
false alarm, alone and where nine values are watched? Values that come in bursts of one caller, or linger,
raise one in nearly every stream and are promised nothing: an alarm against requests waits for whole days
(watched days)."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.monitoring.drift import ALONE, OF_NINE, QUIETS, Stream, capital, drawn
from bench.truths import Rate


def raises_alarm(stream: Stream, threshold: float, rng: np.random.Generator) -> bool:
    """Whether the capital is ever as large as the threshold; both are logarithms."""
    reference, values = drawn(stream, rng)
    return bool((capital(reference, values, int(rng.integers(2**31))) >= threshold).any())


RATES = [
    Rate("drift", f"{stream.name}, reference of {stream.reference}, {watched}: a false alarm", nominal, 0.0,
         high, partial(raises_alarm, stream, threshold), 1_000)
    for stream in QUIETS if stream.promised
    for watched, threshold, nominal, high in (
        ("alone", ALONE, 0.05, 0.05),
        ("one of nine", OF_NINE, 0.0056, 0.0125),  # 5% among nine, and three standard errors
    )
]  # fmt: skip
