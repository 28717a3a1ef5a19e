"""Numbers as sentences show them: as many digits as their interval supports, and never more."""

from __future__ import annotations

import math

from store.core.figure_schemas import Estimate

MINUS = "−"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MAX_PLACES = 6
LARGE = 1e7  # from here on powers of ten


def compute_decimals(low: float | None, high: float | None, default: int = 2) -> int:
    """Decimals that the interval supports: its half-width keeps one digit, two where that digit is 1 or 2.

    `default` where there is no interval, or one of no width.
    """
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return default
    half = (high - low) / 2
    return min(MAX_PLACES, max(0, -math.floor(math.log10(half / 3))))


def format_number(value: float, places: int) -> str:
    """`value` with that many decimals, thousands apart, and a true minus sign; never "−0.00". What is too
    large to read so, or vanishes at six decimals, is written as a power of ten: "1.2×10⁹"."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    sign, size = MINUS if value < 0 else "", abs(value)
    text = f"{size:,.{places}f}"
    vanishes = not text.strip("0.,")
    if size >= LARGE or (vanishes and places >= MAX_PLACES and size):
        return sign + _format_power(size)
    return text if vanishes else sign + text


def _format_power(size: float) -> str:
    digits, exponent = f"{size:.1e}".split("e")
    return f"{digits}×10{str(int(exponent)).translate(RAISED)}"


def format_point_value(value: float) -> str:
    """A number that has no interval, with two digits and two decimals at least: "0.25", "0.0031", "12.40"."""
    if not value or not math.isfinite(value):
        return format_number(value, 2)
    return format_number(value, min(MAX_PLACES, max(2, 1 - math.floor(math.log10(abs(value))))))


def format_interval(low: float | None, high: float | None, places: int | None = None) -> str:
    """ "0.78 to 0.88", or that there is none."""
    if low is None or high is None:
        return "no interval"
    digits = compute_decimals(low, high) if places is None else places
    ends = format_number(low, digits), format_number(high, digits)
    if low < high and ends[0] == ends[1]:  # narrower than the decimals that were asked for
        digits = max(digits, compute_decimals(low, high))
        ends = format_number(low, digits), format_number(high, digits)
    return f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else f"{ends[0]} at both ends"


def format_estimate(estimate: Estimate) -> str:
    """A value with its interval and its rows: "0.50 (0.40 to 0.60, n 200)"; "0.0031 (n 200)" without one."""
    low, high, n = estimate.low, estimate.high, f"n {estimate.n:,}"
    if low is None or high is None or low >= high:
        return f"{format_point_value(estimate.value)} ({n})"
    return f"{format_number(estimate.value, compute_decimals(low, high))} ({format_interval(low, high)}, {n})"


def percent(share: float) -> str:
    """A share with the digits that it needs: "27%", "3.5%", "0.04%". Only none is "0%", only all "100%"."""
    value = 100 * share
    if not math.isfinite(value):
        return "not a number"
    if value in (0, 100):
        return f"{value:.0f}%"
    if value < 0.005:
        return "under 0.01%"
    if 99.95 <= value < 100:
        return "over 99.9%"
    whole = 9.95 <= value < 99.5 or value > 100  # what rounds to 10.0 is 10
    return f"{value:.{0 if whole else 1 if value >= 0.995 else 2}f}%"


def format_percent_at_limit(share: float, limit: float | None) -> str:
    """A share beside a limit that it is not equal to: 10.04%, not 10%, where the limit reads 10%."""
    text = percent(share)
    if limit is None or share == limit or text != percent(limit):
        return text
    return next((t for n in (2, 4) if (t := f"{100 * share:.{n}f}%") != f"{100 * limit:.{n}f}%"), text)


def format_share(estimate: Estimate) -> str:
    """The value of a share in per cent, with the digits that its interval supports; all is "100%"."""
    value = 100 * estimate.value
    if value in (0, 100):
        return f"{value:.0f}%"
    return f"{format_number(value, compute_decimals(*_convert_to_percent(estimate), default=1))}%"


def _convert_to_percent(estimate: Estimate) -> tuple[float, float]:
    """low and high in per cent of a share, which always has an interval."""
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        raise ValueError("The share has no interval.")
    return 100 * low, 100 * high


def format_share_bounds(estimate: Estimate) -> str:
    """ "88 to 94%", of its interval; an end that is none or all is written so."""
    low, high = _convert_to_percent(estimate)
    places = compute_decimals(low, high, default=1)
    ends = [f"{end:.0f}" if end in (0, 100) else format_number(end, places) for end in (low, high)]
    return f"{ends[0]} to {ends[1]}%"


def round_significant(value: float, digits: int = 2) -> float:
    """`value` rounded to that many significant digits, for suggested settings."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def format_setting(value: float) -> str:
    """A setting written out, "0.000067" and "3", down to 1e-5; what is smaller in powers of ten."""
    text = f"{value:.6g}"
    if "e-" not in text or abs(value) < 1e-5:
        return text
    return f"{value:.12f}".rstrip("0")


def format_perplexity(value: float) -> str:
    """A perplexity with the decimals that its size deserves: "1,235", "12.3", "2.72"."""
    return format_number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def format_epochs(count: float) -> str:
    """ "1 epoch", "2.5 epochs"."""
    return f"{count:g} epoch{'' if count == 1 else 's'}"


def plural(count: int, noun: str) -> str:
    """ "1 row", "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
