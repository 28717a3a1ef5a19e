"""How a change lies beside what is allowed: its interval, nothing changed, and the margin. Pure."""

from __future__ import annotations

from engine.diagnostics import phrasing
from pages.shared import palette
from store.documents.figures.estimate import Estimate
from store.documents.shipping.gate import CheckAnswer, CheckReport
from store.words.improvement_words import may_be_slips

POWER = (1.960 + 0.842) / 1.960  # of a normal: 95% intervals that clear a limit in 80 of 100 cases
COLORS: dict[CheckAnswer, str] = {
    "passed": palette.GOOD,
    "failed": palette.BAD,
    "cant_tell": palette.TRAIN,
}
STYLE = """<style>
.tb-side {display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; line-height: 1.6;
  font-variant-numeric: tabular-nums}
.tb-side span:first-child {overflow-wrap: anywhere}
.tb-change {border-top: 1px solid color-mix(in srgb, currentColor 16%, transparent); margin-top: .3rem;
  padding-top: .3rem; font-weight: 600}
.tb-reach {position: relative; height: 26px; margin: .35rem 0 0; border-radius: 4px; overflow: hidden;
  background: color-mix(in srgb, currentColor 5%, transparent)}
.tb-reach * {position: absolute; top: 0; bottom: 0}
.tb-reach .bad {left: 0; background: repeating-linear-gradient(115deg,
  color-mix(in srgb, #d64545 26%, transparent) 0 6px, color-mix(in srgb, #d64545 10%, transparent) 6px 12px)}
.tb-reach .zero {width: 0; border-left: 2px dashed color-mix(in srgb, currentColor 45%, transparent)}
.tb-reach .reach {top: 10px; bottom: 10px; border-radius: 3px; min-width: 3px}
.tb-reach .dot {top: 7px; bottom: auto; width: 12px; height: 12px; border-radius: 50%; margin-left: -6px}
</style>"""


def in_shares(check: CheckReport) -> bool:
    """Whether it is of a share, which is written in points."""
    return check["unit"].startswith("share")


def change_words(change: Estimate, *, shares: bool) -> str:
    """ "1.2 points better (0.4 worse to 2.8 better, n 300)"; of a share in points."""
    times, unit = (100.0, "point") if shares else (1.0, "")
    value, low, high = change["value"], change["low"], change["high"]
    if low is None or high is None:
        why = change.get("why") or "no interval"
        return f"{_sided(times * value, 2, unit)} ({why}, n {change['n']:,})"
    places = phrasing.decimals(times * low, times * high)
    ends = f"{_sided(times * low, places)} to {_sided(times * high, places)}"
    if (low < 0) == (high < 0):
        near, far = sorted((abs(times * low), abs(times * high)))
        ends = phrasing.interval(near, far, places)
    return f"{_sided(times * value, places, unit)} ({ends}, n {change['n']:,})"


def _sided(value: float, places: int, unit: str = "") -> str:
    size = phrasing.number(abs(value), places)
    many = f" {unit}{'' if size == '1' else 's'}" if unit else ""
    if not size.strip("0.,"):
        return f"{size}{many}"
    return f"{size}{many} {'better' if value > 0 else 'worse'}"


def rows_needed(change: Estimate, limit: float | None) -> int | None:
    """About how many rows would show in 80 of 100 cases that two equally good versions are as good, by the
    width of this interval; None where that can't be said."""
    low, high = change["low"], change["high"]
    if low is None or high is None or not limit or high <= low:
        return None
    half_width = (high - low) / 2
    return int(phrasing.significant(change["n"] * (POWER * half_width / abs(limit)) ** 2))


def needed_words(check: CheckReport) -> str:
    """What would tell where it can't be told; empty where nothing can be said of it, or where it is
    repeats that keep it open: more rows would not help."""
    if check["answer"] != "cant_tell" or check["value"] is None or may_be_slips(check):
        return ""
    rows = rows_needed(check["value"], check["limit"])
    if rows is None or rows <= check["value"]["n"]:
        return ""
    return (
        f"If both are equally good, about {rows:,} rows that judge would show it in 80 of 100 cases; here are"
        f" {check['value']['n']:,}."
    )


def change_picture(change: Estimate, limit: float | None, answer: CheckAnswer, *, shares: bool) -> str:
    """The picture; words beside it say the same, so that it is hidden from who hears the page."""
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return ""
    least, most = min(low, 0.0, limit or 0.0), max(high, 0.0)
    spare = 0.12 * (most - least) or 1.0
    start, width = least - spare, most - least + 2 * spare

    def at(value: float) -> str:
        return f"{100 * (value - start) / width:.2f}%"

    color = COLORS[answer]
    bad = f"<div class='bad' style='width: {at(limit)}'></div>" if limit is not None else ""
    reach = f"left: {at(low)}; width: {100 * (high - low) / width:.2f}%; background: {color}"
    return (
        f"<div aria-hidden='true'><div class='tb-reach'>{bad}<div class='zero' style='left: {at(0.0)}'></div>"
        f"<div class='reach' style='{reach}'></div>"
        f"<div class='dot' style='left: {at(change['value'])}; background: {color}'></div></div>"
        f"<div class='tb-note'>{_key(limit, shares=shares)}</div></div>"
    )


def _key(limit: float | None, *, shares: bool) -> str:
    """What line and hatching are."""
    dashed = "Dashed: no change"
    if limit is None:
        return f"{dashed}."
    size = f"{100 * abs(limit):g} points" if shares else f"{abs(limit):g}"
    return f"{dashed}. Hatched: {f'more than {size} worse' if limit else 'worse'}."
