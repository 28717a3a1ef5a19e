"""`tunebench transfer`: every run on every data set compared with the base model, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict, cast

import typer

from engine.transfer import effects as diagnosis
from engine.transfer import text as words
from store.core.errors import ConfigError
from store.data import datasets
from store.data.schemas import Dataset
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import Run
from store.transfer import transfers
from store.transfer.config import TransferConfig
from store.transfer.schemas import (
    DatasetDistance,
    TransferCell,
    TransferFigure,
    TransferSequence,
    WeightSimilarity,
)
from store.transfer.transfers import CellRelation, MeasuredTransfer, measured_transfer
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.output import (
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

PERCENT = 100
LEGEND = {
    "relative": "Base model: nats a token. Runs: relative gain, in % of the base model's loss.",
    "right": "Base model: exact match, in %. Runs: change in exact match, in points.",
}


def transfer(
    run: Annotated[list[str], typer.Argument(help="Run ids or names, with one base model in common")],
    datasets_: Annotated[
        str, typer.Option("--datasets", help="Comma-separated data set names or ids; default: the runs' own")
    ] = "",
    part: Annotated[str, typer.Option(help="Split: test or validation")] = "test",
    max_rows: Annotated[int, typer.Option(min=0, help="Maximum rows per data set; 0: all")] = 100,
    measure: Annotated[
        str, typer.Option(help="relative (loss, %) or right (exact match, points)")
    ] = "relative",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Evaluate runs on each other's data sets (transfer). Known results are reused."""
    with report_errors(json):
        if measure not in LEGEND:
            raise ConfigError(f"Invalid measure {measure!r}.", fix="Use relative or right.", field="measure")
        client = connect(start=True)
        chosen = [runs.get_run(client, name) for name in run]
        own = list(dict.fromkeys(row.dataset_id for row in chosen))
        named = [name.strip() for name in datasets_.split(",") if name.strip()] or own
        sets = [datasets.get_dataset(client, name) for name in named]
        config = TransferConfig.parse(
            {
                "runs": [row.run_id for row in chosen],
                "datasets": [dataset.dataset_id for dataset in sets],
                **{"part": part, "max_rows": max_rows or None},
            }
        )
        measured = measured_transfer(client, config.runs, sets, config.asked)
        if measured.missing(config.runs, config.datasets) or measured.failed():
            if not _queue_missing_cells(client, config, wait, json):
                return
            measured = measured_transfer(client, config.runs, sets, config.asked)
        document = build_report(measured, chosen, sets, "right" if measure == "right" else "relative")
        print_json(document) if json else _print(document, chosen, sets, measure)


def _queue_missing_cells(client: Client, config: TransferConfig, wait: bool, as_json: bool) -> bool:
    """Queue the missing cells; return whether the job was waited for."""
    job_id = client.command("transfer", config.document())["job_id"]
    if not wait:
        print_json({"job_id": job_id}) if as_json else print_notice(f"Queued as {job_id}.")
        return False
    require_finished(watch_job(lambda: job_queue.get_job(client, job_id), "Evaluating"), "The matrix was")
    return True


class NamedCell(TransferCell, CellRelation):
    """A measured cell with the names of its run and data set."""

    run: str


class ReportedCell(NamedCell):
    """A cell with its significance, corrected for all others of the table."""

    figure: TransferFigure  # of the requested measure
    p_holm: float
    stars: str
    sure: bool


class FailedCell(TypedDict):
    """A cell without a result."""

    run: str
    dataset: str
    reason: str


class TransferReport(TypedDict):
    """Report of every run on every data set."""

    lead: str
    measure: str
    base: list[TransferCell]  # the base model on each data set
    cells: list[ReportedCell]
    failed: list[FailedCell]
    distances: list[DatasetDistance]
    weights: list[WeightSimilarity]
    sequences: list[TransferSequence]


def build_report(
    measured: MeasuredTransfer,
    chosen: Sequence[Run],
    sets: Sequence[Dataset],
    measure: diagnosis.TransferMeasure,
) -> TransferReport:
    """Build the cells of these runs on these data sets, tested together."""
    cells: list[NamedCell] = []
    failed: list[FailedCell] = []
    for run in chosen:
        for dataset in sets:
            cell = measured.cells.get((run.run_id, dataset.dataset_id))
            if cell is None or cell["reason"]:
                why = cell["reason"] if cell else "Not evaluated."
                failed.append({"run": run.name, "dataset": dataset.name, "reason": why})
                continue
            cells.append({**cell, **measured.place(run, dataset, sets), "run": run.name})
    documents = diagnosis.judge_cells(cells, measure)
    return {
        "lead": words.describe_matrix(documents, measure) if documents else "Nothing could be evaluated.",
        "measure": measure,
        "base": [cell for key, cell in measured.cells.items() if key[0] == transfers.BASE],
        "cells": cast(list[ReportedCell], documents),  # `judge_cells` adds these keys to the given cells
        "failed": failed,
        "distances": list(measured.distances.values()),
        "weights": list(measured.weights.values()),
        "sequences": measured.sequences,
    }


def _print(report: TransferReport, chosen: Sequence[Run], sets: Sequence[Dataset], measure: str) -> None:
    out.print(report["lead"], markup=False, soft_wrap=True)
    placed = {(cell["run_id"], cell["dataset_id"]): cell for cell in report["cells"]}
    base = {cell["dataset_id"]: cell for cell in report["base"]}
    lines = [["base model", "", *(_format_base_level(base.get(row.dataset_id), measure) for row in sets)]]
    for run in chosen:
        cells = [placed.get((run.run_id, dataset.dataset_id)) for dataset in sets]
        lines.append([run.name, run.dataset_name, *(_format_cell(cell) for cell in cells)])
    print_rows(["run", "trained on", *(dataset.name for dataset in sets)], lines)
    print_notice(LEGEND[measure])
    print_notice(
        "With 95% CI over rows, and n. Stars: significant after Holm correction (* 5%, ** 1%, *** 0.1%)."
    )
    print_notice(
        "Square brackets: the run's own data set; parentheses: the data set of a run that it continues."
    )
    for cell in report["failed"]:
        print_notice(f"{cell['run']} on {cell['dataset']}: {cell['reason']}")
    for chain in report["sequences"]:
        if chain.transfer:
            print_notice(words.describe_backward_transfer(chain.transfer))


def _format_base_level(cell: TransferCell | None, measure: str) -> str:
    if not cell or cell["reason"]:
        return "–"
    figure = cell["base"]["loss"] if measure == "relative" else cell["base"]["right"]
    scale = 1 if measure == "relative" else PERCENT
    low, high = figure.low, figure.high
    ends = "" if low is None or high is None else f" ({scale * low:.3g} to {scale * high:.3g})"
    return f"{scale * figure.value:.3g}{ends}, n {cell['n']:,}"


def _format_cell(cell: ReportedCell | None) -> str:
    if cell is None:
        return "–"
    figure = cell["figure"]
    low, high = figure.low, figure.high
    between = "no CI" if low is None or high is None else f"{PERCENT * low:+.1f} to {PERCENT * high:+.1f}"
    text = f"{PERCENT * figure.value:+.1f}{cell['stars']} ({between}), n {figure.n:,}"
    return f"[{text}]" if cell["own"] else f"({text})" if cell["earlier"] else text


def register(cli: typer.Typer) -> None:
    """Add the command to `tunebench`."""
    cli.command()(transfer)


FEATURE = TerminalFeature(register)
