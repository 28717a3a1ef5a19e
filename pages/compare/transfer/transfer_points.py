"""Which runs and data sets are in the matrix of transfer, and what of it can be drawn beside a predictor.
Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np

from engine.diagnostics import phrasing
from engine.diagnostics.transfer import transfer as diagnosis
from engine.diagnostics.transfer.transfer import Correlation, JudgedCell, TransferMeasure
from pages.shared import wording
from store.documents.runs.transfer import TransferFigure
from store.documents.tables.dataset import Dataset
from store.documents.tables.run import Run
from store.queries.runs.transfers import MeasuredTransfer

START_RUNS = 6  # that the matrix begins with
START_SETS = 4


class DrawnCell(JudgedCell):
    """A run on a data set, measured, judged together with the other cells, and what it is."""

    run: Run


# Of a pair of run and data set: rows by what was done with them. Its keys are the heads of a table.
LeftOutLine = TypedDict(
    "LeftOutLine",
    {
        "Run": str,
        "Data set": str,
        "Trained on, left out": int,
        "Same question, left out": int,
        "Near duplicates, kept": int,
        "Rows judged": int,
    },
)


@dataclass(frozen=True)
class JudgedMatrix:
    """Rows are runs, columns data sets. `cells`: judged ones by (run_id, dataset_id); `reasons`: of those
    that could not be measured."""

    runs: Sequence[Run]
    sets: Sequence[Dataset]
    measured: MeasuredTransfer
    cells: Mapping[tuple[str, str], DrawnCell]
    reasons: Mapping[tuple[str, str], str]
    measure: TransferMeasure

    @property
    def off(self) -> list[DrawnCell]:
        """The cells of data that the run was never trained on, nor a run that it went on from."""
        return [cell for cell in self.cells.values() if not (cell["own"] or cell["earlier"])]


@dataclass(frozen=True)
class PredictorPair:
    """A predictor against what was measured. figure: of the cell."""

    x: float
    figure: TransferFigure
    sure: bool
    label: str
    number: int


def matrix(
    runs: Sequence[Run], sets: Sequence[Dataset], measured: MeasuredTransfer, measure: TransferMeasure
) -> JudgedMatrix:
    """The cells of these runs and data sets, judged together."""
    cells: list[Any] = []
    reasons = {}
    for run in runs:
        for dataset in sets:
            key = run["run_id"], dataset["dataset_id"]
            cell = measured.cells.get(key)
            if cell and cell["reason"]:
                reasons[key] = cell["reason"]
            elif cell:
                cells.append(cell | measured.place(run, dataset, sets) | {"run": run})
    judged = cast("list[DrawnCell]", diagnosis.judged(cells, measure))  # which keeps what cells hold
    placed = {(cell["run_id"], cell["dataset_id"]): cell for cell in judged}
    return JudgedMatrix(runs, sets, measured, placed, reasons, measure)


def start_runs(runs: Sequence[Run]) -> list[str]:
    """The newest run of each data set (runs come newest first)."""
    newest: dict[str, str] = {}
    for run in runs:
        if not run["config"].get("init_from") and run["config"].get("task") != "classification":
            newest.setdefault(run["dataset_id"], run["run_id"])
    return list(newest.values())[:START_RUNS] or [run["run_id"] for run in runs[:1]]


def start_sets(runs: Sequence[Run], sets: Sequence[Dataset]) -> list[str]:
    """The data sets of the runs, and others where that is only one."""
    own = [
        dataset["dataset_id"]
        for dataset in sets
        if dataset["dataset_id"] in {run["dataset_id"] for run in runs}
    ]
    others = [dataset["dataset_id"] for dataset in sets if dataset["dataset_id"] not in own]
    return own if len(own) > 1 else [*own, *others][:START_SETS]


def in_order(sets: Sequence[Dataset], runs: Sequence[Run]) -> list[Dataset]:
    """The data sets in the order of the runs that were trained on them, so that own data lies on a
    diagonal."""
    trained = list(dict.fromkeys(run["data_fingerprint"] for run in runs))
    places = {fingerprint: place for place, fingerprint in enumerate(trained)}
    return sorted(sets, key=lambda held: (places.get(held["fingerprint"], len(places)), held["name"]))


def by_data(of: JudgedMatrix) -> list[PredictorPair]:
    """Distance between what a run was trained on and the data set of the cell."""
    prints = {dataset["dataset_id"]: dataset["fingerprint"] for dataset in of.sets}
    pairs = []
    for cell in of.off:
        both = frozenset((cell["run"]["data_fingerprint"] or "", prints[cell["dataset_id"]]))
        distance = of.measured.distances.get(both)
        if distance and distance["value"] is not None:
            pairs.append(_pair(distance["value"], cell))
    return pairs


def by_weights(of: JudgedMatrix) -> list[PredictorPair]:
    """How alike the run moved the weights to the runs that were trained on the data set of the cell."""
    pairs = []
    for cell in of.off:
        trained = [run["run_id"] for run in of.runs if run["dataset_id"] == cell["dataset_id"]]
        cosines = [of.measured.weights.get(frozenset((cell["run_id"], other))) for other in trained]
        values = [cosine["value"] for cosine in cosines if cosine and cosine["value"] is not None]
        if values:
            pairs.append(_pair(float(np.mean(values)), cell))
    return pairs


def _pair(x: float, cell: DrawnCell) -> PredictorPair:
    run = cell["run"]
    label = f"#{run['number']} {run['name']} on {cell['target']}"
    return PredictorPair(x, cell["figure"], cell["sure"], label, run["number"])


def correlation(pairs: Sequence[PredictorPair]) -> Correlation:
    """Spearman's, with its interval and n."""
    return diagnosis.spearman([pair.x for pair in pairs], [pair.figure["value"] for pair in pairs])


def line(cell: DrawnCell, measure: TransferMeasure) -> dict[str, str | float]:
    """A cell as a line of the list."""
    low, high = wording.ends(cell["figure"], 100)
    change, run = cell["change"], cell["run"]
    unit = "%" if measure == "relative" else "points"
    return {
        "Run": f"#{run['number']} {run['name']}",
        "Trained on": cell["source"],
        "Measured on": cell["target"],
        f"Gain ({unit}) ↑": round(100 * cell["figure"]["value"], 2),
        "95%": phrasing.interval(low, high),
        "n (rows)": cell["n"],
        "p after Holm": float(f"{cell['p_holm']:.2g}"),
        "Told from noise": "yes" if cell["sure"] else "no",
        "Loss (nats a token) ↓": round(change["value"], 4),
        "95% (loss)": phrasing.interval(change["low"], change["high"]),
        "Right before (%)": round(100 * cell["base"]["right"]["value"], 1),
        "Right after (%)": round(100 * cell["tuned"]["right"]["value"], 1),
        "Own data": "yes" if cell["own"] else "earlier" if cell["earlier"] else "no",
    }


def left_out(of: JudgedMatrix) -> list[LeftOutLine]:
    """Of each pair of run and data set with something to tell: rows not judged on, near duplicates that
    are."""
    names = {dataset["dataset_id"]: dataset["name"] for dataset in of.sets}
    lines: list[LeftOutLine] = []
    for run in of.runs:
        for key, cell in of.measured.cells.items():
            counts = cell.get("left_out") or {}
            if key[0] == run["run_id"] and key[1] in names and any(counts.values()):
                lines.append(
                    {
                        "Run": f"#{run['number']} {run['name']}",
                        "Data set": names[key[1]],
                        "Trained on, left out": counts["trained"],
                        "Same question, left out": counts["asked"],
                        "Near duplicates, kept": counts["near"],
                        "Rows judged": cell.get("n", 0),
                    }
                )
    return lines
