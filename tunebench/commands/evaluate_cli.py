"""`tunebench evaluate` and `tunebench evaluations`: any model on any rows, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.diagnostics.comparison import evaluation_words, score_table
from store.config.evaluate_config import EvaluateConfig
from store.contract.errors import ConfigError
from store.http.client import Client
from store.queries import jobs
from store.queries.evaluations import evaluation_pairs, evaluations
from tunebench.commands import evaluate_conditions as conditions
from tunebench.commands.evaluate_conditions import Bound
from tunebench.terminal.connection import Json, Wait, connect
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import (
    CONDITION,
    errors,
    out,
    plural,
    print_json,
    print_rows,
    require_finished,
    say,
    watch,
)

Document = dict[str, Any]
FailUnder = Annotated[
    list[str] | None, typer.Option(help="METRIC=VALUE: exit 7 where it is worse than that; may be repeated")
]
FailIfWorse = Annotated[
    str | None, typer.Option(help="An evaluation: exit 7 where a metric is surely worse, paired by row")
]
WIDTH = 60  # characters of a text in a table


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(evaluate)
    cli.command("evaluations")(evaluations_)


def evaluate(
    file: Annotated[Path | None, typer.Argument(help="An evaluation as YAML, - for standard input")] = None,
    run: Annotated[str | None, typer.Option(help="Id or name of a run; or else a model")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="tuned, best, newest or base")] = None,
    model: Annotated[str | None, typer.Option(help="A model by name, folder or hub id")] = None,
    dataset: Annotated[str | None, typer.Option(help="The run's own where left out")] = None,
    part: Annotated[str | None, typer.Option(help="train, validation, test or all")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="May be repeated; the task's otherwise")] = None,
    max_rows: Annotated[int | None, typer.Option(help="Rows at most; 0 takes all")] = None,
    rows_of: Annotated[str | None, typer.Option(help="An evaluation: its very rows, to compare with")] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 or float32; a run's own otherwise")] = None,
    choice_examples: Annotated[
        int | None, typer.Option(help="Of multiple choice: answered training rows before each question")
    ] = None,
    probes: Annotated[bool | None, typer.Option("--probes", help="General questions and prose too")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Of lm-evaluation-harness; may be repeated")] = None,
    name: Annotated[str | None, typer.Option(help="Made up where left out")] = None,
    fail_under: FailUnder = None,
    fail_if_worse_than: FailIfWorse = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Evaluate a model or a run on a data set; what is given as an option goes before the file."""
    given: Document = {
        **{"run": run, "checkpoint": checkpoint, "model": model, "dataset": dataset, "part": part},
        **{"metrics": metric, "probes": probes, "name": name, "max_rows": max_rows, "tasks": task},
        **{"rows_of": rows_of, "dtype": dtype, "choice_examples": choice_examples},
    }
    with errors(json):
        document = read_document(file) | {field: value for field, value in given.items() if value is not None}
        if document.get("max_rows") == 0:
            document["max_rows"] = None
        config = EvaluateConfig.parse(document)
        bounds = [Bound.parse(text) for text in fail_under or ()]
        if not wait and (bounds or fail_if_worse_than):
            raise ConfigError("There is nothing to hold yet.", fix="Leave --no-wait out.", field="wait")
        client = connect(start=True)
        other = evaluations.get(client, fail_if_worse_than) if fail_if_worse_than else None
        job_id = client.command("evaluate", config.document())["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else say(f"Queued as {job_id}.")
            return
        job = watch(lambda: jobs.get_job(client, job_id), "Evaluating")
        require_finished(job, "The evaluation was")
        found = evaluations.get(client, job_id)
        _finish(client, found, bounds, other, json)


def evaluations_(
    evaluation: Annotated[str | None, typer.Argument(help="Id or name; all are listed without")] = None,
    run: Annotated[str | None, typer.Option(help="Only those of this run, by its id")] = None,
    against: Annotated[str | None, typer.Option(help="Another evaluation: paired differences")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Show so many rows, the worst first")] = 0,
    metric: Annotated[str | None, typer.Option(help="By which rows are ordered; the first otherwise")] = None,
    fail_under: FailUnder = None,
    fail_if_worse_than: FailIfWorse = None,
    json: Json = False,
) -> None:
    """List evaluations, or show one: figures with intervals, its worst rows, what differs from another."""
    with errors(json):
        bounds = [Bound.parse(text) for text in fail_under or ()]
        client = connect()
        if evaluation is None and (bounds or fail_if_worse_than):
            raise ConfigError("No evaluation is named.", fix="Name the one to hold.", field="evaluation")
        if evaluation is None:
            _list(evaluations.list_evaluations(client, run_id=run), json)
            return
        found: Document = evaluations.get(client, evaluation)
        if against is not None:
            compared = _compared(client, found, evaluations.get(client, against))
            found |= {"differences": compared.pop("differences"), "comparison": compared}
        if rows:
            found["rows"] = _worst(client, found, metric, rows)
        other = evaluations.get(client, fail_if_worse_than) if fail_if_worse_than else None
        _finish(client, found, bounds, other, json)


def _finish(
    client: Client, found: Document, bounds: list[Bound], other: Document | None, as_json: bool
) -> None:
    """Print the evaluation; exit with CONDITION where it doesn't hold what was asked of it."""
    asked = [conditions.bounded(found["figures"], bound) for bound in bounds]
    if other is not None:
        compared = _compared(client, found, other)
        asked.append(conditions.not_worse(compared["differences"], other["name"]))
        if "differences" not in found:
            found |= {"differences": compared.pop("differences"), "comparison": compared}
    if asked:
        found["conditions"] = [each.document() for each in asked]
    print_json(found) if as_json else _print(found)
    for each in asked:
        say(f"{'Holds' if each.holds else 'FAILS'}: {each.name}. {each.sentence}")
    if not all(each.holds for each in asked):
        raise SystemExit(CONDITION)


def _list(found: list[Document], as_json: bool) -> None:
    if as_json:
        print_json({"evaluations": found})
        return
    columns = ["name", "data set", "part", "n", "first figure", "id"]
    lines = [
        [row["name"], row["dataset_name"], row["part"], row["n"], _headline(row), row["evaluation_id"]]
        for row in found
    ]
    print_rows(columns, lines, plural(len(found), "evaluation"))


def _headline(row: Document) -> str:
    first = next((figure for figure in row["figures"] if figure["value"] is not None), None)
    return f"{_short(first['metric'])} {_interval(first)}" if first else "–"


def _short(metric: str) -> str:
    return metric.removeprefix("eval/")


def _interval(figure: Document) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.4g}"
    return f"{figure['value']:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def _worst(client: Client, found: Document, metric: str | None, limit: int) -> list[Document]:
    named = f"eval/{_short(metric)}" if metric else found["figures"][0]["metric"]
    figure = next((f for f in found["figures"] if f["metric"] == named), None)
    if figure is None:
        known = ", ".join(_short(f["metric"]) for f in found["figures"])
        raise ConfigError(f"It has no metric {metric!r}; it has {known}.", field="metric")
    better = figure["better"]
    return evaluations.page(client, found["evaluation_id"], named, better=better, limit=limit)[1]


def _compared(client: Client, first: Document, second: Document) -> Document:
    """`first` minus `second` in every metric that both have, paired by row, and what must be known of it.
    Raises ConfigError for rows of other data."""
    pair = evaluation_pairs.pair(client, first, second)
    sides = [(scores, one["figures"]) for scores, one in zip(pair.scores, (first, second), strict=True)]
    compared = score_table.differences(sides[0], sides[1], pair.groups)
    notices = [*evaluation_words.asked_unlike(evaluation_pairs.unlike(pair))]
    asked = None
    if not pair.same_rows:
        asked = evaluation_pairs.command(evaluation_pairs.again_on_the_same_rows(pair))
        notices.insert(0, evaluation_words.rows_apart(first["n"], second["n"], pair.common))
    return {
        "against": {"name": second["name"], "evaluation_id": second["evaluation_id"], "n": second["n"]},
        "common": pair.common,
        "confidence": compared.confidence,
        "level": compared.level,
        "sentence": compared.sentence,
        "notices": notices,
        "same_rows": asked,
        "differences": [
            {**gap, "first_is": score_table.comparison_word(gap, gap["better"])} for gap in compared.metrics
        ],
    }


def _print(found: Document) -> None:
    where = f"{found['dataset_name']}, {found['part']} rows, n {found['n']:,}"
    out.print(f"{found['name']}  {where}  {found['evaluation_id']}", markup=False, soft_wrap=True)
    lines = [
        [_short(f["metric"]), _interval(f), f["n"], f["unit"], f["unscored"]["count"] or "", _why(f)]
        for f in found["figures"]
    ]
    confidence = found["config"]["confidence"]
    print_rows(["metric", f"value ({confidence:.0%} interval)", "n", "unit", "unscored", "why"], lines)
    for probe in found["details"]["probes"]:
        figures = ", ".join(f"{k} {_interval(probe[k])}" for k in ("loss", "accuracy") if k in probe)
        out.print(f"{probe['probe']}: {figures}, n {probe['n']:,}", markup=False)
    for notice in found["details"]["notices"]:
        say(notice)
    if found.get("differences") is not None:
        _print_comparison(found["differences"], found["comparison"])
    if found.get("rows"):
        columns = ["row", "prompt", "reference", "answer"]
        print_rows(columns, [_row(row) for row in found["rows"]])


def _print_comparison(differences: list[Document], comparison: Document) -> None:
    """The differences, then at which level and of which rows they are."""
    columns = ["this one minus the other", "value (interval)", "n", "could see", "this one is"]
    print_rows(columns, [_difference(one) for one in differences])
    out.print(
        f"Against {comparison['against']['name']}, paired by row. {comparison['sentence']}",
        markup=False,
        soft_wrap=True,
    )
    for notice in comparison["notices"]:
        out.print(notice, markup=False, soft_wrap=True)
    if comparison["same_rows"]:
        out.print(f"To compare on the same rows: {comparison['same_rows']}", markup=False, soft_wrap=True)


def _why(figure: Document) -> str:
    return figure["failed"] or "; ".join(f"{why}: {n}" for why, n in figure["unscored"]["reasons"].items())


def _difference(one: Document) -> list[Any]:
    seen = "" if one["detectable"] is None else f"{one['detectable']:.3g}"
    return [_short(one["metric"]), _interval(one), one["n"], seen, one["first_is"]]


def _row(row: Document) -> list[Any]:
    texts = (row["prompt"], row["reference"], row["prediction"])
    return [row["row_id"], *("–" if text is None else " ".join(text.split())[:WIDTH] for text in texts)]
