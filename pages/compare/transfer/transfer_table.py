"""The matrix of transfer as an HTML table: it scrolls where it is wider than the screen, its first column
stays, and screen readers get it cell by cell. Colours are mid-tones over whatever the theme's background is.
Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping

from engine.diagnostics import phrasing
from engine.diagnostics.phrasing import plural
from pages.compare.transfer.transfer_points import DrawnCell, JudgedMatrix
from pages.shared import wording
from pages.shared.palette import run_color
from pages.shared.traces import short
from store.documents.runs.transfer import Likeness, TransferCell
from store.documents.tables.dataset import Dataset
from store.documents.tables.run import Run
from store.queries.runs.transfers import BASE

HELPS, COSTS = (61, 134, 214), (217, 122, 26)  # blue and orange: apart for all eyes, in light and in dark
STRONGEST = 0.62  # opacity of the largest effect
STYLE = """
<style>
.tb-matrix {overflow-x: auto; max-width: 100%; padding: 3px}
.tb-matrix table {border-collapse: separate; border-spacing: 4px; font-variant-numeric: tabular-nums}
.tb-matrix th {text-align: left; font-weight: 600; font-size: .86rem; line-height: 1.3; padding: .3rem .5rem;
  vertical-align: bottom; overflow-wrap: anywhere}
.tb-matrix thead th {min-width: 7.4rem; max-width: 11rem}
.tb-matrix tbody th {position: sticky; left: 0; z-index: 1; min-width: 8rem; max-width: 13rem;
  vertical-align: middle; background: var(--tb-ground, Canvas)}
.tb-matrix td {min-width: 8.4rem; padding: .4rem .55rem; border-radius: 6px; vertical-align: middle;
  border: 1px solid color-mix(in srgb, currentColor 13%, transparent)}
.tb-matrix td.own {outline: 2px solid currentColor; outline-offset: -1px}
.tb-matrix td.earlier {outline: 2px dashed color-mix(in srgb, currentColor 60%, transparent);
  outline-offset: -1px}
.tb-matrix td.noise b, .tb-matrix td.noise small {opacity: .62; font-weight: 400}
.tb-matrix td.why {font-size: .78rem; line-height: 1.25; opacity: .7; max-width: 11rem}
.tb-matrix tr.base td {background: color-mix(in srgb, currentColor 5%, transparent)}
.tb-matrix small {display: block; font-weight: 400; font-size: .78rem; opacity: .72; line-height: 1.3}
.tb-matrix b {font-size: 1.02rem}
</style>
"""


def table(of: JudgedMatrix, ground: str = "") -> str:
    """The whole matrix; `ground`: the page's background, over which the first column slides."""
    head = "".join(_column(of, dataset) for dataset in of.sets)
    body = _base(of) + "".join(_row(of, run) for run in of.runs)
    over = f" style='--tb-ground:{html.escape(ground)}'" if ground else ""
    label = f"Transfer of {plural(len(of.runs), 'run')} to {plural(len(of.sets), 'data set')}"
    return (
        f"{STYLE}<div class='tb-matrix' role='region' tabindex='0' aria-label='{label}'{over}><table>"
        f"<thead><tr><th scope='col'>Trained on ↓ &nbsp;measured on →</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _column(of: JudgedMatrix, dataset: Dataset) -> str:
    column = of.measured.sets.get(dataset["dataset_id"])
    rows = "not measured yet"
    if column and column["rows"]:
        rows = f"{column['rows']:,} of {column['of']:,} {column['part']} rows"
    return f"<th scope='col'>{short(dataset['name'], 40)}<small>{html.escape(rows)}</small></th>"


def _base(of: JudgedMatrix) -> str:
    """Row 0: what everything is held against."""
    cells = []
    for dataset in of.sets:
        cell = of.measured.cells.get((BASE, dataset["dataset_id"]))
        if cell is None:
            cells.append("<td></td>")
        elif cell["reason"]:
            cells.append(_why(cell["reason"]))
        else:
            cells.append(_level(cell, of.measure))
    unit = "nats a token" if of.measure == "relative" else "answers exactly right"
    return f"<tr class='base'><th scope='row'>Base model<small>{unit}</small></th>{''.join(cells)}</tr>"


def _level(cell: TransferCell, measure: str) -> str:
    scale, unit = (1, "") if measure == "relative" else (100, "%")
    figure = cell["base"]["loss"] if measure == "relative" else cell["base"]["right"]
    low, high = wording.ends(figure, scale)
    places = phrasing.decimals(low, high)
    value = phrasing.number(scale * figure["value"], places)
    interval = phrasing.interval(low, high, places)
    tip = f"Base model: {value}{unit}, 95% interval {interval}, n {plural(cell['n'], 'row')}"
    return f"<td title='{tip}'><b>{value}{unit}</b><small>{interval}, n {cell['n']:,}</small></td>"


def _row(of: JudgedMatrix, run: Run) -> str:
    ink = run_color(run["number"])
    name = f"<span style='color:{ink}'>●</span> {short(run['dataset_name'], 32)}"
    note = f"#{run['number']} {short(run['name'], 36)}"
    cells = "".join(_cell(of, run, dataset) for dataset in of.sets)
    return f"<tr><th scope='row'>{name}<small>{note}</small></th>{cells}</tr>"


def _cell(of: JudgedMatrix, run: Run, dataset: Dataset) -> str:
    key = run["run_id"], dataset["dataset_id"]
    if key in of.reasons:
        return _why(of.reasons[key])
    cell = of.cells.get(key)
    if cell is None:
        return "<td title='Not measured yet'></td>"
    unit = "%" if of.measure == "relative" else " pt"
    value, interval = cell_texts(cell)
    kinds = [] if cell["sure"] else ["noise"]
    if cell["own"]:
        kinds.append("own")
    elif cell["earlier"]:
        kinds.append("earlier")
    paint = f" style='background:{_color(cell, of)}'" if cell["sure"] else ""
    tip = html.escape(cell_hover_text(cell, of.measure), quote=True)
    return (
        f"<td class='{' '.join(kinds)}'{paint} title='{tip}'>"
        f"<b>{value}{unit}{' ' + cell['stars'] if cell['stars'] else ''}</b>"
        f"<small>{interval}, n {cell['n']:,}</small></td>"
    )


def _why(reason: str) -> str:
    return f"<td class='why'>{html.escape(reason)}</td>"


def cell_texts(cell: DrawnCell) -> tuple[str, str]:
    """Value and interval, both in per cent or points."""
    figure = cell["figure"]
    low, high = wording.ends(figure, 100)
    places = phrasing.decimals(low, high, 1)
    value = phrasing.number(100 * figure["value"], places)
    sign = "+" if figure["value"] > 0 and value.strip("0.,") else ""
    return f"{sign}{value}", phrasing.interval(low, high, places)


def cell_hover_text(cell: DrawnCell, measure: str) -> str:
    """What hovering says, and a screen reader."""
    value, interval = cell_texts(cell)
    run, change = cell["run"], cell["change"]
    unit = "% of the base model's loss" if measure == "relative" else " points of answers exactly right"
    between = phrasing.interval(change["low"], change["high"], 3)
    loss = f"loss {phrasing.number(change['value'], 3)} nats a token ({between})"
    shares = (cell["base"]["right"]["value"], cell["tuned"]["right"]["value"])
    right = " → ".join(f"{100 * share:.0f}%" for share in shares)
    p = cell["p_holm"]
    sure = "told from noise" if cell["sure"] else "can't be told from noise"
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    lines = [
        f"#{run['number']} {run['name']} (trained on {cell['source']}) on {cell['target']}",
        f"{value}{unit}, 95% interval {interval}, n {plural(cell['n'], 'row')}",
        f"{sure}: {chance} after Holm",
        f"{loss}; answers exactly right {right}",
    ]
    seen = cell.get("left_out")
    if seen and (away := seen.get("trained", 0) + seen.get("asked", 0)):
        lines.append(f"{plural(away, 'row')} left out that it was trained on or asked")
    if cut := cell.get("cut"):
        lines.append(f"{plural(cut, 'row')} cut: too long")
    return "\n".join(lines)


def _color(cell: DrawnCell, of: JudgedMatrix) -> str:
    """Centred on 0: as strong as the effect is large, against the largest one of unseen data."""
    value = cell["figure"]["value"]
    sizes = [abs(other["figure"]["value"]) for other in of.off if other["sure"]]
    most = max(sizes, default=abs(value)) or 1.0
    alpha = STRONGEST * min(1.0, 0.18 + 0.82 * abs(value) / most)
    red, green, blue = HELPS if value > 0 else COSTS
    return f"rgba({red},{green},{blue},{alpha:.2f})"


def pair_table(names: Mapping[str, str], pairs: Mapping[frozenset[str], Likeness], what: str) -> str:
    """A small symmetric matrix of {value, low, high, n} by pairs of keys of `names`, empty on its
    diagonal."""
    keys = list(names)
    head = "".join(f"<th scope='col'>{short(names[key], 28)}</th>" for key in keys[1:])
    rows = []
    for place, first in enumerate(keys[:-1]):
        cells = ["<td></td>"] * place
        cells += [_figure(pairs.get(frozenset((first, second)))) for second in keys[place + 1 :]]
        rows.append(f"<tr><th scope='row'>{short(names[first], 28)}</th>{''.join(cells)}</tr>")
    return (
        f"{STYLE}<div class='tb-matrix' role='region' tabindex='0' aria-label='{html.escape(what)}'><table>"
        f"<thead><tr><td style='border:0'></td>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(likeness: Likeness | None) -> str:
    if likeness is None or likeness["value"] is None:
        return "<td>–</td>"
    between = (
        "" if likeness["low"] is None else f"{phrasing.interval(likeness['low'], likeness['high'], 2)}, "
    )
    note = f"{between}n {likeness['n']:,}"
    return f"<td><b>{phrasing.number(likeness['value'], 2)}</b><small>{note}</small></td>"
