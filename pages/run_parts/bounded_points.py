"""Points of a chart that have an interval, and their error bars. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class BoundedPoint(NamedTuple):
    """A value at a step, or at another place, with both ends of its interval over `n` rows."""

    x: float
    value: float
    low: float
    high: float
    n: int


def bounded_point(
    x: float, value: float | None, low: float | None, high: float | None, n: int
) -> BoundedPoint | None:
    """None where the value or an end of its interval is not known."""
    if value is None or low is None or high is None:
        return None
    return BoundedPoint(x, value, low, high, n)


def error_bars(points: Sequence[BoundedPoint], color: str, thickness: float = 2) -> dict[str, Any]:
    """The intervals as Plotly draws them."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": thickness,
        "width": 0,
        "color": color,
        "array": [point.high - point.value for point in points],
        "arrayminus": [point.value - point.low for point in points],
    }
