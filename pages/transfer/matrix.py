"""The transfer matrix: its runs and data sets, its queries, and its HTML table."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from engine.transfer import effects as diagnosis
from engine.transfer.effects import Correlation, JudgedCell, TransferMeasure
from pages.shared import cached_queries, display, run_queries
from pages.shared.charts import shorten_name
from pages.shared.palette import get_run_color
from pages.shared.session import cached, get_client
from store.core import formatting
from store.core.formatting import plural
from store.core.schemas import Job
from store.data.schemas import Dataset
from store.runs.schemas import Run
from store.transfer import transfers
from store.transfer.schemas import Similarity, TransferCell, TransferFigure
from store.transfer.transfers import BASE, MeasuredTransfer

DEFAULT_RUNS = 6  # default numbers of runs and data sets
DEFAULT_DATASETS = 4


class MatrixCell(JudgedCell):
    """A measured run on a data set, tested together with the other cells."""

    run: Run


# Row counts by use for a run and a data set. The keys are the titles of table columns.
ExcludedRow = TypedDict(
    "ExcludedRow",
    {
        "Run": str,
        "Data set": str,
        "Excluded: seen in training": int,
        "Excluded: same question": int,
        "Near duplicates (kept)": int,
        "Rows evaluated": int,
    },
)


@dataclass(frozen=True)
class TransferMatrix:
    """The matrix: rows are runs, columns are data sets.

    `cells`: tested ones by (run_id, dataset_id); `reasons`: why others could not be measured.
    """

    runs: Sequence[Run]
    sets: Sequence[Dataset]
    measured: MeasuredTransfer
    cells: Mapping[tuple[str, str], MatrixCell]
    reasons: Mapping[tuple[str, str], str]
    measure: TransferMeasure

    @property
    def off(self) -> list[MatrixCell]:
        """Cells of data that neither the run nor a run that it continues was trained on."""
        return [cell for cell in self.cells.values() if not (cell["own"] or cell["earlier"])]


@dataclass(frozen=True)
class PredictorPair:
    """A predictor and the measured transfer. figure: of the cell."""

    x: float
    figure: TransferFigure
    sure: bool
    label: str
    number: int


def build_matrix(
    runs: Sequence[Run], sets: Sequence[Dataset], measured: MeasuredTransfer, measure: TransferMeasure
) -> TransferMatrix:
    """Build the cells of these runs and data sets, tested together."""
    cells: list[Any] = []
    reasons = {}
    for run in runs:
        for dataset in sets:
            key = run.run_id, dataset.dataset_id
            cell = measured.cells.get(key)
            if cell and cell["reason"]:
                reasons[key] = cell["reason"]
            elif cell:
                named = {"run": run, "run_name": f"#{run.number} {run.name}"}
                cells.append(cell | measured.place(run, dataset, sets) | named)
    judged = cast("list[MatrixCell]", diagnosis.judge_cells(cells, measure))  # keeps the other keys
    placed = {(cell["run_id"], cell["dataset_id"]): cell for cell in judged}
    return TransferMatrix(runs, sets, measured, placed, reasons, measure)


def choose_default_runs(runs: Sequence[Run]) -> list[str]:
    """Return the newest run of each data set (runs are given newest first)."""
    newest: dict[str, str] = {}
    for run in runs:
        if not run.config.get("init_from") and run.config.get("task") != "classification":
            newest.setdefault(run.dataset_id, run.run_id)
    return list(newest.values())[:DEFAULT_RUNS] or [run.run_id for run in runs[:1]]


def choose_default_datasets(runs: Sequence[Run], sets: Sequence[Dataset]) -> list[str]:
    """Return the data sets of the runs, and others if that is only one."""
    own = [dataset.dataset_id for dataset in sets if dataset.dataset_id in {run.dataset_id for run in runs}]
    others = [dataset.dataset_id for dataset in sets if dataset.dataset_id not in own]
    return own if len(own) > 1 else [*own, *others][:DEFAULT_DATASETS]


def sort_datasets(sets: Sequence[Dataset], runs: Sequence[Run]) -> list[Dataset]:
    """Sort the data sets by the runs trained on them, so that own data is on the diagonal."""
    trained = list(dict.fromkeys(run.data_fingerprint for run in runs))
    places = {fingerprint: place for place, fingerprint in enumerate(trained)}
    return sorted(sets, key=lambda held: (places.get(held.fingerprint, len(places)), held.name))


def pair_by_data(of: TransferMatrix) -> list[PredictorPair]:
    """Pair transfer with the distance between the training data and the data set of the cell."""
    prints = {dataset.dataset_id: dataset.fingerprint for dataset in of.sets}
    pairs = []
    for cell in of.off:
        both = frozenset((cell["run"].data_fingerprint or "", prints[cell["dataset_id"]]))
        distance = of.measured.distances.get(both)
        if distance and distance["value"] is not None:
            pairs.append(_build_pair(distance["value"], cell))
    return pairs


def pair_by_weights(of: TransferMatrix) -> list[PredictorPair]:
    """Pair transfer with the similarity of weight changes to those of runs trained on the cell's data set."""
    pairs = []
    for cell in of.off:
        trained = [run.run_id for run in of.runs if run.dataset_id == cell["dataset_id"]]
        cosines = [of.measured.weights.get(frozenset((cell["run_id"], other))) for other in trained]
        values = [cosine["value"] for cosine in cosines if cosine and cosine["value"] is not None]
        if values:
            pairs.append(_build_pair(float(np.mean(values)), cell))
    return pairs


def _build_pair(x: float, cell: MatrixCell) -> PredictorPair:
    run = cell["run"]
    label = f"#{run.number} {run.name} on {cell['target']}"
    return PredictorPair(x, cell["figure"], cell["sure"], label, run.number)


def compute_correlation(pairs: Sequence[PredictorPair]) -> Correlation:
    """Compute Spearman's correlation with its interval and n."""
    return diagnosis.spearman([pair.x for pair in pairs], [pair.figure.value for pair in pairs])


def build_row(cell: MatrixCell, measure: TransferMeasure) -> dict[str, str | float]:
    """Build the table row of a cell."""
    low, high = display.scale_bounds(cell["figure"], 100)
    change, run = cell["change"], cell["run"]
    unit = "%" if measure == "relative" else "points"
    return {
        "Run": f"#{run.number} {run.name}",
        "Trained on": cell["source"],
        "Evaluated on": cell["target"],
        f"Gain ({unit}) ↑": round(100 * cell["figure"].value, 2),
        "95%": formatting.format_interval(low, high),
        "n (rows)": cell["n"],
        "p after Holm": float(f"{cell['p_holm']:.2g}"),
        "Significant": "yes" if cell["sure"] else "no",
        "Loss (nats a token) ↓": round(change.value, 4),
        "95% CI (loss)": formatting.format_interval(change.low, change.high),
        "Accuracy before (%)": round(100 * cell["base"]["right"].value, 1),
        "Accuracy after (%)": round(100 * cell["tuned"]["right"].value, 1),
        "Own data": "yes" if cell["own"] else "earlier" if cell["earlier"] else "no",
    }


def list_excluded(of: TransferMatrix) -> list[ExcludedRow]:
    """List excluded rows and kept near duplicates for each run and data set that has some."""
    names = {dataset.dataset_id: dataset.name for dataset in of.sets}
    lines: list[ExcludedRow] = []
    for run in of.runs:
        for key, cell in of.measured.cells.items():
            counts = cell.get("left_out") or {}
            if key[0] == run.run_id and key[1] in names and any(counts.values()):
                lines.append(
                    {
                        "Run": f"#{run.number} {run.name}",
                        "Data set": names[key[1]],
                        "Excluded: seen in training": counts["trained"],
                        "Excluded: same question": counts["asked"],
                        "Near duplicates (kept)": counts["near"],
                        "Rows evaluated": cell.get("n", 0),
                    }
                )
    return lines


FINISHED = ("finished",)
LISTED = 400  # number of newest runs offered


class TransferRequest(TypedDict):
    """The request of the newest matrix."""

    runs: list[str]
    datasets: list[str]
    part: NotRequired[str]
    max_rows: NotRequired[int | None]


def list_finished_runs() -> list[Run]:
    """Return the newest finished runs."""
    return run_queries.list_newest_runs("", FINISHED, LISTED)


@cached(cached_queries.CALM, max_entries=32)
def read_transfer(
    run_ids: tuple[str, ...], dataset_ids: tuple[str, ...], asked: tuple[tuple[str, str | int | None], ...]
) -> MeasuredTransfer:
    """Read all measurements of these runs on these data sets."""
    sets = [dataset for dataset in cached_queries.list_datasets() if dataset.dataset_id in dataset_ids]
    return transfers.measured_transfer(get_client(), run_ids, sets, dict(asked))


@cached(cached_queries.LIVE, max_entries=4)
def list_unfinished() -> list[Job]:
    return transfers.unfinished(get_client())


@cached(cached_queries.CALM, max_entries=4)
def read_newest_request() -> TransferRequest | None:
    return cast("TransferRequest | None", transfers.newest(get_client()))  # a TransferConfig as JSON


@cached(cached_queries.CALM, max_entries=4)
def find_failed_job() -> Job | None:
    return transfers.last_bad_end(get_client())


@cached(cached_queries.CALM, max_entries=8)
def estimate_seconds_per_cell(max_rows: int | None) -> tuple[float, int] | None:
    return transfers.seconds_a_cell(get_client(), max_rows)


HELPS, COSTS = (61, 134, 214), (217, 122, 26)  # blue and orange: distinguishable by everyone
MAX_OPACITY = 0.62  # opacity of the largest effect
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


def render_matrix(of: TransferMatrix, ground: str = "") -> str:
    """Render the matrix as HTML; `ground`: background colour of the sticky first column."""
    head = "".join(_render_column_header(of, dataset) for dataset in of.sets)
    body = _render_base_row(of) + "".join(_render_row(of, run) for run in of.runs)
    over = f" style='--tb-ground:{html.escape(ground)}'" if ground else ""
    label = f"Transfer of {plural(len(of.runs), 'run')} to {plural(len(of.sets), 'data set')}"
    return (
        f"{STYLE}<div class='tb-matrix' role='region' tabindex='0' aria-label='{label}'{over}>"
        f"<table><thead><tr><th scope='col'>Trained on ↓ &nbsp;evaluated on →</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _render_column_header(of: TransferMatrix, dataset: Dataset) -> str:
    column = of.measured.sets.get(dataset.dataset_id)
    rows = "not evaluated yet"
    if column and column.rows:
        rows = f"{column.rows:,} of {column.of:,} {column.part} rows"
    return f"<th scope='col'>{shorten_name(dataset.name, 40)}<small>{html.escape(rows)}</small></th>"


def _render_base_row(of: TransferMatrix) -> str:
    """Render the first row, the base model as reference."""
    cells = []
    for dataset in of.sets:
        cell = of.measured.cells.get((BASE, dataset.dataset_id))
        if cell is None:
            cells.append("<td></td>")
        elif cell["reason"]:
            cells.append(_explain_missing(cell["reason"]))
        else:
            cells.append(_format_base_level(cell, of.measure))
    unit = "nats a token" if of.measure == "relative" else "exact match"
    return f"<tr class='base'><th scope='row'>Base model<small>{unit}</small></th>{''.join(cells)}</tr>"


def _format_base_level(cell: TransferCell, measure: str) -> str:
    scale, unit = (1, "") if measure == "relative" else (100, "%")
    figure = cell["base"]["loss"] if measure == "relative" else cell["base"]["right"]
    low, high = display.scale_bounds(figure, scale)
    places = formatting.compute_decimals(low, high)
    value = formatting.format_number(scale * figure.value, places)
    interval = formatting.format_interval(low, high, places)
    tip = f"Base model: {value}{unit}, 95% CI {interval}, n {plural(cell['n'], 'row')}"
    return f"<td title='{tip}'><b>{value}{unit}</b><small>{interval}, n {cell['n']:,}</small></td>"


def _render_row(of: TransferMatrix, run: Run) -> str:
    ink = get_run_color(run.number)
    name = f"<span style='color:{ink}'>●</span> {shorten_name(run.dataset_name, 32)}"
    note = f"#{run.number} {shorten_name(run.name, 36)}"
    cells = "".join(_render_cell(of, run, dataset) for dataset in of.sets)
    return f"<tr><th scope='row'>{name}<small>{note}</small></th>{cells}</tr>"


def _render_cell(of: TransferMatrix, run: Run, dataset: Dataset) -> str:
    key = run.run_id, dataset.dataset_id
    if key in of.reasons:
        return _explain_missing(of.reasons[key])
    cell = of.cells.get(key)
    if cell is None:
        return "<td title='Not evaluated yet'></td>"
    unit = "%" if of.measure == "relative" else " pt"
    value, interval = format_cell(cell)
    kinds = [] if cell["sure"] else ["noise"]
    if cell["own"]:
        kinds.append("own")
    elif cell["earlier"]:
        kinds.append("earlier")
    paint = f" style='background:{_compute_color(cell, of)}'" if cell["sure"] else ""
    tip = html.escape(format_hover(cell, of.measure), quote=True)
    return (
        f"<td class='{' '.join(kinds)}'{paint} title='{tip}'>"
        f"<b>{value}{unit}{' ' + cell['stars'] if cell['stars'] else ''}</b>"
        f"<small>{interval}, n {cell['n']:,}</small></td>"
    )


def _explain_missing(reason: str) -> str:
    return f"<td class='why'>{html.escape(reason)}</td>"


def format_cell(cell: MatrixCell) -> tuple[str, str]:
    """Format value and interval, both in per cent or points."""
    figure = cell["figure"]
    low, high = display.scale_bounds(figure, 100)
    places = formatting.compute_decimals(low, high, 1)
    value = formatting.format_number(100 * figure.value, places)
    sign = "+" if figure.value > 0 and value.strip("0.,") else ""
    return f"{sign}{value}", formatting.format_interval(low, high, places)


def format_hover(cell: MatrixCell, measure: str) -> str:
    """Format the tooltip, which screen readers read too."""
    value, interval = format_cell(cell)
    run, change = cell["run"], cell["change"]
    unit = "% of the base model's loss" if measure == "relative" else " points of exact match"
    between = formatting.format_interval(change.low, change.high, 3)
    loss = f"loss {formatting.format_number(change.value, 3)} nats a token ({between})"
    shares = (cell["base"]["right"].value, cell["tuned"]["right"].value)
    right = " → ".join(f"{100 * share:.0f}%" for share in shares)
    p = cell["p_holm"]
    sure = "significant" if cell["sure"] else "not significant"
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    lines = [
        f"#{run.number} {run.name} (trained on {cell['source']}) on {cell['target']}",
        f"{value}{unit}, 95% CI {interval}, n {plural(cell['n'], 'row')}",
        f"{sure}: {chance} after Holm",
        f"{loss}; exact match {right}",
    ]
    seen = cell.get("left_out")
    if seen and (away := seen.get("trained", 0) + seen.get("asked", 0)):
        lines.append(f"{plural(away, 'row')} excluded: seen in training or same question")
    if cut := cell.get("cut"):
        lines.append(f"{plural(cut, 'row')} truncated: too long")
    return "\n".join(lines)


def _compute_color(cell: MatrixCell, of: TransferMatrix) -> str:
    """Return a colour centred on 0, relative to the largest effect on unseen data."""
    value = cell["figure"].value
    sizes = [abs(other["figure"].value) for other in of.off if other["sure"]]
    most = max(sizes, default=abs(value)) or 1.0
    alpha = MAX_OPACITY * min(1.0, 0.18 + 0.82 * abs(value) / most)
    red, green, blue = HELPS if value > 0 else COSTS
    return f"rgba({red},{green},{blue},{alpha:.2f})"


def render_pair_table(names: Mapping[str, str], pairs: Mapping[frozenset[str], Similarity], what: str) -> str:
    """Render a small symmetric matrix of {value, low, high, n} by pairs of keys of `names`, without
    diagonal.
    """
    keys = list(names)
    head = "".join(f"<th scope='col'>{shorten_name(names[key], 28)}</th>" for key in keys[1:])
    rows = []
    for place, first in enumerate(keys[:-1]):
        cells = ["<td></td>"] * place
        cells += [_format_likeness(pairs.get(frozenset((first, second)))) for second in keys[place + 1 :]]
        rows.append(f"<tr><th scope='row'>{shorten_name(names[first], 28)}</th>{''.join(cells)}</tr>")
    return (
        f"{STYLE}<div class='tb-matrix' role='region' tabindex='0' aria-label='{html.escape(what)}'><table>"
        f"<thead><tr><td style='border:0'></td>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _format_likeness(likeness: Similarity | None) -> str:
    if likeness is None or likeness["value"] is None:
        return "<td>–</td>"
    between = (
        ""
        if likeness["low"] is None
        else f"{formatting.format_interval(likeness['low'], likeness['high'], 2)}, "
    )
    note = f"{between}n {likeness['n']:,}"
    return f"<td><b>{formatting.format_number(likeness['value'], 2)}</b><small>{note}</small></td>"
