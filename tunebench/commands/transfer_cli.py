"""`tunebench transfer`: every run on every data set beside the base model, as a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from engine.diagnostics.transfer import transfer as diagnosis
from engine.diagnostics.transfer import transfer_words as words
from engine.diagnostics.transfer.transfer import TransferMeasure
from store.config.transfer_config import TransferConfig
from store.contract.errors import ConfigError
from store.http.client import Client
from store.queries import jobs
from store.queries.data import datasets
from store.queries.runs import runs, transfers
from store.queries.runs.transfers import Found
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.output import errors, out, print_json, print_rows, require_finished, say, watch

Document = dict[str, Any]
PERCENT = 100
LEGEND = {
    "relative": "Base model: nats a token. Runs: relative gain, in per cent of the base model's loss.",
    "right": "Base model: answers exactly right, in per cent. Runs: the change of it, in points.",
}


def transfer(
    run: Annotated[list[str], typer.Argument(help="Ids or names of runs of one base model")],
    datasets_: Annotated[
        str, typer.Option("--datasets", help="Names or ids, with commas between; the runs' own otherwise")
    ] = "",
    part: Annotated[str, typer.Option(help="test or validation")] = "test",
    max_rows: Annotated[int, typer.Option(min=0, help="Rows of each at most; 0 takes all")] = 100,
    measure: Annotated[str, typer.Option(help="relative (loss, %) or right (answers, points)")] = "relative",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Measure what training on one data set does for the others; what is known is not measured again."""
    with errors(json):
        if measure not in LEGEND:
            raise ConfigError(f"measure is {measure!r}.", fix="It is relative or right.", field="measure")
        client = connect(start=True)
        found = [runs.get_run(client, name) for name in run]
        own = list(dict.fromkeys(one["dataset_id"] for one in found))
        named = [name.strip() for name in datasets_.split(",") if name.strip()] or own
        sets = [datasets.get_dataset(client, name) for name in named]
        config = TransferConfig.parse(
            {
                "runs": [one["run_id"] for one in found],
                "datasets": [one["dataset_id"] for one in sets],
                **{"part": part, "max_rows": max_rows or None},
            }
        )
        known = transfers.found(client, config.runs, sets, config.asked)
        if known.missing(config.runs, config.datasets) or known.failed():
            if not _measured(client, config, wait, json):
                return
            known = transfers.found(client, config.runs, sets, config.asked)
        document = matrix(known, found, sets, "right" if measure == "right" else "relative")
        print_json(document) if json else _print(document, found, sets, measure)


def _measured(client: Client, config: TransferConfig, wait: bool, as_json: bool) -> bool:
    """Queue what is missing; whether it has been waited for."""
    job_id = client.command("transfer", config.document())["job_id"]
    if not wait:
        print_json({"job_id": job_id}) if as_json else say(f"Queued as {job_id}.")
        return False
    require_finished(watch(lambda: jobs.get_job(client, job_id), "Measuring"), "The matrix was")
    return True


def matrix(known: Found, found: list[Document], sets: list[Document], measure: TransferMeasure) -> Document:
    """{lead, cells: judged ones with run, source, target, own, earlier and their figures; failed: [run,
    dataset, reason], distances, weights, sequences}."""
    cells: list[Any] = []
    failed = []
    for run in found:
        for one in sets:
            cell = known.cells.get((run["run_id"], one["dataset_id"]))
            if cell is None or cell["reason"]:
                why = cell["reason"] if cell else "It was not measured."
                failed.append({"run": run["name"], "dataset": one["name"], "reason": why})
                continue
            cells.append(cell | known.place(run, one, sets) | {"run": run["name"]})
    judged = diagnosis.judged(cells, measure)
    return {
        "lead": words.lead(judged, measure) if judged else "Nothing could be measured.",
        "measure": measure,
        "base": [known.cells[key] for key in known.cells if key[0] == transfers.BASE],
        "cells": judged,
        "failed": failed,
        "distances": list(known.distances.values()),
        "weights": list(known.weights.values()),
        "sequences": known.sequences,
    }


def _print(document: Document, found: list[Document], sets: list[Document], measure: str) -> None:
    out.print(document["lead"], markup=False, soft_wrap=True)
    placed = {(cell["run_id"], cell["dataset_id"]): cell for cell in document["cells"]}
    base = {cell["dataset_id"]: cell for cell in document["base"]}
    lines = [["base model", "", *(_level(base.get(one["dataset_id"]), measure) for one in sets)]]
    for run in found:
        cells = [placed.get((run["run_id"], one["dataset_id"])) for one in sets]
        lines.append([run["name"], run["dataset_name"], *(_cell(cell, measure) for cell in cells)])
    print_rows(["run", "trained on", *(one["name"] for one in sets)], lines)
    say(LEGEND[measure])
    say("With 95% interval over rows, and n. Stars: told from noise after Holm (* 5%, ** 1%, *** 0.1%).")
    say("In brackets: the run's own data set; in round ones: that of a run which it went on from.")
    for one in document["failed"]:
        say(f"{one['run']} on {one['dataset']}: {one['reason']}")
    for chain in document["sequences"]:
        if chain["transfer"]:
            say(words.backward(chain["transfer"]))


def _level(cell: Document | None, measure: str) -> str:
    if not cell or cell["reason"]:
        return "–"
    figure = cell["base"]["loss" if measure == "relative" else "right"]
    scale = 1 if measure == "relative" else PERCENT
    ends = "" if figure["low"] is None else f" ({scale * figure['low']:.3g} to {scale * figure['high']:.3g})"
    return f"{scale * figure['value']:.3g}{ends}, n {cell['n']:,}"


def _cell(cell: Document | None, measure: str) -> str:
    if cell is None:
        return "–"
    figure = cell["figure"]
    ends = [None if figure[end] is None else PERCENT * figure[end] for end in ("low", "high")]
    shown = "no interval" if None in ends else f"{ends[0]:+.1f} to {ends[1]:+.1f}"
    text = f"{PERCENT * figure['value']:+.1f}{cell['stars']} ({shown}), n {figure['n']:,}"
    return f"[{text}]" if cell["own"] else f"({text})" if cell["earlier"] else text
