"""`tunebench evaluate`, `evaluations` and `judge`: evaluate any model on any rows, and compare responses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from engine.evaluation.comparison import evaluation_text, row_scores
from store.core.documents import parse_document
from store.core.errors import ConfigError
from store.core.figure_schemas import Difference, Estimate, Figure
from store.core.formatting import plural
from store.core.metric_options import JudgePairs
from store.data.cleaning_text import describe_selected_rows
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluatedRow, Evaluation, JudgingResult
from store.http.client import Client
from store.jobs import job_queue
from tunebench.commands import evaluation_conditions as conditions
from tunebench.commands.evaluation_conditions import Bound, ConditionReport, InterpretedDifference
from tunebench.terminal.connection import Json, Wait, connect, read_document
from tunebench.terminal.options import Options, add_options
from tunebench.terminal.output import (
    CONDITION,
    out,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)

FailUnder = Annotated[
    list[str] | None,
    typer.Option(help="METRIC=VALUE: exit with code 7 if the metric is worse; may be repeated"),
]
FailIfWorse = Annotated[
    str | None,
    typer.Option(
        help="Baseline evaluation: exit with code 7 if a metric is significantly worse (paired by row)"
    ),
]
WIDTH = 60  # characters shown of a text in a table


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(evaluate)
    cli.command("evaluations")(evaluations_)


@add_options(
    "given",
    EvaluateConfig,
    *("run", "checkpoint", "model", "dataset", "part", "max_rows", "rows_of", "dtype", "choice_examples"),
    *("probes", "name"),
    metric="metrics",
    task="tasks",
)
def evaluate(
    given: Options,
    file: Annotated[
        Path | None, typer.Argument(help="Evaluation config as YAML, or - for standard input")
    ] = None,
    fail_under: FailUnder = None,
    fail_if_worse_than: FailIfWorse = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Evaluate a model or a run on a data set. Options take precedence over the file."""
    with report_errors(json):
        document = read_document(file) | given
        if document.get("max_rows") == 0:  # same in the file as in the option
            document["max_rows"] = None
        config = EvaluateConfig.parse(document)
        bounds = [Bound.parse(text) for text in fail_under or ()]
        if not wait and (bounds or fail_if_worse_than):
            raise ConfigError(
                "Conditions can't be checked without waiting.", fix="Omit --no-wait.", field="wait"
            )
        client = connect(start=True)
        other = evaluations.get(client, fail_if_worse_than) if fail_if_worse_than else None
        job_id = client.command("evaluate", config.document())["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        job = watch_job(lambda: job_queue.get_job(client, job_id), "Evaluating")
        require_finished(job, "The evaluation was")
        report = EvaluationReport(**vars(evaluations.get(client, job_id)))
        _print_result(client, report, bounds, other, json)


def evaluations_(
    evaluation: Annotated[str | None, typer.Argument(help="Evaluation id or name; default: list all")] = None,
    run: Annotated[str | None, typer.Option(help="Run id filter")] = None,
    against: Annotated[
        str | None, typer.Option(help="Other evaluation to compare with, paired by row")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Number of rows to show, worst first")] = 0,
    metric: Annotated[str | None, typer.Option(help="Metric to sort rows by; default: the first")] = None,
    fail_under: FailUnder = None,
    fail_if_worse_than: FailIfWorse = None,
    json: Json = False,
) -> None:
    """List evaluations, or show one: metrics with CIs, worst rows, and differences from another."""
    with report_errors(json):
        bounds = [Bound.parse(text) for text in fail_under or ()]
        client = connect()
        if evaluation is None and (bounds or fail_if_worse_than):
            raise ConfigError("No evaluation given.", fix="Give the evaluation to check.", field="evaluation")
        if evaluation is None:
            _print_list(evaluations.list_evaluations(client, run_id=run), json)
            return
        report = EvaluationReport(**vars(evaluations.get(client, evaluation)))
        if against is not None:
            other = evaluations.get(client, against)
            report.differences, report.comparison = compare_evaluations(client, report, other)
        if rows:
            report.rows = _list_worst_rows(client, report, metric, rows)
        baseline = evaluations.get(client, fail_if_worse_than) if fail_if_worse_than else None
        _print_result(client, report, bounds, baseline, json)


class ComparedEvaluation(TypedDict):
    """The other evaluation of a comparison."""

    name: str
    evaluation_id: str
    n: int


class PairedComparison(TypedDict):
    """Comparison of an evaluation with another, paired by row."""

    against: ComparedEvaluation
    common: int  # number of common rows
    confidence: float
    level: float
    sentence: str
    notices: list[str]
    same_rows: str | None  # command to evaluate one on the rows of the other


@dataclass(kw_only=True)
class EvaluationReport(Evaluation):
    """An evaluation with the requested parts."""

    differences: list[InterpretedDifference] | None = None
    comparison: PairedComparison | None = None
    rows: list[EvaluatedRow] | None = None
    conditions: list[ConditionReport] | None = None


def _print_result(
    client: Client, report: EvaluationReport, bounds: list[Bound], other: Evaluation | None, as_json: bool
) -> None:
    """Print the evaluation; exit with CONDITION if it doesn't meet the conditions."""
    asked = [conditions.check_bound(report.figures, bound) for bound in bounds]
    if other is not None:
        differences, comparison = compare_evaluations(client, report, other)
        asked.append(conditions.check_not_worse(differences, other.name))
        if report.differences is None:
            report.differences, report.comparison = differences, comparison
    if asked:
        report.conditions = [condition.document() for condition in asked]
    if as_json:  # parts that were not requested are left out
        own = {field.name for field in dataclasses.fields(Evaluation)}
        print_json({name: part for name, part in vars(report).items() if name in own or part is not None})
    else:
        _print_report(report)
    for condition in asked:
        print_notice(f"{'PASSED' if condition.holds else 'FAILED'}: {condition.name}. {condition.sentence}")
    if not all(condition.holds for condition in asked):
        raise SystemExit(CONDITION)


def _print_list(listed: list[Evaluation], as_json: bool) -> None:
    if as_json:
        print_json({"evaluations": listed})
        return
    columns = ["name", "data set", "part", "n", "first metric", "id"]
    lines = [
        [
            row.name,
            row.dataset_name,
            f"{row.part}, filtered" if row.config.get("where") else row.part,
            row.n,
            _format_headline(row),
            row.evaluation_id,
        ]
        for row in listed
    ]
    print_rows(columns, lines, plural(len(listed), "evaluation"))


def _format_headline(row: Evaluation) -> str:
    first = next((figure for figure in row.figures if figure.value is not None), None)
    return f"{_shorten_metric(first.metric)} {_format_interval(first)}" if first else "–"


def _shorten_metric(metric: str) -> str:
    return metric.removeprefix("eval/")


def _format_interval(figure: Figure | Difference | Estimate) -> str:
    if figure.value is None:
        return "–"
    if figure.low is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"


def find_figure(evaluation: Evaluation, metric: str | None) -> Figure:
    """Return that metric's figure, by default the first. Raises ConfigError with the available metrics."""
    named = f"eval/{_shorten_metric(metric)}" if metric else evaluation.figures[0].metric
    figure = next((f for f in evaluation.figures if f.metric == named), None)
    if figure is None:
        names = ", ".join(_shorten_metric(f.metric) for f in evaluation.figures)
        raise ConfigError(f"No metric {metric!r}; available: {names}.", field="metric")
    return figure


def _list_worst_rows(
    client: Client, evaluation: Evaluation, metric: str | None, limit: int
) -> list[EvaluatedRow]:
    figure = find_figure(evaluation, metric)
    name, better = figure.metric, figure.better
    return evaluations.page(client, evaluation.evaluation_id, name, better=better, limit=limit)[1]


def compare_evaluations(
    client: Client, first: Evaluation, second: Evaluation
) -> tuple[list[InterpretedDifference], PairedComparison]:
    """Return `first` minus `second` in every common metric, paired by row, with notices.

    Raises: ConfigError if they are of different data sets.
    """
    pair = evaluation_pairs.pair(client, first, second)
    sides = [(scores, side.figures) for scores, side in zip(pair.scores, (first, second), strict=True)]
    between = row_scores.compute_score_differences(sides[0], sides[1], pair.groups)
    notices = [
        *evaluation_text.describe_different_prompting(evaluation_pairs.describe_setting_differences(pair))
    ]
    asked = None
    if not pair.same_rows:
        asked = evaluation_pairs.format_command(evaluation_pairs.build_same_rows_config(pair))
        notices.insert(0, evaluation_text.describe_different_rows(first.n, second.n, pair.common))
    differences = [
        InterpretedDifference(**vars(gap), first_is=row_scores.describe_difference(gap, gap.better))
        for gap in between.metrics
    ]
    return differences, {
        "against": {"name": second.name, "evaluation_id": second.evaluation_id, "n": second.n},
        "common": pair.common,
        "confidence": between.confidence,
        "level": between.level,
        "sentence": between.sentence,
        "notices": notices,
        "same_rows": asked,
    }


def _print_report(report: EvaluationReport) -> None:
    meant = describe_selected_rows(report.part, report.config.get("where"))
    where = f"{report.dataset_name}, {meant}, n {report.n:,}"
    out.print(f"{report.name}  {where}  {report.evaluation_id}", markup=False, soft_wrap=True)
    lines = [
        [
            _shorten_metric(f.metric),
            _format_interval(f),
            f.n,
            f.unit,
            f.unscored.count or "",
            f.failed or "; ".join(f"{why}: {n}" for why, n in f.unscored.reasons.items()),
        ]
        for f in report.figures
    ]
    confidence = report.config["confidence"]
    print_rows(["metric", f"value ({confidence:.0%} CI)", "n", "unit", "unscored", "why"], lines)
    for probe in report.details.probes:
        figures = f"loss {_format_interval(probe.loss)}"
        figures += f", accuracy {_format_interval(probe.accuracy)}" if probe.accuracy is not None else ""
        out.print(f"{probe.probe}: {figures}, n {probe.n:,}", markup=False)
    for notice in report.details.notices:
        print_notice(notice)
    if report.differences is not None and report.comparison is not None:
        _print_comparison(report.differences, report.comparison)
    if rows := report.rows:
        columns = ["row", "prompt", "reference", "answer"]
        print_rows(columns, [_build_row(row) for row in rows])


def _print_comparison(differences: list[InterpretedDifference], comparison: PairedComparison) -> None:
    """Print the differences, then their confidence level and rows."""
    columns = ["difference (this − other)", "value (CI)", "n", "detectable", "result"]
    print_rows(columns, [_build_difference_row(change) for change in differences])
    out.print(
        f"Compared with {comparison['against']['name']}, paired by row. {comparison['sentence']}",
        markup=False,
        soft_wrap=True,
    )
    for notice in comparison["notices"]:
        out.print(notice, markup=False, soft_wrap=True)
    if comparison["same_rows"]:
        out.print(f"To compare on the same rows: {comparison['same_rows']}", markup=False, soft_wrap=True)


def _build_difference_row(change: InterpretedDifference) -> list[object]:
    seen = "" if change.detectable is None else f"{change.detectable:.3g}"
    return [
        _shorten_metric(change.metric),
        _format_interval(change),
        change.n,
        seen,
        change.first_is,
    ]


def _build_row(row: EvaluatedRow) -> list[object]:
    texts = (row.prompt, row.reference, row.prediction)
    return [row.row_id, *("–" if text is None else " ".join(text.split())[:WIDTH] for text in texts)]


def register_judge(cli: typer.Typer) -> None:
    """Add the command to `tunebench`."""
    cli.command()(judge)


def judge(
    first: Annotated[str, typer.Argument(help="Evaluation id or name")],
    second: Annotated[str, typer.Argument(help="Other evaluation on the same rows")],
    file: Annotated[
        Path, typer.Argument(help="Judge config as YAML (base_url, model, …), or - for standard input")
    ],
    max_rows: Annotated[int, typer.Option(min=0, help="Maximum pairs; 0: all")] = 200,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Compare the responses of two evaluations with an LLM judge, each pair in both orders."""
    with report_errors(json):
        body = {"first": first, "second": second, "judge": read_document(file), "max_rows": max_rows or None}
        client = connect(start=True)
        asked = JudgePairs.parse(body).model_dump(exclude_none=True) | {"max_rows": max_rows or None}
        job_id = client.command("judge", asked)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        job = watch_job(lambda: job_queue.get_job(client, job_id), "Judging")
        require_finished(job, "The judging was")
        result = parse_document(JudgingResult, job.result)  # type of this kind's result
        if json:
            print_json(result)
            return
        sides = evaluation_text.ComparisonSides("the first", "the second")
        out.print(f"{evaluation_text.format_judging_headline(result, sides)}.", markup=False)
        for sentence in evaluation_text.describe_judging(result, sides):
            out.print(sentence, markup=False)
