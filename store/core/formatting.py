"""Formatting of numbers in text, with as many digits as their confidence interval supports and no more."""

from __future__ import annotations

import math

from store.core.figure_schemas import Estimate

MINUS = "−"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_PLACES = 6
LARGE = 1e7  # larger values are written as powers of ten


def compute_decimals(low: float | None, high: float | None, default: int = 2) -> int:
    """Return the number of decimals that the interval supports: its half-width keeps one digit, or two if
    that digit is 1 or 2.

    Returns `default` if there is no interval or its width is zero.
    """
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return default
    half = (high - low) / 2
    return min(MAX_PLACES, max(0, -math.floor(math.log10(half / 3))))


def format_number(value: float, places: int) -> str:
    """Format `value` with that many decimals, thousands separators and a true minus sign; never "−0.00".
    Values that are too large to read, or zero at six decimals, are written as a power of ten: "1.2×10⁹".
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    sign, size = MINUS if value < 0 else "", abs(value)
    text = f"{size:,.{places}f}"
    vanishes = not text.strip("0.,")
    if size >= LARGE or (vanishes and places >= MAX_PLACES and size):
        digits, exponent = f"{size:.1e}".split("e")
        return f"{sign}{digits}×10{str(int(exponent)).translate(RAISED)}"
    return text if vanishes else sign + text


def format_point_value(value: float) -> str:
    """Format a number without an interval, with at least two digits and two decimals: "0.25", "0.0031",
    "12.40".
    """
    if not value or not math.isfinite(value):
        return format_number(value, 2)
    return format_number(value, min(MAX_PLACES, max(2, 1 - math.floor(math.log10(abs(value))))))


def format_interval(low: float | None, high: float | None, places: int | None = None) -> str:
    """Format an interval, such as "0.78 to 0.88", or "no interval"."""
    if low is None or high is None:
        return "no interval"
    digits = compute_decimals(low, high) if places is None else places
    ends = format_number(low, digits), format_number(high, digits)
    if low < high and ends[0] == ends[1]:  # narrower than the requested decimals show
        digits = max(digits, compute_decimals(low, high))
        ends = format_number(low, digits), format_number(high, digits)
    return f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else f"{ends[0]} at both ends"


def format_estimate(estimate: Estimate) -> str:
    """Format a value with interval and n: "0.50 (0.40 to 0.60, n 200)", or "0.0031 (n 200)" without an
    interval.
    """
    low, high, n = estimate.low, estimate.high, f"n {estimate.n:,}"
    if low is None or high is None or low >= high:
        return f"{format_point_value(estimate.value)} ({n})"
    return f"{format_number(estimate.value, compute_decimals(low, high))} ({format_interval(low, high)}, {n})"


def percent(share: float) -> str:
    """Format a share with the digits it needs: "27%", "3.5%", "0.04%". Only exactly 0 is "0%", only exactly 1
    is "100%".
    """
    value = 100 * share
    if not math.isfinite(value):
        return "not a number"
    if value in (0, 100):
        return f"{value:.0f}%"
    if value < 0.005:
        return "under 0.01%"
    if 99.95 <= value < 100:
        return "over 99.9%"
    whole = 9.95 <= value < 99.5 or value > 100  # a value that rounds to 10.0 is shown as 10
    return f"{value:.{0 if whole else 1 if value >= 0.995 else 2}f}%"


def format_percent_at_limit(share: float, limit: float | None) -> str:
    """Format a share so that it differs visibly from a limit it does not equal: 10.04%, not 10%, next to a
    limit of 10%.
    """
    text = percent(share)
    if limit is None or share == limit or text != percent(limit):
        return text
    return next((t for n in (2, 4) if (t := f"{100 * share:.{n}f}%") != f"{100 * limit:.{n}f}%"), text)


def format_share(estimate: Estimate) -> str:
    """Format a share in percent, with the digits its interval supports; exactly 1 is "100%"."""
    value = 100 * estimate.value
    if value in (0, 100):
        return f"{value:.0f}%"
    return f"{format_number(value, compute_decimals(*_convert_to_percent(estimate), default=1))}%"


def _convert_to_percent(estimate: Estimate) -> tuple[float, float]:
    """Return low and high of a share in percent. Raises ValueError if it has no interval."""
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        raise ValueError("The share has no interval.")
    return 100 * low, 100 * high


def format_share_bounds(estimate: Estimate) -> str:
    """Format the interval of a share, such as "88 to 94%"; bounds of exactly 0 or 1 are 0 or 100."""
    low, high = _convert_to_percent(estimate)
    places = compute_decimals(low, high, default=1)
    ends = [f"{end:.0f}" if end in (0, 100) else format_number(end, places) for end in (low, high)]
    return f"{ends[0]} to {ends[1]}%"


def round_significant(value: float, digits: int = 2) -> float:
    """Round `value` to that many significant digits, for suggested settings."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def format_setting(value: float) -> str:
    """Format a setting without exponent, such as "0.000067" and "3", down to 1e-5; smaller ones with it."""
    text = f"{value:.6g}"
    if "e-" not in text or abs(value) < 1e-5:
        return text
    return f"{value:.12f}".rstrip("0")


def format_perplexity(value: float) -> str:
    """Format a perplexity with decimals according to its size: "1,235", "12.3", "2.72"."""
    return format_number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def format_epochs(count: float) -> str:
    """Format a number of epochs: "1 epoch", "2.5 epochs"."""
    return f"{count:g} epoch{'' if count == 1 else 's'}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: "1 row", "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
