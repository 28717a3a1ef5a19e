"""Numbers as sentences show them: as many digits as their interval supports, and never more."""

from __future__ import annotations

import math

MINUS = "−"
COUNTED = 1e7  # from here on numbers are shown by their power of ten


def decimals(low: float | None, high: float | None, default: int = 2) -> int:
    """Decimals that the interval supports: its half-width keeps one digit, two where that digit is 1 or 2.

    `default` where there is no interval, or one of no width.
    """
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return default
    half = (high - low) / 2
    return min(6, max(0, -math.floor(math.log10(half / 3))))


def number(value: float, places: int) -> str:
    """`value` with that many decimals, thousands apart, and a true minus sign; never "−0.00"."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    text = f"{abs(value):,.{places}f}"
    if abs(value) >= COUNTED:
        digits, power = f"{abs(value):.2e}".split("e")
        text = f"{digits} × 10^{int(power)}"
    return (MINUS if value < 0 and text.strip("0.,") else "") + text


def interval(low: float | None, high: float | None, places: int | None = None) -> str:
    """ "0.78 to 0.88", or what is missing."""
    if low is None or high is None:
        return "no interval: one row"
    shown = decimals(low, high) if places is None else places
    return f"{number(low, shown)} to {number(high, shown)}"


def percent(share: float) -> str:
    """A share with the digits that it needs: "27%", "3.5%", "0.04%". Only none is "0%", only all "100%"."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f}%"
    if value < 0.005:
        return "under 0.01%"
    if 99.95 <= value < 100:
        return "over 99.9%"
    whole = 9.95 <= value < 99.5 or value > 100  # what rounds to 10.0 is 10
    return f"{value:.{0 if whole else 1 if value >= 0.995 else 2}f}%"


def significant(value: float, digits: int = 2) -> float:
    """`value` rounded to that many significant digits, for suggested settings."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def setting(value: float) -> str:
    """A setting written out, "0.000067" and "3", down to 1e-5; what is smaller in powers of ten."""
    shown = f"{value:.6g}"
    if "e-" not in shown or abs(value) < 1e-5:
        return shown
    return f"{value:.12f}".rstrip("0")


def perplexity(value: float) -> str:
    """A perplexity with the decimals that its size deserves: "1,235", "12.3", "2.72"."""
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2)


def plural(count: int, noun: str) -> str:
    """ "1 row", "1,200 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
