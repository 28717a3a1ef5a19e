"""`tunebench judge`: which of two evaluations' answers a language model prefers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from engine.diagnostics.comparison import judge_figures
from store.config.measuring.judge_config import JudgePairs
from store.documents.evaluations.judging_result import JudgingResult
from store.queries import jobs
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import errors, out, print_json, require_finished, say, watch


def register(cli: typer.Typer) -> None:
    """Add the command to `tunebench`."""
    cli.command()(judge)


def judge(
    first: Annotated[str, typer.Argument(help="An evaluation, by id or name")],
    second: Annotated[str, typer.Argument(help="Another one, of the same rows")],
    file: Annotated[Path, typer.Argument(help="The judge as YAML (base_url, model, …), or -")],
    max_rows: Annotated[int, typer.Option(min=0, help="Pairs at most; 0 takes all")] = 200,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Ask a language model which of two evaluations' answers are better, each pair in both orders."""
    with errors(json):
        body = {"first": first, "second": second, "judge": read_document(file), "max_rows": max_rows or None}
        client = connect(start=True)
        asked = JudgePairs.parse(body).model_dump(exclude_none=True) | {"max_rows": max_rows or None}
        job_id = client.command("judge", asked)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else say(f"Queued as {job_id}.")
            return
        job = watch(lambda: jobs.get_job(client, job_id), "Asking the judge")
        require_finished(job, "The judging was")
        result = cast(JudgingResult, job["result"])  # its kind's
        print_json(result) if json else _print(result)


def _print(judged: JudgingResult) -> None:
    sides = judge_figures.Sides("the first", "the second")
    out.print(f"{judge_figures.headline(judged, sides)}.", markup=False)
    for sentence in judge_figures.sentences(judged, sides):
        out.print(sentence, markup=False)
