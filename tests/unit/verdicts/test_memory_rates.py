"""Rates whose truth is known, of memory, forgetting and comparisons: `bench/truth.py` in few draws."""

from __future__ import annotations

import pytest

from bench import truth
from bench.truths import observe


@pytest.mark.parametrize(
    ("topic", "name", "draws", "low", "high"),
    [
        ("comparisons", "20 equal models", 60, 0.0, 0.12),
        ("comparisons", "5 equal settings", 100, 0.0, 0.1),
        ("slices", "perplexity, 500 rows", 20, 0.0, 0.2),
        ("membership", "3 + 3 rows", 20, 0.0, 0.0),
        ("membership", "100 + 100 rows, harder by 0.3", 100, 0.0, 0.12),
        ("membership", "0.15 nats of memory", 50, 0.9, 1.0),
        ("forgetting", "nothing lost, 10 tasks", 30, 0.0, 0.15),
        ("duplicates", "10 repeated rows", 40, 0.0, 0.15),
        ("judging", "20 pairs, 80% ties", 400, 0.0, 0.08),
        ("judging", "200 pairs, 95% ties", 400, 0.0, 0.08),
        ("comparisons", "two equal methods of 3 runs, 100 rows", 60, 0.0, 0.1),
        ("comparisons", "two methods of 3 runs, 100 rows, 0.05 nats apart", 20, 0.7, 1.0),
        ("extraction", "5 canaries, mean 4.6", 200, 0.92, 1.0),
        ("extraction", "5 canaries, mean 7.9", 300, 0.95, 1.0),
    ],
)
def test_the_rate_lies_where_it_should(topic: str, name: str, draws: int, low: float, high: float) -> None:
    (rate,) = [rate for rate in truth.rates(topic) if name in rate.name]
    assert low <= observe(rate, draws).share <= high
