"""Small graphics as HTML: meters, progress bars and fact cards, for light and dark.

Colours are mixed from the text colour. All data is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

TEAL = "#12a594"
AMBER = "#d97a1a"
RED = "#d64545"
STYLE = """
<style>
.tb-grid {display: grid; gap: .7rem 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(var(--tb-width, 9.5rem), 1fr))}
.tb-name, .tb-label {font-size: .84rem; opacity: .7; line-height: 1.5}
.tb-value {font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; line-height: 1.45}
.tb-note {font-size: .84rem; opacity: .7; line-height: 1.35; overflow-wrap: anywhere}
.tb-bar {height: 6px; border-radius: 3px; margin: .2rem 0 .15rem; overflow: hidden;
  background: color-mix(in srgb, currentColor 12%, transparent)}
.tb-bar div {height: 100%; border-radius: 3px; min-width: 2px}
.tb-ranged {position: relative}
.tb-ranged div {position: absolute; left: 0; top: 0}
.tb-ranged div:first-child {opacity: .38}
.tb-ranged i {position: absolute; top: 0; bottom: 0; width: 2px; background: currentColor}
.tb-bar .working {width: 100%; opacity: .5; background: repeating-linear-gradient(115deg,
  #12a594 0 9px, color-mix(in srgb, #12a594 45%, transparent) 9px 18px)}
@media (max-width: 640px) {
  .tb-head {grid-template-columns: repeat(3, 1fr); gap: .35rem .8rem}
  .tb-head .tb-note {display: none}
}
</style>
"""


def render_bar(fraction: float | None, color: str = TEAL) -> str:
    """A bar filled to `fraction` (0 to 1); striped if the progress is unknown."""
    if fraction is None:
        return "<div class='tb-bar'><div class='working'></div></div>"
    width = 100 * min(1.0, max(0.0, fraction))
    return f"<div class='tb-bar'><div style='width:{width:.1f}%;background:{color}'></div></div>"


def render_range(label: str, value: str, low: float, high: float, whole: float, note: str = "") -> str:
    """A labelled share of a limited amount with its interval: solid up to `low`, hatched up to `high`, of
    `whole`. Amber from 80%, red if it may exceed the limit.
    """
    scale = 100 / max(whole, high, 1e-9)
    color = RED if high > whole else AMBER if high > 0.8 * whole else TEAL
    edge = f"<i style='left:{whole * scale:.1f}%'></i>" if high > whole else ""
    picture = (
        f"<div class='tb-bar tb-ranged'><div style='width:{high * scale:.1f}%;background:{color}'></div>"
        f"<div style='width:{low * scale:.1f}%;background:{color}'></div>{edge}</div>"
    )
    return _render_figure(label, value, picture, note)


def render_meter(label: str, value: str, fraction: float, note: str = "", warn: bool = True) -> str:
    """A labelled share of a limited amount; amber from 80%, red from 95% if a full bar is bad."""
    color = (RED if fraction >= 0.95 else AMBER if fraction >= 0.8 else TEAL) if warn else TEAL
    return _render_figure(label, value, render_bar(fraction, color), note)


def render_fact(label: str, value: str, note: str = "", more: str = "") -> str:
    """A labelled figure with its basis below, and `more` as the note's tooltip."""
    return _render_figure(label, value, "", note, more)


def _render_figure(label: str, value: str, picture: str, note: str, more: str = "") -> str:
    tip = f" title='{html.escape(more)}'" if more else ""
    small = f"<div class='tb-note'{tip}>{html.escape(note)}</div>" if note else ""
    return (
        f"<div><div class='tb-name'>{html.escape(label)}</div>"
        f"<div class='tb-value'>{html.escape(value)}</div>{picture}{small}</div>"
    )


def render_grid(parts: Iterable[str], width: float = 9.5) -> str:
    """Meters and facts side by side, each at least `width` rem wide."""
    return f"{STYLE}<div class='tb-grid' style='--tb-width:{width}rem'>{''.join(parts)}</div>"


def render_facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """A grid of (label, value, note)."""
    return render_grid(render_fact(*row) for row in rows)


def render_heading(rows: Sequence[tuple[str, str, str]]) -> str:
    """As `render_facts`, at the top of a page: on a phone three per line and without notes."""
    return render_facts(rows).replace("class='tb-grid'", "class='tb-grid tb-head'", 1)
