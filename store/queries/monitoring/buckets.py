"""Times as counts by logarithmic buckets: any number of minutes add up, and a percentile of the sum is within
3% of the true one (Masson, Rim and Lee 2019, DDSketch)."""

from __future__ import annotations

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.03
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)  # a bucket's end over its beginning
LEAST_SECONDS = 1e-4


def bucket_sql(seconds: str) -> str:
    """The bucket of a column, in SQL."""
    return f"ceil(ln(greatest({seconds}, {LEAST_SECONDS})) / {math.log(GROWTH)!r})::SMALLINT"


def bucket_of(seconds: float) -> int:
    """The bucket of one time."""
    return math.ceil(math.log(max(seconds, LEAST_SECONDS)) / math.log(GROWTH))


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The time that `share` of those counted don't exceed, within RELATIVE_ERROR; None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    rank, below = max(1, math.ceil(share * total)), 0
    for bucket in sorted(counts):
        below += counts[bucket]
        if below >= rank:
            break
    return 2 * GROWTH**bucket / (GROWTH + 1)


def above(counts: Mapping[int, int], seconds: float) -> int:
    """How many took longer than that, but for those of its own bucket."""
    limit = bucket_of(seconds)
    return sum(n for bucket, n in counts.items() if bucket > limit)
