"""Simulated rates as HTML tables: a column for each size, what does not hold in red and with a cross. They
scroll where they are wider than the screen, their first column stays, and screen readers get them cell by
cell. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence

from pages.shared.palette import BAD
from store.documents.figures.simulated_truth import SimulatedRate
from store.words import truth_text
from store.words.truth_text import TruthTable

STYLE = f"""
<style>
.tb-truth {{overflow: auto; max-width: 100%; max-height: 32rem; margin-bottom: .6rem}}
.tb-truth table {{border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem;
  line-height: 1.35}}
.tb-truth th, .tb-truth td {{padding: .3rem .6rem; text-align: right; white-space: nowrap; border: 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 13%, transparent)}}
.tb-truth thead th {{position: sticky; top: 0; z-index: 1; font-weight: 600; font-size: .84rem}}
.tb-truth thead th:first-child {{left: 0; z-index: 2}}
.tb-truth tbody th {{position: sticky; left: 0; font-weight: 400}}
.tb-truth th {{background: var(--tb-ground, Canvas)}}
.tb-truth small {{display: block; font-size: .78rem; opacity: .72}}
.tb-truth tr > :first-child {{text-align: left; white-space: normal; overflow-wrap: anywhere; padding-left: 0;
  min-width: 9rem; max-width: 38rem}}
.tb-truth td.off {{font-weight: 600; background: color-mix(in srgb, {BAD} 22%, transparent)}}
@media (max-width: 640px) {{.tb-truth tr > :first-child {{max-width: 12.5rem}}}}
</style>
"""


def rate_table(table: TruthTable, label: str, ground: str) -> str:
    """A topic's matrix or list; `ground`: what is behind the table, over which heads slide."""
    sizes = [f"n {size:,}" for size in table.sizes] or ["observed"]
    rows = [
        _row(row.name, row.wanted, row.draws, truth_text.cells(row, table.sizes, _cell, "<td></td>"))
        for row in table.rows
    ]
    counted = f" by {table.unit}" if table.unit else ""
    return _table(f"{label}{counted}", sizes, rows, ground)


def broken_table(broken: Sequence[tuple[str, SimulatedRate]], ground: str) -> str:
    """Rates out of their band, each with its topic."""
    rows = [
        _row(f"{topic}: {rate['name']}", truth_text.wanted(rate), f"{rate['draws']:,}", [_cell(rate)])
        for topic, rate in broken
    ]
    return _table("What does not hold", ["observed"], rows, ground)


def _table(label: str, heads: Sequence[str], rows: Sequence[str], ground: str) -> str:
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in ("what", *heads))
    return (
        f"{STYLE}<div class='tb-truth' role='region' tabindex='0' aria-label='{html.escape(label)}'"
        f" style='--tb-ground:{html.escape(ground)}'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, wanted: str, draws: str, cells: Sequence[str]) -> str:
    note = f"<small>wanted {html.escape(wanted)}, {draws} draws</small>"
    return f"<tr><th scope='row'>{html.escape(name)}{note}</th>{''.join(cells)}</tr>"


def _cell(rate: SimulatedRate) -> str:
    text = html.escape(truth_text.observed(rate))
    tip = f"{rate['draws']:,} draws; wanted {truth_text.wanted(rate)}"
    return (
        f"<td title='{tip}'>{text}</td>" if rate["holds"] else f"<td class='off' title='{tip}'>✗ {text}</td>"
    )
